"""The label of each row: from a column, or by a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask, nulled
from components.click_log_gen.columns.rows import FLOAT, Column, Verdicts
from components.click_log_gen.config.labels import LabelRule, LabelTask
from components.example_io import tfrecord
from components.example_io.decode import decode
from models.config.labels import FURTHER, UNKNOWN

VALUES = {"positives": 1, "negatives": 0, "unknown": UNKNOWN}
_WORDS = {"true": "1", "True": "1", "TRUE": "1"} | {
    "false": "0",
    "False": "0",
    "FALSE": "0",
}


def label(
    array: pa.Array, column: Column, rule: LabelRule | None, verdicts: Verdicts
) -> pa.Array:
    """0 or 1 for each row (int64); a row without is refused.

    Without a rule the column says it itself: 0, 1, 1.0, true, False, ...
    """
    hit = (
        _itself(array, column, verdicts)
        if rule is None
        else _by_rule(array, column, rule, verdicts)
    )
    verdicts.refuse(mask(pc.is_null(hit)), f"column {column.name}: no label")
    return pc.fill_null(hit, False).cast(pa.int64())


def further(
    array: pa.Array,
    column: Column,
    rule: LabelRule | None,
    first: pa.Array | None,
    verdicts: Verdicts,
) -> pa.Array:
    """1, 0, or UNKNOWN of a row without a value; int64.

    Args:
        array: the column's values.
        column: how they are read.
        rule: as of `label`.
        first: the first label, if this one is of it; None: of no other. A row
            that has this label without the first is refused.
        verdicts: takes the rows that are refused.
    """
    hit = (
        _itself(array, column, verdicts)
        if rule is None
        else _by_rule(array, column, rule, verdicts)
    )
    if first is not None:
        alone = mask(hit) & ~mask(pc.equal(first, 1))
        verdicts.refuse(
            alone, f"column {column.name}: 1 in a row whose first label is 0"
        )
    return pc.fill_null(hit.cast(pa.int64()), UNKNOWN)


def counted(
    records: pa.BinaryArray,
    tasks: Mapping[str, LabelTask],
    positive: Mask,
    sides: npt.NDArray[np.int8],
    splits: Sequence[str],
) -> dict[str, int]:
    """How many rows have each label after the first, by `count_name`.

    Rows count that have the label which it is of.

    Args:
        records: serialized examples, at least one.
        tasks: the labels after the first.
        positive: the first label is 1; [N].
        sides: number of the split of each, or none of them; [N].
        splits: their names.
    """
    columns = decode(
        tfrecord.joined(records), [FURTHER + name for name in tasks]
    )
    found = {}
    for name, task in tasks.items():
        values = columns[FURTHER + name].flatten().to_numpy()
        for number, split in enumerate(splits):
            rows = sides == number
            if task.of is not None:
                rows = rows & positive
            for what, value in VALUES.items():
                count = int((values[rows] == value).sum())
                found[count_name(name, split, what)] = count
    return found


def count_name(label: str, split: str, what: str) -> str:
    """Count of the rows of a split whose label is one of VALUES."""
    return f"label_{label}_{split}_{what}"


def kind(rule: LabelRule | str) -> str:
    """Kind that a reader should read the label's column as."""
    if isinstance(rule, LabelRule):
        return "string" if isinstance(rule.equals, str) else "float"
    return "label"


def _itself(array: pa.Array, column: Column, verdicts: Verdicts) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        number = array.cast(pa.float64(), safe=False)
        given = pc.invert(array.is_null(nan_is_null=True))
    else:
        text = column.text(array, verdicts)
        given = text.is_valid()
        number = _number(text)
    positive = pc.equal(number, 1.0)
    known = mask(pc.or_(positive, pc.equal(number, 0.0)))
    verdicts.refuse(
        mask(given) & ~known,
        f"column {column.name}: the label is neither 0 nor 1",
    )
    return nulled(positive, ~known)


def _number(text: pa.Array) -> pa.Array:
    """float64, null where `text` is no number and no word for one."""
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text)
        at = pc.index_in(text, value_set=pa.array(list(_WORDS)))
        words = pa.array(list(_WORDS.values())).take(at)
        text = pc.coalesce(words, text)
        fits = mask(pc.match_substring_regex(text, FLOAT))
        return nulled(text, ~fits).cast(pa.float64())


def _by_rule(
    array: pa.Array, column: Column, rule: LabelRule, verdicts: Verdicts
) -> pa.Array:
    if isinstance(rule.equals, str):
        return pc.equal(column.written(array, verdicts), rule.equals)
    number = column.float64(array, verdicts)
    for bound, compare in (
        (rule.at_least, pc.greater_equal),
        (rule.at_most, pc.less_equal),
        (rule.equals, pc.equal),
    ):
        if bound is not None:
            # 0.1 in a column of 32 bits is not 0.1 in 64.
            if pa.types.is_float32(_item(array.type)):
                bound = float(np.float32(bound))
            return compare(number, float(bound))
    raise AssertionError(rule)


def _item(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind
