"""Vocabularies and ids against stock tf.Transform on the same rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from models.config.training import Features
from models.preprocessing.input_layout import LABEL_COUNTS, layout
from models.preprocessing.preprocessing_fn import preprocessing_fn
from models.preprocessing.vocabulary import EMPTY_VOCABULARY

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Zipf-like categories with ties, rare values, gaps and odd bytes."""
    rng = random.Random(seed)
    odd = ["ü", "a b", "\x00z", "line\nbreak", "cr\r", "Ä|b", "0"]

    def category() -> list[str]:
        if rng.random() < 0.1:
            return []
        if rng.random() < 0.1:
            return [rng.choice(odd)]
        return [LETTERS[min(int(rng.paretovariate(0.7)), 26) - 1]]

    return [
        {
            "c1": category(),
            "c2": category(),
            "tags": rng.choices(LETTERS[:6], k=rng.randint(1, 3)),
            "n1": [rng.gauss(0, 10)] if rng.random() < 0.9 else [],
            "label": [int(rng.random() < 0.3)],
        }
        for _ in range(count)
    ]


SPEC = {
    "c1": tf.io.VarLenFeature(tf.string),
    "c2": tf.io.VarLenFeature(tf.string),
    "tags": tf.io.VarLenFeature(tf.string),
    "n1": tf.io.VarLenFeature(tf.float32),
    "label": tf.io.VarLenFeature(tf.int64),
}
METADATA = dataset_metadata.DatasetMetadata(
    schema_utils.schema_from_feature_spec(SPEC)
)


def transform(
    data: list[dict[str, Any]], function: Any, folder: Path
) -> tuple[list[dict[str, Any]], tft.TFTransformOutput]:
    """Rows through a preprocessing function, and its output folder."""
    with tft_beam.Context(temp_dir=str(folder / "tmp")):
        (transformed, _), transform_fn = (
            data,
            METADATA,
        ) | tft_beam.AnalyzeAndTransformDataset(function)
        _ = transform_fn | tft_beam.WriteTransformFn(str(folder / "out"))
    return transformed, tft.TFTransformOutput(str(folder / "out"))


def vocabulary(output: tft.TFTransformOutput, name: str) -> list[bytes]:
    """Lines of a vocabulary file; values may hold any byte but a newline."""
    path = Path(output.transform_savedmodel_dir) / "assets" / name
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


@pytest.mark.parametrize(
    ("min_count", "max_size"),
    [
        pytest.param(1, 1000, marks=pytest.mark.slow),
        pytest.param(3, 1000, marks=pytest.mark.ci),
        pytest.param(2, 5, marks=pytest.mark.ci),
        pytest.param(10_000, 10, marks=pytest.mark.slow),
    ],
)
def test_vocabularies_and_ids_are_those_of_tft(
    tmp_path: Path, min_count: int, max_size: int
) -> None:
    data = rows(700)
    names = ["c1", "c2"]
    oov = 2

    def stock(inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = {}
        for name in names:
            dense = tf.sparse.to_dense(inputs[name], default_value="")
            dense = tf.reshape(tf.strings.reduce_join(dense, axis=1), [-1])
            outputs[name] = tft.compute_and_apply_vocabulary(
                dense,
                top_k=max_size,
                frequency_threshold=min_count,
                num_oov_buckets=oov,
                vocab_filename=f"vocab_{name}",
            )
        return outputs

    config = {
        "categorical": [
            {
                "name": name,
                "min_count": min_count,
                "max_size": max_size,
                "oov_buckets": oov,
            }
            for name in names
        ]
    }

    def ours(inputs: dict[str, Any]) -> dict[str, Any]:
        return preprocessing_fn(inputs, {"features": config})

    expected, stock_output = transform(data, stock, tmp_path / "stock")
    received, our_output = transform(data, ours, tmp_path / "ours")
    for name in names:
        assert vocabulary(our_output, f"vocab_{name}") == vocabulary(
            stock_output, f"vocab_{name}"
        )
    for column, name in enumerate(names):
        for raw, one, other in zip(data, received, expected, strict=True):
            if raw[name] in ([], [""]):
                assert one["ids"][column] == 0
            else:
                assert one["ids"][column] == 1 + other[name]
    shape = layout(
        Features.model_validate(config),
        lambda name: len(vocabulary(our_output, name)),
    )
    ids = np.array([row["ids"] for row in received])
    assert (ids < [f.size for f in shape.single]).all()
    assert [int(n) for n in vocabulary(our_output, LABEL_COUNTS)] == [
        sum(row["label"] == [0] for row in data),
        sum(row["label"] == [1] for row in data),
    ]


def test_nothing_left_gives_the_placeholder_and_only_unknown_ids(
    tmp_path: Path,
) -> None:
    data = [{"c1": [], "c2": [], "tags": [], "n1": [], "label": [0]}] * 3
    config = {"categorical": [{"name": "c1"}, {"name": "tags", "list": "|"}]}
    received, output = transform(
        data,
        lambda inputs: preprocessing_fn(inputs, {"features": config}),
        tmp_path,
    )
    assert vocabulary(output, "vocab_c1") == [EMPTY_VOCABULARY]
    assert [row["ids"].tolist() for row in received] == [[0]] * 3


def test_lists_are_looked_up_value_by_value(tmp_path: Path) -> None:
    data = rows(300)
    config = {
        "categorical": [{"name": "tags", "list": "|", "min_count": 1}],
        "numeric": [{"name": "n1"}],
    }
    received, output = transform(
        data,
        lambda inputs: preprocessing_fn(inputs, {"features": config}),
        tmp_path,
    )
    words = vocabulary(output, "vocab_tags")
    for raw, row in zip(data, received, strict=True):
        values = row.get("list_tags$ragged_values", row.get("list_tags"))
        found = [words[i - 1].decode() for i in np.ravel(values)]
        assert found == raw["tags"]
