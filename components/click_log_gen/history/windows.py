"""Windows of a user's events that each row sees: those before its time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def find(
    users: Ints, times: Ints, owners: Ints, moments: Ints, most: int
) -> tuple[Ints, Ints]:
    """First and end of the window of each row, in the list of all events.

    A window holds the newest `most` events of the row's user that came before
    its time: not at its time, so that no row sees itself or a tied one.

    Args:
        users, times: of the rows, [N]. Users are numbers from 0 on.
        owners, moments: user and time of the events, [E], in this order.
        most: events of a window.
    """
    ranks = np.unique(np.concatenate([times, moments]), return_inverse=True)[1]
    width = len(ranks) + 1
    events = owners * width + ranks[len(times) :]
    end = np.searchsorted(events, users * width + ranks[: len(times)], "left")
    begin = np.searchsorted(events, users * width, "left")
    return np.maximum(begin, end - most), end


def order(owners: Ints, moments: Ints, content: list[pa.Array]) -> Ints:
    """Order of events by user and time; the content decides between ties.

    So the order of files and rows does not matter.
    """
    found: Ints = np.lexsort((*map(_ranks, reversed(content)), moments, owners))
    return found


def members(first: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Events of all windows, one window after the other, and their offsets."""
    counts = end - first
    offsets = np.append(0, np.cumsum(counts))
    start = np.repeat(first - offsets[:-1], counts)
    return start + np.arange(offsets[-1]), offsets


def _ranks(array: pa.Array) -> npt.NDArray[np.number]:
    """Numbers in the order of the values."""
    if not pa.types.is_string(array.type):
        numbers: npt.NDArray[np.number] = array.to_numpy()
        return numbers
    encoded = array.dictionary_encode()
    ranks = np.empty(len(encoded.dictionary), np.int64)
    ranks[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(
        len(ranks)
    )
    found: Ints = ranks[encoded.indices.to_numpy()]
    return found
