"""Open Inference Protocol v2: tensors of a request to columns.

https://github.com/kserve/open-inference-protocol
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from serving.columns import Array, to_column
from serving.errors import BadInputError, printable, shown
from serving.tf_serving import (
    DEFAULT_SIGNATURE,
    Aliases,
    Inputs,
    check_names,
    find_signature,
    renamed,
)

# Parameter of a request that names a signature; the protocol has no field.
SIGNATURE = "signature_name"
_DTYPES = {
    "BOOL": np.dtype(bool),
    "BYTES": np.dtype(object),
    **{f"INT{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"UINT{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
}
_SIZE = struct.Struct("<I").unpack_from
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}


class Tensor(NamedTuple):
    """An input as it was sent: a list of values, or their bytes."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[object] = ()
    raw: bytes | None = None


@dataclass(frozen=True)
class InferRequest:
    """A request of either transport.

    outputs: those asked for, each with whether it is wanted in bytes.
    binary: whether the others are.
    """

    id: str
    signature: object
    tensors: Sequence[Tensor]
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False

    def is_binary(self, output: str) -> bool:
        """True if an output is wanted in bytes."""
        return self.outputs.get(output, self.binary)


def describe(tensors: Inputs) -> list[dict[str, Any]]:
    """Metadata of a signature's inputs or outputs, one value a row."""
    return [
        {"name": name, "datatype": datatype_of(dtype), "shape": [-1]}
        for name, dtype in tensors.items()
    ]


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a dtype."""
    return _DATATYPES[np.dtype(dtype)]


def decode(
    request: InferRequest,
    signatures: Mapping[str, Inputs],
    aliases: Aliases,
    ignore_unknown: bool = False,
) -> tuple[str, dict[str, Array]]:
    """The signature that a request is for, and its columns.

    aliases: other name of an input -> its name.
    ignore_unknown: whether inputs that are no feature are left out.

    Raises:
        BadInputError: the request does not fit the signature.
    """
    if printable(request.id) != request.id:
        raise BadInputError(f"id: not Unicode text. Received: {request.id!r}")
    name = request.signature or DEFAULT_SIGNATURE
    inputs = find_signature(name, signatures)
    given = {tensor.name: tensor for tensor in request.tensors}
    if len(given) < len(request.tensors):
        raise BadInputError("an input is given twice")
    given = renamed(given, aliases)
    if ignore_unknown:
        given = {k: v for k, v in given.items() if k in inputs}
    check_names(given, inputs)
    columns = {
        feature: _column(feature, tensor, inputs[feature])
        for feature, tensor in given.items()
    }
    check_rows(columns)
    assert isinstance(name, str)
    return name, columns


def check_rows(columns: Mapping[str, Array]) -> None:
    """Raises BadInputError unless every column has the same rows, and some."""
    first, *others = columns
    for other in others:
        if len(columns[other]) != len(columns[first]):
            raise BadInputError(
                f"feature {other!r} has {len(columns[other])} values where "
                f"{first!r} has {len(columns[first])}"
            )
    if not len(columns[first]):
        raise BadInputError(f"the request holds no rows: {first!r} is empty")


def check_outputs(request: InferRequest, outputs: Mapping[str, Array]) -> None:
    """Raises BadInputError if an output is asked for that there is not."""
    for name in request.outputs:
        if name not in outputs:
            raise BadInputError(
                f"unknown output {shown(name)}. Accepted: {', '.join(outputs)}"
            )


def rows_of(name: object, shape: object) -> int:
    """The rows of a shape [rows] or [rows, 1].

    Raises:
        BadInputError: it is another shape.
    """
    if (
        isinstance(shape, Sequence)
        and not isinstance(shape, str)
        and len(shape) in (1, 2)
        and all(type(size) is int for size in shape)
        and shape[0] >= 0
        and tuple(shape[1:]) in ((), (1,))
    ):
        return int(shape[0])
    raise BadInputError(
        f"feature {shown(name)}: expected shape [rows]. "
        f"Received: {shown(shape)}"
    )


def converted(name: str, dtype: np.dtype[Any], array: Array) -> Array:
    """A column of another dtype; what JSON refuses is refused here, too.

    Raises:
        BadInputError: a value does not fit the dtype.
    """
    if array.dtype == dtype:
        return array
    if dtype.kind == "O" and array.dtype.kind == "f":
        return to_column(name, dtype, _shortest(array))
    return to_column(name, dtype, array.tolist())


def _shortest(array: Array) -> list[float]:
    """Floats by the shortest decimal that is the same in their own width."""
    return [float(str(value)) for value in array]


def _column(name: str, tensor: Tensor, dtype: np.dtype[Any]) -> Array:
    rows = rows_of(name, tensor.shape)
    sent = _DTYPES.get(tensor.datatype)
    if sent is None:
        raise BadInputError(
            f"feature {name!r}: expected one of the datatypes"
            f" {', '.join(_DTYPES)}. Received: {shown(tensor.datatype)}"
        )
    if tensor.raw is not None:
        return converted(name, dtype, _from_bytes(name, tensor, sent, rows))
    values = tensor.data
    if len(values) != rows:
        raise BadInputError(
            f"feature {name!r}: shape {list(tensor.shape)} but "
            f"{len(values)} values"
        )
    if dtype.kind == "O" and sent.kind == "f" and sent.itemsize < 8:
        # The client may have widened them to write JSON.
        wide = to_column(name, np.dtype(np.float32), values)
        values = _shortest(wide.astype(sent))
    return to_column(name, dtype, values)


def _from_bytes(
    name: str, tensor: Tensor, dtype: np.dtype[Any], rows: int
) -> Array:
    data = tensor.raw
    assert data is not None
    if dtype.kind != "O":
        if len(data) == rows * dtype.itemsize:
            return np.frombuffer(data, dtype)
    else:
        texts = _texts(data, rows)
        if texts is not None:
            return texts
    raise BadInputError(
        f"feature {name!r}: {len(data)} bytes of binary data are"
        f" not {rows} values of {shown(tensor.datatype)}"
    )


def _texts(data: bytes, rows: int) -> Array | None:
    """Byte strings behind their lengths of 4 bytes; None for other data."""
    if len(data) < 4 * rows:
        return None
    texts = []
    start = 0
    try:
        for _ in range(rows):
            (size,) = _SIZE(data, start)
            start += 4 + size
            texts.append(data[start - size : start])
    except struct.error:  # the data end before
        return None
    if start != len(data):
        return None
    column = np.empty(rows, object)
    column[:] = texts
    return column
