"""One value, one text, inside the exported graph.

The rule is the ingest's: `category` in components/click_log_gen/columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_TRUE = r"\A(?:true|True|TRUE)\z"
_FALSE = r"\A(?:false|False|FALSE|-0\.0+)\z"
_WHOLE = r"\A(-?(?:0|[1-9][0-9]*))\.0+\z"
_IN_LIST = r"(?is).*(?:true|false|\.0).*"
_OTHER = r"(?:true|True|TRUE|false|False|FALSE|-?(?:0|[1-9][0-9]*)\.0+)"


def canonical(
    raw: Mapping[str, Any], separators: Mapping[str, str | None]
) -> dict[str, Any]:
    """`raw` with the category of each value of its text features.

    All features go through the same few ops: their number costs nothing.

    Args:
        raw: name -> sparse or dense tensor.
        separators: text feature -> what separates the values in a row; None
            where a row has one value.
    """
    if not separators:
        return dict(raw)
    texts = {
        name: _Text(_values(raw[name]), separator)
        for name, separator in separators.items()
    }
    flat = [text.flat for text in texts.values()]
    found = _categories(tf.concat(flat, 0))
    # Columns of one length share the op that counts it.
    dense = next((t for t in map(raw.get, separators) if _is_dense(t)), None)
    sizes = [
        tf.size(text.flat)
        if separators[name] is not None
        else _count(raw[name], dense)
        for name, text in texts.items()
    ]
    parts = tf.split(found, tf.stack(sizes), num=len(flat))
    changed = dict(raw)
    for (name, text), part in zip(texts.items(), parts, strict=True):
        before = raw[name]
        values = text.replaced(part)
        if isinstance(before, tf.SparseTensor):
            changed[name] = before.with_values(values)
        elif before.shape.rank == 1:
            changed[name] = values
        else:
            changed[name] = tf.reshape(values, tf.shape(before))
    return changed


class _Text:
    """The values of one feature that the rule is asked about."""

    def __init__(self, text: tf.Tensor, separator: str | None) -> None:
        """Splits the rows of a list that hold a value that may change."""
        self._text = text
        self._separator = separator
        self.flat = text
        if separator is not None:
            self._at = tf.where(tf.strings.regex_full_match(text, _IN_LIST))
            some = tf.gather_nd(text, self._at)
            self._parts = tf.strings.split(some, separator)
            self.flat = self._parts.values

    def replaced(self, flat: tf.Tensor) -> tf.Tensor:
        """The text of each row, with `flat` in the place of its values."""
        if self._separator is None:
            return flat
        rows = tf.strings.unsorted_segment_join(
            flat,
            self._parts.value_rowids(),
            self._parts.nrows(),
            self._separator,
        )
        return tf.tensor_scatter_nd_update(self._text, self._at, rows)


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
