"""A SavedModel as the server loads it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.savedmodel import LoadedModel
from tests.serving.tiny import expected_ctr, export


@pytest.mark.parametrize("folder", ["models [1]", "m*", "a?b", "plain"])
def test_a_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "3"
    export(path, 1.0)
    model = LoadedModel(path)
    features = {
        "I1": np.array([0.5], np.float32),
        "C1": np.array([b"ab"], object),
        "user": np.array([7]),
    }
    answer = model.predict("serving_default", features)
    assert answer["ctr"] == pytest.approx(expected_ctr(1.0, 0.5, "ab", 7))


def test_a_version_that_only_python_restores_is_served(tmp_path: Path) -> None:
    module = tf.Module()
    module.layer = keras.layers.Dense(1, kernel_initializer="ones")
    module.layer.build((None, 1))
    module.call = tf.function(
        lambda x: {"ctr": module.layer(x[:, None])[:, 0]},
        input_signature=[tf.TensorSpec([None], tf.float32, "x")],
    )
    tf.saved_model.save(module, str(tmp_path / "3"), signatures=module.call)
    columns = {"x": np.array([0.25, 2], np.float32)}
    found = LoadedModel(tmp_path / "3").predict("serving_default", columns)
    assert found["ctr"].tolist() == [0.25, 2]
