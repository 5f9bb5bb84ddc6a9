"""Rows as read, and the one way to turn their columns into typed ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask, nulled
from components.click_log_gen.columns import item_lists, value_text
from models.errors import InputError

FLOAT = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan(\(\w*\))?)$"
_WEIGHT = r"^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INT = r"^([+-]?)0*(\d+)(\.0*)?$"
_SHORT_INT = r"^-?\d{1,18}$"


class ColumnForm(NamedTuple):
    """Content of a column.

    kind: of its values, see `models.config.features.Kind`.
    separator: between the values of a list in a text; None: one value a row.
    weights: between a value of a list and its weight; None: it has none.
    size: of a vector; 0: any number of numbers.
    sequence: column of the ordered list that it is, or is as long as; None:
        it is of none.
    """

    kind: str
    separator: str | None = None
    weights: str | None = None
    size: int = 0
    sequence: str | None = None

    @property
    def reads(self) -> str:
        """Kind that a reader should read the column as."""
        return "string" if self.kind == "vector" else self.kind


@dataclass(frozen=True)
class Rejected:
    """One row that is not in the examples, and why."""

    path: str
    where: str  # "byte 1234", "row 56" or "byte 1234 record 56"
    reason: str
    row: bytes

    @property
    def place(self) -> tuple[int, ...]:
        """The numbers in `where`: rows of one file sort by it."""
        return tuple(int(number) for number in self.where.split()[1::2])

    @property
    def of_column(self) -> bool:
        """True if a value is the reason, and not the row as a whole."""
        return self.reason.startswith("column ")


@dataclass
class Rows:
    """Some rows of a chunk, column by column.

    columns: raw column name -> array of `count` values of any Arrow type.
    ordinal: position of each row among all rows of its chunk, bad ones
        included (int64 [count]).
    locate: index among these rows -> (where, the row's bytes).
    rejected: rows that could not even be split into columns.
    locate_all: as `locate` of every row, both as Arrow columns, at once.
    parsed: missing values are nulls already, and all text is UTF-8.
    loose: columns of lists in which a list of one value is a text.
    """

    columns: Mapping[str, pa.Array]
    ordinal: npt.NDArray[np.int64]
    locate: Callable[[int], tuple[str, bytes]]
    rejected: list[Rejected] = field(default_factory=list)
    parsed: bool = False
    locate_all: Callable[[], tuple[pa.Array, pa.Array]] | None = None
    loose: Collection[str] = ()

    def column(
        self,
        name: str,
        null_values: tuple[str, ...],
        form: ColumnForm | None = None,
    ) -> Column:
        """How to read a column: the one place that says what is missing.

        Args:
            name: of the column.
            null_values: of the log.
            form: what the column holds, where it is a feature's.
        """
        form = form or ColumnForm("string")
        return Column(
            name,
            null_values,
            form.separator,
            self.parsed,
            name in self.loose,
            form.weights,
            form.size,
            form.sequence is not None,
        )

    def origins(self) -> tuple[pa.StringArray, pa.BinaryArray]:
        """Where each row is, and its bytes."""
        if self.locate_all is not None:
            return self.locate_all()
        found = [self.locate(index) for index in range(self.count)]
        where, rows = zip(*found, strict=True) if found else ((), ())
        return pa.array(where, pa.string()), pa.array(rows, pa.binary())

    @property
    def count(self) -> int:
        """How many rows the columns hold."""
        return len(self.ordinal)

    def filled(self, names: Iterable[str]) -> set[str]:
        """Those of the columns that hold a value."""
        return {n for n in names if self.columns[n].null_count < self.count}

    def refused(self, path: str, reasons: Mapping[int, str]) -> list[Rejected]:
        """The rows of `reasons`, index -> reason, and `rejected`, in order."""
        found = list(self.rejected)
        for index, reason in reasons.items():
            where, row = self.locate(index)
            found.append(Rejected(path, where, reason, row))
        return sorted(found, key=lambda item: item.place)


@dataclass
class Verdicts:
    """Which rows are good, and the first reason against each other one."""

    good: Mask
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def none(cls, count: int) -> Verdicts:
        """No row refused yet."""
        return cls(np.ones(count, np.bool_))

    def refuse(self, bad: Mask, reason: str) -> None:
        """Refuses the rows where `bad` and no reason is known yet."""
        for index in np.flatnonzero(bad):
            self.reasons.setdefault(int(index), reason)
        self.good &= ~bad

    def add(self, later: Verdicts) -> None:
        """Refuses the rows that `later` does, for its reasons."""
        self.reasons = later.reasons | self.reasons
        self.good &= later.good


@dataclass(frozen=True)
class Column:
    """A raw column, and the one rule for its missing values and lists.

    Missing are nulls, NaN, empty text and the words of the log for it: as the
    value of a row, and as one of the values of a list, which is then left out.

    null_values: texts that mean missing, besides the empty one.
    separator: between the values of a list in a text; None for one value a row.
    parsed: the reader made nulls of missing values already.
    loose: a list of one value is a text, as in a tf.Example.
    weights: what separates a value of a list and its weight, as in `a:0.3`.
    size: numbers of a vector; 0: any number of them.
    ordered: missing values of a list keep their place.
    """

    name: str
    null_values: tuple[str, ...] = ()
    separator: str | None = None
    parsed: bool = False
    loose: bool = False
    weights: str | None = None
    size: int = 0
    ordered: bool = False

    def text(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """`array` as string, one text for one value (see value_text.py).

        Bytes that are not UTF-8 are refused, and so are several values.
        """
        array = value_text.plain(array)
        if is_list(array.type):
            array = self._single(array, verdicts)
        if not value_text.is_text(array.type):
            return self._typed_texts(array)
        return value_text.canonical(self._words(array, verdicts))

    def items(self, array: pa.Array, verdicts: Verdicts) -> pa.ListArray:
        """`array` as lists of string, one text for one value; null if empty.

        A text is split at `separator`; the values of a list may hold it. Bytes
        that are not UTF-8 are refused. Values keep their weights.
        """
        assert self.separator is not None
        lists = self._lists(array, verdicts)
        if self.ordered:
            return self._in_place(lists, verdicts)
        if self.weights is not None:
            lists = self._weighted(lists, verdicts)
            return item_lists.apart(lists, self.separator)
        lists = item_lists.without(lists, self._is_missing(lists.values))
        items = value_text.canonical(lists.values)
        return item_lists.apart(
            item_lists.of(lists.offsets, items), self.separator
        )

    def vectors(self, array: pa.Array, verdicts: Verdicts) -> pa.ListArray:
        """`array` as lists of `size` float32, null where there is none.

        Rows with another count, or numbers that are none or not finite in 32
        bits, are refused.
        """
        assert self.separator is not None
        array = value_text.plain(array)
        lists = item_lists.flat(array) if is_list(array.type) else None
        if lists is None or not _is_number(lists.values.type):
            lists = self._lists(array, verdicts)
            lone = item_lists.lengths(lists)[item_lists.rows_of(lists)] == 1
            missing = lone & self._is_missing(lists.values)
            lists = item_lists.without(lists, missing)
        items = lists.values
        if value_text.is_text(items.type):
            items = pc.utf8_trim_whitespace(items)
            bad = mask(pc.invert(pc.match_substring_regex(items, _NUMBER)))
            items = nulled(items, bad)
        items = items.cast(pa.float64()).cast(pa.float32(), safe=False)
        bad = ~mask(pc.is_finite(items))
        rows = np.zeros(len(lists), np.bool_)
        rows[item_lists.rows_of(lists)[bad]] = True
        verdicts.refuse(
            rows, f"column {self.name}: not a finite number in the vector"
        )
        lengths = item_lists.lengths(lists)
        if self.size:
            verdicts.refuse(
                (lengths != 0) & (lengths != self.size),
                f"column {self.name}: a vector of other than {self.size}"
                " numbers",
            )
        return item_lists.of(lists.offsets, pc.fill_null(items, 0.0))

    def _in_place(
        self, lists: pa.ListArray, verdicts: Verdicts
    ) -> pa.ListArray:
        """Lists of a sequence: a missing value is empty, and in its place.

        A value with the separator in it would be two when it is served.
        """
        assert self.separator is not None
        missing = self._is_missing(lists.values)
        lone = item_lists.lengths(lists)[item_lists.rows_of(lists)] == 1
        lists = item_lists.without(
            item_lists.of(lists.offsets, nulled(lists.values, missing)),
            missing & lone,
        )
        items = pc.fill_null(value_text.canonical(lists.values), "")
        bad = mask(pc.match_substring(items, self.separator))
        rows = np.zeros(len(lists), np.bool_)
        rows[item_lists.rows_of(lists)[bad]] = True
        verdicts.refuse(
            rows,
            f"column {self.name}: a value with the separator"
            f" {self.separator!r} in it; give the sequence another `separator`",
        )
        return item_lists.of(lists.offsets, items)

    def _weighted(
        self, lists: pa.ListArray, verdicts: Verdicts
    ) -> pa.ListArray:
        """Lists of values with weights; rows of wrong weights are refused."""
        assert self.weights is not None
        values, weights = item_lists.weighted(lists.values, self.weights)
        there = mask(pc.greater(pc.binary_length(weights), 0))
        numbers = nulled(weights, ~there)
        bad = mask(pc.invert(pc.match_substring_regex(numbers, _WEIGHT)))
        numbers = nulled(numbers, bad).cast(pa.float64())
        bad |= mask(pc.is_inf(numbers.cast(pa.float32(), safe=False)))
        if bad.any():
            rows = np.zeros(len(lists), np.bool_)
            rows[item_lists.rows_of(lists)[bad]] = True
            verdicts.refuse(
                rows,
                f"column {self.name}: a weight behind {self.weights!r} that is"
                " not a number of 0 or more",
            )
        missing = self._is_missing(values)
        values = value_text.canonical(pc.fill_null(values, ""))
        whole = pc.binary_join_element_wise(values, weights, self.weights)
        items = pc.coalesce(whole, values)
        return item_lists.without(item_lists.of(lists.offsets, items), missing)

    def written(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """As `text`, but text is as it was written, and true is `true`.

        The values of a list are joined with `separator`.
        """
        array = value_text.plain(array)
        if is_list(array.type):
            if self.separator is not None:
                lists = self._list_texts(array, verdicts)
                lists = item_lists.without(lists, mask(lists.values.is_null()))
                return pc.binary_join(lists, self.separator)
            array = self._single(array, verdicts)
        if pa.types.is_boolean(array.type):
            return array.cast(pa.string())
        if not value_text.is_text(array.type):
            return self._typed_texts(array)
        return self._words(array, verdicts)

    def _lists(self, array: pa.Array, verdicts: Verdicts) -> pa.ListArray:
        """The values of each row, missing ones among them."""
        array = value_text.plain(array)
        if is_list(array.type):
            lists = self._list_texts(array, verdicts)
            if self.loose:
                lists = item_lists.split_lone(lists, self.separator or "")
                return item_lists.unmarked(lists)
            return lists
        if value_text.is_text(array.type):
            text = self._words(array, verdicts)
            return pc.split_pattern(text, self.separator)
        text = self._typed_texts(array)
        return item_lists.of(
            pa.array(np.arange(len(text) + 1, dtype=np.int32)), text
        )

    def _list_texts(self, array: pa.Array, verdicts: Verdicts) -> pa.ListArray:
        """The texts in each list, as they are written."""
        lists = item_lists.flat(array)
        items = value_text.plain(lists.values)
        if not value_text.is_text(items.type):
            return item_lists.of(lists.offsets, self._typed_texts(items))
        try:
            items = items.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            items = items.cast(pa.binary())
            bad = ~_are_utf8(items)
            rows = np.zeros(len(lists), np.bool_)
            rows[item_lists.rows_of(lists)[bad]] = True
            verdicts.refuse(rows, f"column {self.name}: not UTF-8")
            items = nulled(items, bad).cast(pa.string())
        return item_lists.of(lists.offsets, items)

    def _is_missing(self, items: pa.Array) -> Mask:
        """Which values of lists are missing."""
        words = set(self.null_values) - {""}
        missing = mask(pc.equal(pc.binary_length(items), 0))
        if items.null_count:
            missing |= mask(items.is_null())
        if words:
            found = pc.is_in(items, value_set=pa.array(sorted(words)))
            missing |= mask(found)
        return missing

    def _texts(self, array: pa.Array) -> pa.Array:
        found = value_text.texts(array)
        if found is None:
            raise InputError(
                f"column {self.name!r} holds {array.type}, which cannot be"
                " read as text"
            )
        return found

    def _typed_texts(self, array: pa.Array) -> pa.Array:
        """The texts of typed values, the words for missing as nulls."""
        text = self._texts(array)
        return self._without_words(text) if self._has_words else text

    @property
    def _has_words(self) -> bool:
        """True if typed values may be words for missing."""
        return not self.parsed and bool(set(self.null_values) - {""})

    def _without_words(self, text: pa.Array) -> pa.Array:
        """`text` with the words for missing as nulls."""
        missing = pa.array(["", *self.null_values])
        return nulled(text, mask(pc.is_in(text, value_set=missing)))

    def float64(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """`array` as float64, NaN as null; what is not finite is refused."""
        array = self._scalars(array, verdicts)
        if value_text.is_text(array.type):
            array = self._parsed_floats(self._words(array, verdicts), verdicts)
        return self._finite(self._cast(array, pa.float64()), verdicts)

    def float32(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """As `float64`, but narrowed; what becomes infinite is refused."""
        wide = self.float64(array, verdicts)
        return self._finite(wide.cast(pa.float32(), safe=False), verdicts)

    def int64(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """`array` as int64; 3.0 is an integer, 3.5 is refused."""
        array = self._scalars(array, verdicts)
        if value_text.is_text(array.type):
            return self._parsed_ints(self._words(array, verdicts), verdicts)
        if pa.types.is_decimal(array.type) or pa.types.is_floating(array.type):
            array = array.cast(pa.float64())
            array = nulled(array, mask(pc.is_nan(array)))
            bad = mask(pc.not_equal(pc.trunc(array), array)) | mask(
                pc.greater(pc.abs(array), 2.0**53)
            )
        elif pa.types.is_uint64(array.type):
            bad = mask(pc.greater(array, pa.scalar(2**63 - 1, pa.uint64())))
        else:
            return self._cast(array, pa.int64())
        verdicts.refuse(bad, f"column {self.name}: not an integer of 64 bits")
        return nulled(array, bad).cast(pa.int64())

    def _words(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """`array` of text as written, the words for missing as nulls."""
        if self.parsed:
            return array
        return self._without_words(self._utf8(array, verdicts))

    def _scalars(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """One number, or text, a row.

        Raises:
            InputError: the type is neither, such as a time or a struct.
        """
        array = value_text.plain(array)
        if is_list(array.type):
            array = self._single(array, verdicts)
        if value_text.is_text(array.type) or pa.types.is_null(array.type):
            return array
        if not _is_number(array.type):
            raise InputError(
                f"column {self.name!r} holds {array.type}, which cannot be"
                " read as numbers"
            )
        if not self._has_words:
            return array
        return nulled(array, mask(self._typed_texts(array).is_null()))

    def _single(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        """The one value of each list; several are refused."""
        lists = item_lists.flat(array)
        lists = item_lists.without(lists, mask(lists.values.is_null()))
        lengths = item_lists.lengths(lists)
        verdicts.refuse(
            lengths > 1, f"column {self.name}: several values instead of one"
        )
        first = lists.offsets.to_numpy()[:-1]
        return value_text.plain(
            lists.values.take(pa.array(first, mask=lengths != 1))
        )

    def _cast(self, array: pa.Array, kind: pa.DataType) -> pa.Array:
        try:
            return array.cast(kind, safe=pa.types.is_integer(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"column {self.name!r} holds {array.type}, which cannot be"
                " read as numbers"
            ) from error

    def _utf8(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        try:
            # By way of binary: a string column may hold what is not UTF-8.
            return array.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            array = array.cast(pa.binary())
            bad = ~_are_utf8(array)
            verdicts.refuse(bad, f"column {self.name}: not UTF-8")
            return nulled(array, bad).cast(pa.string())

    def _parsed_floats(self, text: pa.Array, verdicts: Verdicts) -> pa.Array:
        try:
            return text.cast(pa.float64())
        except pa.ArrowInvalid:
            text = pc.utf8_trim_whitespace(text)
            bad = mask(pc.invert(pc.match_substring_regex(text, FLOAT)))
            verdicts.refuse(bad, f"column {self.name}: not a number")
            return nulled(text, bad).cast(pa.float64())

    def _parsed_ints(self, text: pa.Array, verdicts: Verdicts) -> pa.Array:
        # Arrow itself would take 0x10.
        if not mask(
            pc.invert(pc.match_substring_regex(text, _SHORT_INT))
        ).any():
            return text.cast(pa.int64())
        text = pc.utf8_trim_whitespace(text)
        bad = mask(pc.invert(pc.match_substring_regex(text, _INT)))
        text = pc.replace_substring_regex(text, _INT, r"\1\2")
        text = pc.utf8_ltrim(text, "+")
        for index in np.flatnonzero(mask(pc.greater(pc.utf8_length(text), 18))):
            bad[index] |= not bad[index] and not (
                -(2**63) <= int(text[index].as_py()) < 2**63
            )
        verdicts.refuse(bad, f"column {self.name}: not an integer of 64 bits")
        return nulled(text, bad).cast(pa.int64())

    def _finite(self, array: pa.Array, verdicts: Verdicts) -> pa.Array:
        verdicts.refuse(
            mask(pc.is_inf(array)), f"column {self.name}: not a finite number"
        )
        return nulled(array, mask(pc.is_nan(array)))


def typed(
    array: pa.Array, kind: str, column: Column, verdicts: Verdicts
) -> pa.Array:
    """`array` as what a feature of `kind` takes: float32, int64 or string.

    A column with a separator becomes lists of string, vectors of float32.
    Missing values become nulls.
    """
    if kind == "float":
        return column.float32(array, verdicts)
    if kind == "int":
        return column.int64(array, verdicts)
    if kind == "vector":
        return column.vectors(array, verdicts)
    if column.separator is not None:
        return column.items(array, verdicts)
    return column.text(array, verdicts)


def refuse_unequal(
    columns: Mapping[str, pa.Array],
    forms: Mapping[str, ColumnForm],
    verdicts: Verdicts,
) -> None:
    """Refuses rows in which a list is not as long as its sequence.

    No text beside one item is a missing one.

    Args:
        columns: typed.
        forms: of the columns.
        verdicts: of the rows.
    """
    for name, form in forms.items():
        if form.sequence is None or form.sequence == name:
            continue
        lengths = item_lists.lengths(columns[form.sequence])
        own = item_lists.lengths(columns[name])
        bad = own != lengths
        if form.kind == "string":
            bad &= (lengths != 1) | (own != 0)
        verdicts.refuse(
            bad,
            f"column {name}: not as many values as {form.sequence} has",
        )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )


def _are_utf8(values: pa.BinaryArray) -> Mask:
    return np.array([_is_utf8(value) for value in values.to_pylist()])


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def numbered(unit: str, numbers: npt.NDArray[np.int64]) -> pa.StringArray:
    """Texts of the numbers with their unit: "byte 1", "byte 2", ..."""
    text = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise(unit, text, " ")
