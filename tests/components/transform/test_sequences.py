"""A sequence from the log to the model: training and signatures agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.transform.executor import Executor
from models.architectures.registry import build_model
from models.config.training import Features, ModelConfig
from models.export import Served
from models.preprocessing.input_layout import layout
from models.preprocessing.transform_assets import asset_lines
from tests.components.click_log_gen.ingest import (
    convert_log,
    example,
    log_of,
)
from tests.components.transform.runs import read, run

SEQUENCE: dict[str, Any] = {
    "of": "seen",
    "items": "ad",
    "max_len": 3,
    "sides": [{"of": "kinds", "items": "kind"}, {"of": "gaps"}],
}
FEATURES = {
    "categorical": [
        {"name": "ad", "min_count": 1, "dim": 4},
        {"name": "kind", "encode": "hash", "buckets": 9, "dim": 2},
    ],
    "sequences": [SEQUENCE],
}
# Values of the log; items, kinds and gaps that the model sees, newest first.
ROWS: list[tuple[Any, Any, Any, list[str], list[str], list[float]]] = [
    ("a|b", "x|y", "3|0", ["b", "a"], ["y", "x"], [0, 3]),
    (["a", "b", "c", "a"], "w|x|y|z", [9, 7, 5, 1],
     ["a", "c", "b"], ["z", "y", "x"], [1, 5, 7]),
    ("", None, "", [], [], []),
    (None, "", None, [], [], []),
    (["c"], ["z"], [2.5], ["c"], ["z"], [2.5]),
    ("a||b", "x|y|", "1|2|3", ["b", "a"], ["", "x"], [3, 1]),
    ([None, "b"], ["x", ""], [1, 2], ["b"], [""], [2]),
    ("new|b", "x|x", "1e2|-1", ["b", "new"], ["x", "x"], [-1, 100]),
]  # fmt: skip
BAD = [
    (["a", "b"], ["x"], [1, 2], "kinds: not as many values as seen has"),
    ("a|b", "x|y", "1|2|3", "gaps: not as many values as seen has"),
    ("a", "x", "", "gaps: not as many values as seen has"),
    (["a|b"], ["x"], [1], "seen: a value with the separator '|' in it"),
    ("a|b", "x|y", "1|", "gaps: not a finite number"),
]


def asked(order: str) -> list[tuple[Any, ...]]:
    """Values of ROWS in this order."""
    if order == "newest_last":
        return [row[:3] for row in ROWS]
    turned = []
    for row in ROWS:
        values = [
            v.split("|")[::-1] if isinstance(v, str) else v and v[::-1]
            for v in row[:3]
        ]
        turned.append(
            tuple(
                "|".join(v) if isinstance(old, str) else v
                for v, old in zip(values, row[:3], strict=True)
            )
        )
    return turned


@pytest.mark.parametrize(
    "order",
    ["newest_last", pytest.param("newest_first", marks=pytest.mark.slow)],
)
def test_training_and_serving_see_the_items_of_the_log(
    tmp_path: Path, order: str
) -> None:
    given = {**FEATURES, "sequences": [{**SEQUENCE, "order": order}]}
    rows = [
        dict(zip(("seen", "kinds", "gaps"), values, strict=True))
        for values in [*asked(order) * 2, *(row[:3] for row in BAD)]
    ]
    for number, row in enumerate(rows):
        row |= {"click": number % 2, "ad": "abcc"[number % 4], "kind": "x"}
    log = tmp_path / "log"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    features = Features.model_validate(given)
    lists, sizes = features.lists(), features.sizes()
    beside = features.sequence_of()
    columns = {
        n: (k, lists.get(n), None, sizes.get(n, 0), beside.get(n))
        for n, k in features.kinds().items()
    }
    output = convert_log(
        tmp_path / "out",
        log_of(log, "jsonl"),
        columns,
        split_by={"by": "order", "eval": 0.4},
    )
    reasons = [row["reason"] for row in output.rejected]
    for reason, (*_, expected) in zip(reasons, BAD, strict=True):
        assert expected in reason
    types = {"string": tf.string, "vector": tf.float32}
    spec: dict[str, Any] = {
        name: tf.io.VarLenFeature(types[kind])
        for name, kind in features.kinds().items()
    }
    spec["label"] = tf.io.VarLenFeature(tf.int64)
    files = {s: {"data": getattr(output, s)} for s in ("train", "eval")}
    graph = run(Executor, tmp_path / "transform", files, spec, given)
    words = [word.decode() for word in asset_lines(graph, "vocab_ad")]
    assert sorted(words) == ["a", "b", "c"]  # those of the feature alone
    found = read(tmp_path / "transform", "eval", graph)
    kept = (ROWS * 2)[-len(found):]  # fmt: skip
    known = [*words, "new"]
    assert [[known[i - 1] for i in row["list_seen"]] for row in found] == [
        items for _, _, _, items, _, _ in kept
    ]
    for row, (*_, kinds, gaps) in zip(found, kept, strict=True):
        hashed = tf.strings.to_hash_bucket_fast(kinds, 9).numpy() + 1
        ids = np.where(np.array(kinds) == "", 0, hashed)
        assert row["list_kinds"] == ids.tolist()
        expected = np.sign(gaps) * np.log1p(np.abs(gaps))
        np.testing.assert_allclose(row["numbers_gaps"], expected, rtol=1e-6)

    shape = layout(features, lambda name: len(asset_lines(graph, name)))
    model = build_model(shape, ModelConfig(name="din", hidden=(8,)), 0.3)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    inputs = {"ids": tf.constant([row["ids"] for row in found], tf.int64)} | {
        name: tf.ragged.constant([row[name] for row in found], kind, 1)
        for name, kind in (
            ("list_seen", tf.int64),
            ("list_kinds", tf.int64),
            ("numbers_gaps", tf.float32),
        )
    }
    trained = tf.sigmoid(model(inputs)).numpy()
    served = Served(model, graph, features)
    raw = [
        example(**{name: row[name] for name in columns}) for row in output.eval
    ]
    answers = served.exported["examples"](tf.constant(raw))["ctr"]
    np.testing.assert_allclose(answers, trained, rtol=0, atol=1e-6)

    def request(rows: list[tuple[Any, ...]]) -> Any:
        texts = [
            v if isinstance(v, str) else "|".join(str(i or "") for i in v or ())
            for row in rows
            for v in row
        ]
        ads = [row["ad"] for row in output.eval]
        return served.exported["serving_default"](
            {
                "ad": tf.constant((ads + ["a"] * len(rows))[: len(rows)]),
                "kind": tf.constant(["x"] * len(rows)),
                "seen": tf.constant(texts[::3]),
                "kinds": tf.constant(texts[1::3]),
                "gaps": tf.constant(texts[2::3]),
            }
        )["ctr"]

    same = request((asked(order) * 2)[-len(found) :])
    np.testing.assert_allclose(same, trained, rtol=0, atol=1e-6)
    for bad in (BAD[0], BAD[1]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many"):
            request([bad[:3]])
