"""Small examples and exported models, and the Evaluator run on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator.component import Evaluator
from components.evaluator.config import EvaluateConfig
from components.evaluator.eval_config import eval_config
from components.evaluator.executor import Executor
from components.example_io.tf_example import timed
from tests.examples import example

KINDS = {"site": "string", "tags": "string", "age": "int", "user": "string"}


class Model(tf.Module):
    """Says a probability that each example holds as a feature."""

    def __init__(self, column: str) -> None:
        super().__init__()
        self._column = column

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {self._column: tf.io.FixedLenFeature([], tf.float32)}
        return {"ctr": tf.io.parse_example(examples, spec)[self._column]}


def rows(count: int = 2000, seed: int = 1) -> dict[str, Any]:
    """Columns: label, probabilities of two models, and what to slice by."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.2, count)
    label = rng.random(count) < 1 / (1 + np.exp(-logit))

    def said(noise: float) -> Any:
        odds = logit + rng.normal(0, noise, count)
        return (1 / (1 + np.exp(-odds))).astype(np.float32)

    return {
        "label": label.astype(np.int64),
        "better": np.round(said(0.3), 3),  # rounded: there are ties
        "worse": said(1.5),
        "site": [b"s%d" % i if i else None for i in rng.integers(0, 4, count)],
        "tags": [
            [b"t%d" % t for t in rng.integers(0, 3, n)]
            for n in rng.integers(0, 3, count)
        ],
        "age": rng.integers(20, 23, count),
        "user": [b"u%d" % u for u in rng.integers(0, count // 10, count)],
    }


def write(
    folder: Path,
    columns: Mapping[str, Any],
    split: str = "eval",
    times: Any = None,
) -> Any:
    """An Examples artifact of `columns`, in two files; times in µs."""
    count = len(columns["label"])
    target = folder / f"Split-{split}"
    target.mkdir(parents=True)
    writers = [
        tf.io.TFRecordWriter(str(target / "a.gz"), "GZIP"),
        tf.io.TFRecordWriter(str(target / "b")),
    ]
    for row in range(count):
        there = {
            name: values[row]
            for name, values in columns.items()
            if not (values[row] is None or isinstance(values[row], list))
            or values[row]
        }
        record = example(**there)
        if times is not None:
            (record,) = timed(
                pa.array([record], pa.binary()), times[row : row + 1]
            ).to_pylist()
        writers[row >= count // 2].write(record)
    for writer in writers:
        writer.close()
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names([split])
    return artifact


def export(folder: Path, column: str) -> Any:
    """A Model artifact that says what `column` holds."""
    model = Model(column)
    tf.saved_model.save(
        model,
        str(folder / "Format-Serving"),
        signatures={"examples": model.examples},
    )
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    return artifact


def evaluated(
    folder: Path,
    examples: Any,
    models: Sequence[Any],
    evaluate: Mapping[str, Any],
    stock: bool = False,
    split: str = "eval",
    **settings: Any,
) -> tuple[Path, Any]:
    """Runs the executor, or TFX's own; its evaluation and its blessing."""
    config = EvaluateConfig.model_validate(evaluate)
    component = Evaluator(
        examples=channel(examples),
        model=channel(models[0]),
        baseline_model=(channel(models[1]) if len(models) > 1 else None),
        example_splits=[split],
        eval_config=eval_config(
            config.thresholds(), config.slices, len(models) > 1
        ),
        settings=None
        if stock
        else {
            "evaluate": config.model_dump(mode="json"),
            "kinds": KINDS,
            **settings,
        },
    )
    outputs = {
        "evaluation": standard_artifacts.ModelEvaluation(),
        "blessing": standard_artifacts.ModelBlessing(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(folder / name)
        (folder / name).mkdir(parents=True)
    (folder / "tmp").mkdir()
    executor = Executor(
        BaseBeamExecutor.Context(
            beam_pipeline_args=["--runner=FnApiRunner"],
            tmp_dir=str(folder / "tmp"),
            unique_id="1",
        )
    )
    inputs = {"examples": [examples], "model": [models[0]]}
    if len(models) > 1:
        inputs["baseline_model"] = [models[1]]
    executor.Do(
        inputs,
        {name: [artifact] for name, artifact in outputs.items()},
        dict(component.exec_properties),
    )
    return folder / "evaluation", outputs["blessing"]


def channel(artifact: Any) -> Any:
    """A channel of the artifact's type."""
    from tfx.types import channel_utils

    return channel_utils.as_channel([artifact])


def read(evaluation: Path) -> dict[str, Any]:
    """Our JSON file."""
    found: dict[str, Any] = json.loads(
        (evaluation / "evaluation.json").read_text()
    )
    return found
