"""One value, one text, and lists, inside the exported graph.

The rules are the ingest's: `category` and `Column` in
components/click_log_gen/columns. Of a feature that is a list, a row with one
value has a text, which is split at the separator. A row with several has the
list itself: each may hold the separator. Empty values are missing; one beside
a single value that holds the separator keeps it whole. In a sequence an empty
value keeps its place, and none may hold the separator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from models.preprocessing import weighted_text

_TRUE = r"\A(?:true|True|TRUE)\z"
_FALSE = r"\A(?:false|False|FALSE|-0\.0+)\z"
_WHOLE = r"\A(-?(?:0|[1-9][0-9]*))\.0+\z"
_OTHER = r"(?:true|True|TRUE|false|False|FALSE|-?(?:0|[1-9][0-9]*)\.0+)"


def canonical(
    raw: Mapping[str, Any],
    separators: Mapping[str, str | None],
    weighted: Mapping[str, str] | None = None,
    placed: Collection[str] = (),
) -> dict[str, Any]:
    """`raw` with texts split to lists, and the category of each value.

    All features go through the same few ops: their number costs nothing.

    Args:
        raw: name -> sparse or dense tensor.
        separators: text feature -> what separates the values in a text; None
            where a row has one value.
        weighted: those whose values have weights -> what separates the two.
        placed: those of sequences, in which an empty value keeps its place.
    """
    if not separators:
        return dict(raw)
    split = {
        name: _split_in_place(_ragged(raw[name]), separator)
        if name in placed
        else _without_empty(_split(_ragged(raw[name]), separator))
        for name, separator in separators.items()
        if separator is not None
    }
    flat = [
        split[name].flat_values if name in split else _values(raw[name])
        for name in separators
    ]
    rests = {}
    for place, name in enumerate(separators):
        if weighted and name in weighted:
            texts, sign = flat[place], weighted[name]
            rests[name] = weighted_text.rests(name, texts, sign)
            flat[place] = weighted_text.values(texts, sign)
    found = _categories(tf.concat(flat, 0))
    # Columns of one length share the op that counts it.
    dense = next((t for t in map(raw.get, separators) if _is_dense(t)), None)
    sizes = [
        tf.size(split[name].flat_values)
        if name in split
        else _count(raw[name], dense)
        for name in separators
    ]
    parts = tf.split(found, tf.stack(sizes), num=len(flat))
    changed = dict(raw)
    for name, values in zip(separators, parts, strict=True):
        before = raw[name]
        if name in rests:
            values = tf.strings.join([values, rests[name]])
        if name in split:
            lists = split[name].with_flat_values(values)
            changed[name] = lists.to_sparse()
        elif isinstance(before, tf.SparseTensor):
            changed[name] = before.with_values(values)
        elif before.shape.rank == 1:
            changed[name] = values
        else:
            changed[name] = tf.reshape(values, tf.shape(before))
    return changed


def _ragged(tensor: Any) -> tf.RaggedTensor:
    """String [N, (values)]."""
    if isinstance(tensor, tf.SparseTensor):
        return tf.RaggedTensor.from_sparse(tensor)
    return tf.RaggedTensor.from_tensor(tf.reshape(tensor, [-1, 1]))


def _split(lists: tf.RaggedTensor, separator: str) -> tf.RaggedTensor:
    """The text of a row with one value split, other rows as they are."""
    lone = tf.equal(lists.row_lengths(), 1)  # [N]
    is_text = tf.gather(lone, lists.value_rowids())
    parts = tf.strings.split(
        tf.boolean_mask(lists.flat_values, is_text), separator
    )
    counts = tf.tensor_scatter_nd_update(  # parts of each row
        tf.zeros_like(lists.row_lengths()), tf.where(lone), parts.row_lengths()
    )
    texts = tf.RaggedTensor.from_row_lengths(
        parts.flat_values, counts, validate=False
    )
    others = lists.with_flat_values(tf.logical_not(is_text))
    return tf.concat([tf.ragged.boolean_mask(lists, others), texts], axis=1)


def _split_in_place(lists: tf.RaggedTensor, separator: str) -> tf.RaggedTensor:
    """As `_split`; a row whose text is empty has no value."""
    lone = tf.gather(
        tf.equal(lists.row_lengths(), 1), lists.value_rowids()
    )  # [V]
    nothing = lone & tf.equal(lists.flat_values, "")
    filled = lists.with_flat_values(~nothing)
    return _split(tf.ragged.boolean_mask(lists, filled), separator)


def _without_empty(lists: tf.RaggedTensor) -> tf.RaggedTensor:
    return tf.ragged.boolean_mask(lists, tf.not_equal(lists, ""))


def _values(tensor: Any) -> tf.Tensor:
    if isinstance(tensor, tf.SparseTensor):
        return tensor.values
    return tensor if tensor.shape.rank == 1 else tf.reshape(tensor, [-1])


def _is_dense(tensor: Any) -> bool:
    return not isinstance(tensor, tf.SparseTensor)


def _count(tensor: Any, dense: Any) -> tf.Tensor:
    """How many values a column has; all dense ones have as many."""
    if isinstance(tensor, tf.SparseTensor):
        return tf.shape(tensor.indices)[0]
    return tf.size(dense)


def _categories(text: tf.Tensor) -> tf.Tensor:
    # Hardly any value changes: one match finds those that do.
    at = tf.where(tf.strings.regex_full_match(text, _OTHER))  # [changed, 1]
    values = tf.gather_nd(text, at)
    for pattern, rewrite in ((_FALSE, "0"), (_TRUE, "1"), (_WHOLE, r"\1")):
        values = tf.strings.regex_replace(values, pattern, rewrite)
    return tf.tensor_scatter_nd_update(text, at, values)
