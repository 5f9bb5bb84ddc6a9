"""Lists with weights: ingest, graph and pooling, against one rule in Python."""

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

from components.click_log_gen.columns.rows import Column, Verdicts
from components.click_log_gen.columns.value_text import category
from models.config.features import Features
from models.layers.embedding import FusedTable
from models.preprocessing.category_text import canonical
from models.preprocessing.input_layout import IdFeature, Layout
from models.preprocessing.preprocessing_fn import Analysis, transformed
from models.training import linear_start

HASHED = {"encode": "hash", "buckets": 1000}


def tags(sign: str) -> Features:
    feature = {"name": "tags", "list": "|", "weights": sign, **HASHED}
    return Features.model_validate({"categorical": [feature]})


def read(item: str, sign: str) -> tuple[str, float] | None:
    """Value and weight of an item; None where the weight is none."""
    value, found, weight = item.rpartition(sign)
    if not found:
        return category(item) or "", 1.0
    if weight and not re.fullmatch(
        r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", weight, re.ASCII
    ):
        return None
    with np.errstate(over="ignore"):
        number = float(np.float32(weight or "1"))
    if math.isinf(number):
        return None
    return category(value) or "", number


ITEMS = st.one_of(
    st.sampled_from(
        ["a", "b:0.3", "a:", ":2", ":", "c:1e-3", "x:y:2", "x:y", "d:-1",
         "d:+1", "e:nan", "e:inf", "f:1e39", "f:3.4e38", "g: 1", "True:.5",
         "4.0:5.", "h:0", "", "1:2:", "ü:0.1", "i:0x1", "j:1e-60", "k:1 "]
    ),
    st.text("a:.e1-", max_size=5),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEMS, max_size=4), st.sampled_from([":", "::", "="]))
def test_the_ingest_and_the_graph_read_what_python_reads(
    items: list[str], sign: str
) -> None:
    items = [item.replace("=", sign).replace(":", sign) for item in items]
    truth = [read(item, sign) for item in items]
    text = "|".join(items)
    verdicts = Verdicts.none(1)
    column = Column("tags", separator="|", weights=sign)
    kept = column.items(pa.array([text]), verdicts)
    features = tags(sign)
    given = {"tags": tf.constant([text])}
    if None in truth:
        assert not verdicts.good[0]
        assert "tags: a weight behind" in verdicts.reasons[0]
        with pytest.raises(tf.errors.InvalidArgumentError, match="'tags'"):
            canonical(given, features.lists(), features.weighted())
        return
    assert verdicts.good[0], verdicts.reasons
    expected = [one for one in truth if one is not None and one[0]]
    ids = [
        1 + int(tf.strings.to_hash_bucket_fast(value, 1000))
        for value, _ in expected
    ]
    ingested = tf.ragged.constant([kept[0].as_py() or []], tf.string, 1)
    for raw in (
        canonical(given, features.lists(), features.weighted()),
        {"tags": ingested.to_sparse()},
    ):
        found = transformed(raw, features, Analysis({}, None, None, {}))
        assert found["list_tags"].to_list() == [ids]
        (weights,) = found["weights_tags"].to_list()
        assert weights == [weight for _, weight in expected]


def test_missing_words_are_left_out_with_their_weights() -> None:
    verdicts = Verdicts.none(3)
    column = Column("t", ("n/a",), separator="|", weights=":")
    lists = pa.array([["n/a:2", "a|b:1", None], ["n/a"], None])
    found = column.items(lists, verdicts)
    assert verdicts.good.all()
    # An empty value beside a lone one with the separator: it is no text.
    assert found.to_pylist() == [["a|b:1", ""], None, None]


LAYOUT = Layout(
    single=(IdFeature("a", 7, 3),),
    lists=(
        IdFeature("mean", 9, 3, weighted=True),
        IdFeature("sum", 9, 3, pool="sum", weighted=True),
        IdFeature("plain", 9, 3, pool="sum"),
        IdFeature("even", 9, 3),
    ),
    dense=(),
)


def inputs(rows: int = 50) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    found = {"ids": tf.constant(rng.integers(0, 7, (rows, 1)))}
    for f in LAYOUT.lists:
        lengths = rng.integers(0, 4, rows)
        ids = rng.integers(0, 9, lengths.sum())
        weights = rng.choice([0, 0, 0.25, 1, 3], lengths.sum())
        found[f"list_{f.name}"] = tf.RaggedTensor.from_row_lengths(ids, lengths)
        if f.weighted:
            found[f"weights_{f.name}"] = tf.RaggedTensor.from_row_lengths(
                weights.astype(np.float32), lengths
            )
    return found


def shares(batch: dict[str, Any], f: IdFeature, row: int) -> list[float]:
    """How much each value of a list counts."""
    count = len(batch[f"list_{f.name}"][row])
    weights = [1.0] * count
    if f.weighted:
        weights = batch[f"weights_{f.name}"][row].numpy().tolist()
    if f.pool == "sum":
        return weights
    total = sum(weights)
    return [weight / total if total else 0.0 for weight in weights]


def test_lists_are_pooled_by_their_weights() -> None:
    batch = inputs()
    layer = FusedTable(LAYOUT, LAYOUT.ids, 3, stddev=1.0)
    layer.build()
    pooled = layer(batch).numpy()
    table = layer.table.numpy()
    for place, f in enumerate(LAYOUT.lists, 1):
        for row in range(50):
            ids = batch[f"list_{f.name}"][row].numpy()
            rows = table[layer.lookup.first[f.name] + ids]
            expected = np.array(shares(batch, f, row)) @ rows.reshape(-1, 3)
            np.testing.assert_allclose(
                pooled[row, place], expected, rtol=1e-5, atol=1e-6
            )


def test_the_linear_start_counts_values_as_the_wide_part_does() -> None:
    batch = inputs()
    wide = FusedTable(LAYOUT, LAYOUT.ids, 1, shared=False, stddev=1.0)
    wide.build()
    size = wide.lookup.rows
    data = [(batch, tf.zeros([50]))]
    rows = linear_start.rows_of(data, LAYOUT, wide.lookup.first, size, 1.0)
    weights = np.r_[wide.table.numpy()[:, 0].astype(np.float64), 0.0]
    expected = tf.reduce_sum(wide(batch), [1, 2])
    np.testing.assert_allclose(rows.logits(weights), expected, atol=1e-5)
