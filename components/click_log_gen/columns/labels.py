"""The label of each row: from a column, or by a rule."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import mask, nulled
from components.click_log_gen.columns.rows import FLOAT, Column, Verdicts
from components.click_log_gen.config.sections import LabelRule

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
