"""An exported model of all kinds of features, rows for it, and the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config.training import Features
from models.export import Served, export
from serving import manifest

FEATURES = {
    "numeric": ["x"],
    "categorical": [
        "c",
        {"name": "tags", "list": "|"},
        {"name": "n", "encode": "identity", "buckets": 9},
        {"name": "position", "serve": "missing"},  # in no log
    ],
}
SPEC = {"x": tf.float32, "c": tf.string, "tags": tf.string, "n": tf.int64}
ROWS: list[dict[str, Any]] = [
    {
        "id": f"r{number}",
        "x": None if number % 7 == 0 else number / 8,
        "c": [None, "1", "é", "blue"][number % 4],
        "tags": [None, "a", "a|b", "1|c|dd"][number // 4 % 4],
        "n": None if number % 5 == 0 else number % 9,
    }
    for number in range(50)
]


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return lambda raw: {k: tf.sparse.to_dense(v) for k, v in raw.items()}

    def raw_feature_spec(self) -> dict[str, Any]:
        return {name: tf.io.VarLenFeature(t) for name, t in SPEC.items()}


def model(inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """Something of every feature; a column that is empty counts as 0."""
    assert not training
    tags = inputs["tags"]  # [N, values], "" where there is none
    parts = (
        inputs["x"],
        inputs["n"],
        2 * tf.strings.length(inputs["c"]),
        tf.strings.length(tags),
        3 * tf.cast(tf.not_equal(tags, ""), tf.int32),
    )
    return 0.1 * tf.add_n(
        [tf.reduce_sum(tf.cast(values, tf.float32), 1) for values in parts]
    )


def ctr(
    x: float | None, c: str | None, tags: str | list[str] | None, n: int | None
) -> Any:
    """Answer of the model, from the formula; a text of tags is split."""
    items = tags.split("|") if isinstance(tags, str) else tags or []
    logit = (x or 0.0) + (n or 0) + 2 * len((c or "").encode())
    logit += sum(len(item.encode()) + 3 for item in items if item)
    return pytest.approx(1 / (1 + np.exp(-0.1 * logit)), rel=1e-5)


def export_model(folder: Path, **about: Any) -> Path:
    """A version; its manifest has the features and `about`."""
    served = Served(model, Transform(), Features.model_validate(FEATURES))
    export(served, str(folder), {"config": {"features": FEATURES}, **about})
    for name, words in (("c", "1\nblue\n"), ("tags", "a\nb\n")):
        (folder / "assets").mkdir(exist_ok=True)
        (folder / f"assets/vocab_{name}").write_text(words)
    manifest.write(str(folder), manifest.about(str(folder)))
    return folder
