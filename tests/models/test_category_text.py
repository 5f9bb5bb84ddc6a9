"""The exported graph and the ingest give one value one text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.rows import Column, Verdicts
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
    assert rows_of(found["list"]) == [
        list(filter(None, map(expected, row))) for row in lists
    ]


def rows_of(sparse: tf.SparseTensor) -> list[list[str]]:
    rows = tf.RaggedTensor.from_sparse(sparse).to_list()
    return [[value.decode() for value in row] for row in rows]


ITEMS = st.one_of(TEXTS, st.sampled_from(["a|b", "|", "true|4.0", "a||b|"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ITEMS, max_size=3), max_size=6))
def test_lists_of_an_example_mean_the_same_in_a_log_and_in_a_request(
    lists: list[list[str]],
) -> None:
    wanted = []
    for row in lists:
        values = row[0].split("|") if len(row) == 1 else row
        wanted.append([category(value) for value in values if value])
    graph = rows_of(in_graph(lists))
    assert graph == wanted
    column = Column("c", separator="|", loose=True)
    typed = column.items(
        pa.array(lists, pa.list_(pa.string())), Verdicts.none(len(lists))
    ).to_pylist()
    assert [list(filter(None, row or [])) for row in typed] == wanted
    # The examples that the ingest writes mean the same once more.
    assert rows_of(in_graph([row or [] for row in typed])) == wanted


def in_graph(lists: list[list[str]]) -> tf.SparseTensor:
    raw = {"c": tf.ragged.constant(lists, tf.string, 1).to_sparse()}
    found: tf.SparseTensor = canonical(raw, {"c": "|"})["c"]
    return found


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], []),
        ([""], []),
        (["a"], ["a"]),
        (["a|b"], ["a", "b"]),
        (["a||true"], ["a", "1"]),
        (["a|b", "c"], ["a|b", "c"]),
        (["a|b", ""], ["a|b"]),
        (["a", "a", "4.0"], ["a", "a", "4"]),
    ],
)
def test_one_value_is_a_text_and_several_are_a_list(
    values: list[str], wanted: list[str]
) -> None:
    assert rows_of(in_graph([["x|y", "z"], values])) == [["x|y", "z"], wanted]


def test_sparse_values_keep_their_rows() -> None:
    sparse = tf.sparse.from_dense([["true"], [""], ["4.0"], ["x"]])
    found = canonical({"a": sparse}, {"a": None})["a"]
    assert found.values.numpy().tolist() == [b"1", b"4", b"x"]
    assert np.array_equal(found.indices, sparse.indices)


def test_bytes_that_are_not_unicode_stay() -> None:
    raw = {"a": tf.constant([b"\xff\xfe", b"true\xff"])}
    found = canonical(raw, {"a": None})["a"].numpy()
    assert found.tolist() == [b"\xff\xfe", b"true\xff"]
