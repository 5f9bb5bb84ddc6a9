"""Boolean masks of Arrow arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


def mask(array: pa.Array) -> Mask:
    """A boolean Arrow array as NumPy, null read as False."""
    filled = pc.fill_null(array, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def nulled(array: pa.Array, where: Mask) -> pa.Array:
    """`array` with nulls where the mask is true."""
    if not where.any():
        return array
    # Not if_else: with a null scalar it garbles sliced text (apache/arrow
    # issue 41479).
    return array.take(pa.array(np.arange(len(array)), mask=where))
