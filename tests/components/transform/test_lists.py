"""A list from the log to the model: training and both signatures agree."""

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
from tests.components.click_log_gen.ingest import convert_log, log_of
from tests.components.transform.runs import read, run
from tests.examples import example

FEATURES = {
    "categorical": [
        "site",
        {"name": "tags", "list": "|", "min_count": 1},
        {"name": "hashed", "list": "|", "encode": "hash", "buckets": 99},
    ]
}
# A value of the log, the ids' values in order.
LISTS: list[tuple[Any, list[str]]] = [
    (["a|b", "c"], ["a|b", "c"]),
    (["a|b"], ["a|b"]),
    ("a|b", ["a", "b"]),
    ([], []),
    (None, []),
    (["a"], ["a"]),
    ([None, "c", "c"], ["c", "c"]),
    (["True", "4.0", ""], ["1", "4"]),
]


def test_training_and_serving_see_the_values_of_the_log(tmp_path: Path) -> None:
    rows = [
        {"click": i % 2, "site": "s", "tags": value, "hashed": value}
        for i, (value, _) in enumerate(LISTS * 2)
    ]
    log = tmp_path / "log"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    features = Features.model_validate(FEATURES)
    lists = features.lists()
    columns = {n: (k, lists.get(n)) for n, k in features.kinds().items()}
    output = convert_log(
        tmp_path / "out",
        log_of(log, "jsonl"),
        columns,
        split_by={"by": "order", "eval": 0.5},
    )
    assert output.rejected == []
    spec: dict[str, Any] = {n: tf.io.VarLenFeature(tf.string) for n in columns}
    spec["label"] = tf.io.VarLenFeature(tf.int64)
    files = {s: {"data": getattr(output, s)} for s in ("train", "eval")}
    graph = run(Executor, tmp_path / "transform", files, spec, FEATURES)
    words = [word.decode() for word in asset_lines(graph, "vocab_tags")]
    # Counted by hand: the commonest first, ties from the last on.
    assert words == ["c", "a|b", "a", "b", "4", "1"]
    found = read(tmp_path / "transform", "eval", graph)
    assert [[words[i - 1] for i in row["list_tags"]] for row in found] == [
        items for _, items in LISTS
    ]

    shape = layout(features, lambda name: len(asset_lines(graph, name)))
    model = build_model(shape, ModelConfig(hidden=(8,)), 0.3)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    trained = tf.sigmoid(
        model(
            {
                "ids": tf.constant([row["ids"] for row in found], tf.int64),
                **{
                    name: tf.ragged.constant(
                        [row[name] for row in found], tf.int64, 1
                    )
                    for name in ("list_tags", "list_hashed")
                },
            }
        )
    ).numpy()
    assert len(set(trained.round(6).tolist())) > 4
    served = Served(model, graph, features)
    raw = [
        example(
            site=row["site"],
            **{
                name: [row[name]] if isinstance(row[name], str) else row[name]
                for name in lists
            },
        )
        for row in output.eval
    ]
    answers = served.exported["examples"](tf.constant(raw))["ctr"]
    np.testing.assert_allclose(answers, trained, rtol=0, atol=1e-6)
    asked = served.exported["serving_default"](
        {
            "site": tf.constant(["s"] * len(LISTS)),
            "tags": tf.constant(["|".join(items) for _, items in LISTS]),
            "hashed": tf.constant(["|".join(i) for _, i in LISTS]),
        }
    )["ctr"].numpy()
    sayable = ["|" not in "".join(items) for _, items in LISTS]
    assert asked[sayable] == pytest.approx(trained[sayable], abs=1e-6)
