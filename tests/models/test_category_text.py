"""The exported graph and the ingest give one value one text."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.value_text import category
from models.preprocessing.category_text import canonical

WORDS = ["true", "True", "TRUE", "false", "False", "FALSE"]
NUMBERS = ["1.0", "-3.00", "-0.0", "-0", "007", "01.0", "1.50", "1e5", "4.0\n"]
TEXTS = st.one_of(
    st.sampled_from([*WORDS, *NUMBERS, "tRUE", " true", "true ", "", ".0"]),
    st.from_regex(r"-?[0-9]{1,3}\.[0-9]{1,2}", fullmatch=True),
    st.text(max_size=6),
).filter(lambda text: "|" not in text)


def expected(text: str) -> str:
    return category(text) or ""


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, max_size=8), st.lists(st.lists(TEXTS), max_size=4))
def test_the_graph_and_the_ingest_agree(
    texts: list[str], lists: list[list[str]]
) -> None:
    joined = ["|".join(items) for items in lists]
    raw = {
        "plain": tf.constant(texts, tf.string),
        "list": tf.constant(joined, tf.string),
        "number": tf.constant([1.0]),
    }
    found = canonical(raw, {"plain": None, "list": "|"})
    assert found["number"] is raw["number"]
    assert [v.decode() for v in found["plain"].numpy()] == [
        expected(text) for text in texts
    ]
    # The join may drop values without text, which are missing anyway.
    assert [items(v.decode()) for v in found["list"].numpy()] == [
        list(filter(None, map(expected, row))) for row in lists
    ]


def items(text: str) -> list[str]:
    return [item for item in text.split("|") if item]


def test_sparse_values_keep_their_rows() -> None:
    sparse = tf.sparse.from_dense([["true"], [""], ["4.0"], ["x"]])
    found = canonical({"a": sparse}, {"a": None})["a"]
    assert found.values.numpy().tolist() == [b"1", b"4", b"x"]
    assert np.array_equal(found.indices, sparse.indices)


def test_bytes_that_are_not_unicode_stay() -> None:
    raw = {"a": tf.constant([b"\xff\xfe", b"true\xff"])}
    found = canonical(raw, {"a": None})["a"].numpy()
    assert found.tolist() == [b"\xff\xfe", b"true\xff"]
