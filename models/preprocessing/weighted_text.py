"""Values with weights as lists have them, `a:0.3`, inside the graph.

The last separator stands before the weight; the ingest has the same rule, see
`Column` in components/click_log_gen/columns.
"""

from __future__ import annotations

import re

import tensorflow as tf

_WEIGHT = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def values(texts: tf.Tensor, separator: str | None) -> tf.Tensor:
    """The values alone, string [V]; `texts` where there is no separator."""
    if separator is None:
        return texts
    return tf.strings.regex_replace(texts, _pattern(separator), r"\1")


def numbers(texts: tf.Tensor, separator: str) -> tf.Tensor:
    """The weights, float32 [V]; 1 where a text has none."""
    weights = _weights(texts, separator)
    weights = tf.where(tf.equal(weights, ""), "1", weights)
    return tf.strings.to_number(weights, tf.float32)


def rests(name: str, texts: tf.Tensor, separator: str) -> tf.Tensor:
    """The part of each text behind its value, string [V].

    The graph fails with InvalidArgumentError, which names the feature, where
    a weight is no finite number of 0 or more.
    """
    weights = _weights(texts, separator)
    none = tf.equal(weights, "")
    good = none | tf.strings.regex_full_match(weights, _WEIGHT)
    number = tf.where(good & ~none, weights, "1")
    good &= tf.math.is_finite(tf.strings.to_number(number, tf.float32))
    check = tf.debugging.Assert(
        tf.reduce_all(good),
        [
            (
                f"feature {name!r}: accepted is a weight of 0 or more behind"
                f" {separator!r}. Received:"
            ),
            tf.boolean_mask(texts, ~good)[:1],
        ],
    )
    before = tf.strings.length(values(texts, separator))
    with tf.control_dependencies([check]):
        return tf.strings.substr(
            texts, before, tf.strings.length(texts) - before
        )


def _weights(texts: tf.Tensor, separator: str) -> tf.Tensor:
    """The text of each weight, "" without one."""
    pattern = _pattern(separator)
    found = tf.strings.regex_replace(texts, pattern, r"\2")
    has = tf.strings.regex_full_match(texts, pattern)
    return tf.where(has, found, tf.zeros_like(found))


def _pattern(separator: str) -> str:
    return rf"\A(?s)(.*){re.escape(separator)}(.*)\z"
