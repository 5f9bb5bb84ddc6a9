"""Columns whose names TensorFlow does not take are served by them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.config.served_names import served_name
from models.config.training import Features
from models.export import Served, export
from tests.serving.tiny import RunningServer

ROW = {"Ad ID": 0.5, "user.id": 1.0, "1x": -2.0, "köln": "abc", "plain": 0.25}
SERVED = {
    "Ad ID": "Ad_ID",
    "user.id": "user_id",
    "1x": "f_1x",
    "köln": "k_ln",
    "plain": "plain",
}
FEATURES = Features.model_validate(
    {
        "numeric": ["Ad ID", "user.id", "1x", "plain"],
        "categorical": ["köln"],
    }
)
CTR = 1 / (1 + math.exp(0.25 - 3))


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return lambda raw: {k: tf.sparse.to_dense(v) for k, v in raw.items()}

    def raw_feature_spec(self) -> dict[str, Any]:
        types = {"float": tf.float32, "string": tf.string}
        return {
            name: tf.io.VarLenFeature(types[kind])
            for name, kind in FEATURES.kinds().items()
        }


def model(inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """The sum of the numbers and of the text's length."""
    assert not training
    values = dict(inputs)
    length = tf.strings.length(values.pop("köln"))
    logits = tf.add_n([*values.values(), tf.cast(length, tf.float32)])
    return logits[:, 0]


@pytest.mark.parametrize(
    ("raw", "served"),
    [
        *SERVED.items(),
        ("class", "f_class"),
        ("self", "f_self"),
        ("_x", "f__x"),
        ("a:b", "a_b"),
        ("a-b", "a_b"),
        ("C1_2", "C1_2"),
    ],
)
def test_a_name_is_kept_where_it_can_be(raw: str, served: str) -> None:
    assert served_name(raw) == served


def test_a_request_has_the_columns_own_names(
    server: RunningServer, tmp_path: Path
) -> None:
    export(Served(model, Transform(), FEATURES), str(tmp_path / "m"), {})
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    (_, inputs) = loaded.signatures[
        "serving_default"
    ].structured_input_signature
    assert sorted(inputs) == sorted(SERVED.values())
    # Its inputs are not those of version 1: only a pin makes it served.
    (server.model_dir / ".pinned").write_text("2")
    (tmp_path / "m").rename(server.model_dir / "2")
    server.wait_for(lambda: server.states().get(2) == "AVAILABLE")
    by_served = {SERVED[name]: value for name, value in ROW.items()}
    for row in (ROW, by_served):
        status, answer = server.predict({"instances": [row]})
        assert (status, answer["predictions"]) == (200, [pytest.approx(CTR)])
        columns = {name: [value] for name, value in row.items()}
        status, answer = server.predict({"inputs": columns})
        assert (status, answer["outputs"]) == (200, [pytest.approx(CTR)])
        tensors = [
            {
                "name": name,
                "shape": [1],
                "datatype": "BYTES" if isinstance(value, str) else "FP32",
                "data": [value],
            }
            for name, value in row.items()
        ]
        status, answer = server.call(
            "/v2/models/tiny/infer", {"inputs": tensors}
        )
        assert status == 200, answer
        assert answer["outputs"][0]["data"] == [pytest.approx(CTR)]
    lacking = {**ROW}
    del lacking["user.id"]
    status, answer = server.predict({"instances": [lacking]})
    assert status == 400 and "missing feature 'user.id'" in answer["error"]
    twice = {"instances": [{**ROW, "user_id": 1.0}]}
    status, answer = server.predict(twice)
    assert status == 400 and "unknown feature 'user_id'" in answer["error"]
