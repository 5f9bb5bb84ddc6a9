"""Vectors of fixed length: ingest and graph against one rule in Python."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.columns.rows import ColumnForm, Verdicts
from components.click_log_gen.columns.rows import Rows as LogRows
from models.config.features import Features
from models.config.vectors import VectorFeature
from models.preprocessing import vector_text
from models.preprocessing.input_layout import layout
from models.preprocessing.preprocessing_fn import Analysis, transformed

ITEM = VectorFeature(name="item", size=3)


def read(text: str) -> list[float] | None:
    """Numbers of a text; none for "", None where it is wrong."""
    parts = text.split(",") if text else []
    found = []
    for part in parts:
        if not re.fullmatch(
            r"\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", part, re.ASCII
        ):
            return None
        with np.errstate(over="ignore"):
            found.append(float(np.float32(part)))
    if len(found) not in (0, 3) or any(map(math.isinf, found)):
        return None
    return found


def ingested(array: pa.Array, loose: bool = False) -> tuple[Any, Verdicts]:
    verdicts = Verdicts.none(len(array))
    rows = LogRows({}, np.arange(len(array)), lambda i: ("", b""))
    rows.loose = {"item"} if loose else ()
    column = rows.column("item", ("n/a",), ColumnForm("vector", ",", None, 3))
    return column.vectors(array, verdicts), verdicts


NUMBERS = st.one_of(
    st.floats(width=32).map(lambda x: str(np.float32(x))),
    st.sampled_from(["1", "-.5", " 2 ", "1e-3", "3.", "", "x", "+1", "1e39"]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.lists(NUMBERS, min_size=3, max_size=3),
        st.lists(NUMBERS, max_size=5),
    )
)
def test_the_ingest_and_the_graph_read_what_python_reads(
    numbers: list[str],
) -> None:
    text = ",".join(numbers)
    truth = read(text)
    kept, verdicts = ingested(pa.array([text]))
    assert verdicts.good[0] == (truth is not None), verdicts.reasons
    column = tf.constant([text, ""])
    if truth is None:
        assert verdicts.reasons[0].startswith("column item: ")
        with pytest.raises(tf.errors.InvalidArgumentError, match="'item'"):
            vector_text.checked(column, ITEM)
        return
    assert kept.type == pa.list_(pa.float32())
    assert (kept[0].as_py() or []) == truth
    found = vector_text.checked(column, ITEM).numpy()
    assert np.isnan(found[1]).all()
    assert found[0].tolist() == truth or (
        np.isnan(found[0]).all() and not truth
    )


def test_lists_of_any_numbers_are_vectors() -> None:
    wanted = [[1.0, 2.0, 3.0], None, None, [0.0, -1.0, 0.5]]
    rows = [[1, 2, 3], None, [], [0, -1, 0.5]]
    for kind in (pa.float32(), pa.float64()):
        kept, verdicts = ingested(pa.array(rows, pa.list_(kind)))
        assert verdicts.good.all()
        assert kept.to_pylist() == wanted
    texts = [row and list(map(str, row)) for row in rows]
    assert ingested(pa.array(texts))[0].to_pylist() == wanted
    lone = pa.array([["1, 2,3"], [], ["n/a"], ["0", "-1", ".5"]])
    assert ingested(lone, loose=True)[0].to_pylist() == wanted
    fixed = pa.array([[1.0, 2, 3]], pa.list_(pa.float32(), 3))
    assert ingested(fixed)[0].to_pylist() == wanted[:1]
    words = pa.array(["1,2,3", "n/a", "", "0,-1,0.5"])
    assert ingested(words)[0].to_pylist() == wanted


def test_wrong_lengths_and_numbers_are_told() -> None:
    rows = [[1.0, 2.0], [1.0, None, 2.0], [1.0, math.nan, 2.0], [1.0] * 3]
    _, verdicts = ingested(pa.array(rows))
    assert verdicts.good.tolist() == [False, False, False, True]
    other = "column item: a vector of other than 3 numbers"
    none = "column item: not a finite number in the vector"
    assert verdicts.reasons == {0: other, 1: none, 2: none}


def test_a_vector_is_numbers_and_an_indicator_to_the_model() -> None:
    features = Features.model_validate(
        {"vectors": [{"name": "item", "size": 3}, {"name": "new", "size": 2}]}
    )
    dense = layout(features, lambda _: 0).dense
    assert dense == (
        "item_0", "item_1", "item_2", "item_missing",
        "new_0", "new_1", "new_missing",
    )  # fmt: skip
    column = tf.sparse.SparseTensor(
        [[0, 0], [0, 1], [0, 2]], tf.constant([1.0, 2, 3]), [2, 3]
    )
    found = transformed(
        {"item": column}, features, Analysis({}, None, None, {})
    )
    assert found["dense"].numpy().tolist() == [
        [1, 2, 3, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 1],
    ]
