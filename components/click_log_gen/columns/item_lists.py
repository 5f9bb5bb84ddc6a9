"""Arrow lists of texts: the values of a row in a column of lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask

Ints = npt.NDArray[np.int64]


def flat(array: pa.Array) -> pa.ListArray:
    """A list array of any type and slice as one whose items lie in a row.

    A missing list is empty.
    """
    array = array.cast(pa.list_(array.type.value_type))
    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    return of(pa.array(_offsets(counts)), array.flatten())


def of(offsets: pa.Array, items: pa.Array) -> pa.ListArray:
    """Lists of these items; null where there is none."""
    ends = offsets.to_numpy()
    empty = ends[1:] == ends[:-1]
    return pa.ListArray.from_arrays(
        offsets, items, mask=pa.array(empty) if empty.any() else None
    )


def lengths(lists: pa.ListArray) -> Ints:
    """Items of each list of `of`."""
    return np.diff(lists.offsets.to_numpy()).astype(np.int64)


def rows_of(lists: pa.ListArray) -> Ints:
    """Row of each item of lists of `of`."""
    return np.repeat(np.arange(len(lists)), lengths(lists))


def without(lists: pa.ListArray, left_out: Mask) -> pa.ListArray:
    """The lists without some of their items."""
    if not left_out.any():
        return of(lists.offsets, lists.values)
    counts = np.bincount(rows_of(lists)[~left_out], minlength=len(lists))
    items = lists.values.filter(pa.array(~left_out))
    return of(pa.array(_offsets(counts)), items)


def split_lone(lists: pa.ListArray, separator: str) -> pa.ListArray:
    """The lists with those of one value split at the separator."""
    at = _lone(lists, separator)
    if not len(at):
        return lists
    texts = lists.values.take(lists.offsets.take(pa.array(at)))
    where = np.arange(len(lists))
    where[at] = len(lists) + np.arange(len(at))
    parts = pc.split_pattern(texts, separator)
    return flat(pa.concat_arrays([lists, parts]).take(pa.array(where)))


def unmarked(lists: pa.ListArray) -> pa.ListArray:
    """The lists without the null that `nested.text_array` puts beside one."""
    counts = lengths(lists)
    ends = lists.offsets.to_numpy()[1:]
    marks = np.zeros(len(lists.values), np.bool_)
    marks[ends[counts == 2] - 1] = True
    return without(lists, marks & mask(lists.values.is_null()))


def apart(lists: pa.ListArray, separator: str) -> pa.ListArray:
    """The lists with an empty value beside a lone one with the separator.

    One value of a tf.Example is a text, which is split: see
    `models.preprocessing.category_text`. An empty one counts as missing.
    """
    at = _lone(lists, separator)
    if not len(at):
        return lists
    counts = lengths(lists)
    places = np.arange(len(lists.values))
    places += np.searchsorted(at, rows_of(lists), "left")
    counts[at] += 1
    chosen = np.full(int(counts.sum()), len(lists.values))
    chosen[places] = np.arange(len(lists.values))
    items = pa.concat_arrays([lists.values, pa.array([""])])
    return of(pa.array(_offsets(counts)), items.take(pa.array(chosen)))


def weighted(
    items: pa.StringArray, separator: str
) -> tuple[pa.StringArray, pa.StringArray]:
    """Values and weights of `a:0.3`, as texts; null where there is no weight.

    The last separator stands before the weight.
    """
    parts = pc.split_pattern(items, separator, max_splits=1, reverse=True)
    counts = pc.fill_null(pc.list_value_length(parts), 0).to_numpy()
    ends = np.cumsum(counts)
    texts = parts.flatten()
    values = texts.take(pa.array(ends - counts, mask=counts == 0))
    return values, texts.take(pa.array(ends - 1, mask=counts < 2))


def joined(lists: pa.ListArray, separator: str) -> tuple[pa.StringArray, Mask]:
    """The values of each list as a text, and where it stands for others.

    A list of numbers too, which are as many bits when they are read again.
    """
    lists = flat(lists)
    if pa.types.is_floating(lists.type.value_type):
        lists = of(lists.offsets, lists.values.cast(pa.string()))
    bad = np.zeros(len(lists), np.bool_)
    inside = mask(pc.match_substring(lists.values, separator))
    bad[rows_of(lists)[inside]] = True
    return pc.binary_join(lists, separator), bad


def _lone(lists: pa.ListArray, separator: str) -> Ints:
    """Rows of one value that holds the separator."""
    rows = np.flatnonzero(lengths(lists) == 1)
    if not len(rows):
        return rows
    lone = lists.values.take(lists.offsets.take(pa.array(rows)))
    return rows[mask(pc.match_substring(lone, separator))]


def _offsets(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    return np.r_[0, np.cumsum(counts)].astype(np.int32)
