"""TF Serving restores an export's weights and answers as Python does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.export import Served, export
from serving import graph
from serving.errors import ServingError
from tests import stock_serving
from tests.models.test_compact_table import FEATURES, Transform, a_model

COLUMNS: dict[str, Any] = {
    "x": np.linspace(0, 1, 40, dtype=np.float32),
    "a": np.arange(40) * 37 % 2000,
    "b": np.arange(40) * 11 % 300,
}


class WithTable(keras.layers.Layer):
    """A user's layer: weights, and a lookup table beside them."""

    def __init__(self) -> None:
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(
            tf.range(300, dtype=tf.int64), tf.range(300, dtype=tf.int64)[::-1]
        )
        self.lookup = tf.lookup.StaticHashTable(pairs, 0)
        self.weight = self.add_weight(shape=(300,), initializer="normal")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return tf.gather(self.weight, self.lookup.lookup(inputs["ids"][:, 1]))


@pytest.mark.parametrize("name", ["wide_deep", "tfrs_dcn", "user"])
def test_tf_serving_restores_the_weights(tmp_path: Path, name: str) -> None:
    model = WithTable() if name == "user" else a_model(name)
    export(Served(model, Transform(), FEATURES), str(tmp_path), {})
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    columns = {key: tf.constant(value) for key, value in COLUMNS.items()}
    expected = loaded(**columns)["ctr"].numpy()
    found = stock_serving.ask(str(tmp_path), COLUMNS)
    assert np.array_equal(found, expected)
    assert np.std(found) > 0.005
    graph.check_restored(parsed(tmp_path))


def test_weights_that_tf_serving_would_not_restore_are_named(
    tmp_path: Path,
) -> None:
    module = tf.Module()
    module.layer = keras.layers.Dense(1, name="last")
    module.layer.build((None, 2))
    module.call = tf.function(
        lambda x: {"ctr": module.layer(x)},
        input_signature=[tf.TensorSpec([None, 2])],
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.call)
    with pytest.raises(ServingError, match=r"not restore.*last/kernel"):
        graph.check_restored(parsed(tmp_path))


def test_the_file_of_a_lookup_table_is_no_weight(tmp_path: Path) -> None:
    """The initialization assigns its name to a variable."""
    (tmp_path / "words").write_text("a\nb\n", "utf-8")
    module = tf.Module()
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words"),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    module.table = tf.lookup.StaticHashTable(words, -1)
    module.call = tf.function(
        lambda x: {"id": module.table.lookup(x)},
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    folder = tmp_path / "export"
    tf.saved_model.save(module, str(folder), signatures=module.call)
    found = parsed(folder)
    assert "__saved_model_init_op" in found.signature_def
    graph.check_restored(found)


def parsed(folder: Path) -> Any:
    return graph.parse((folder / "saved_model.pb").read_bytes())
