"""The tiny model of the server's tests as an artifact, and its eval rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.types import standard_artifacts

from components.serving_gate.executor import Executor
from tests.examples import example
from tests.serving.tiny import export

NAME = "tiny"
ROWS = 40


def model(folder: Path, bias: float = 0.0, **options: Any) -> Any:
    """A Model artifact of `tests.serving.tiny`; see `export` there."""
    export(folder / "Format-Serving", bias, **options)
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    return artifact


def examples(folder: Path, users: Sequence[int] = range(ROWS)) -> Any:
    """Examples with values that are missing, long, or no Unicode."""
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(folder), '["train", "eval"]'
    split = folder / "Split-eval"
    split.mkdir(parents=True)
    name = str(split / "rows-00000-of-00001.gz")
    with tf.io.TFRecordWriter(name, "GZIP") as writer:
        for row, user in enumerate(users):
            columns: dict[str, Any] = {"label": row % 2, "user": user}
            if row % 3:
                columns["I1"] = 0.1 * row
            if row % 5:
                columns["C1"] = b"\xff" if row % 7 == 0 else "é" * row
            writer.write(example(**columns))
    return artifact


def gate(
    model: Any,
    examples: Any,
    folder: Path,
    blessed: bool = True,
    **section: Any,
) -> Any:
    """Runs the ServingGate; returns its output artifact.

    Versions are looked for in `folder`, where the output goes to.
    """
    evaluated = standard_artifacts.ModelBlessing()
    evaluated.uri = str(folder / "evaluated")
    evaluated.set_int_custom_property("blessed", int(blessed))
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(folder / "blessing")
    Executor().Do(
        {
            "model": [model],
            "model_blessing": [evaluated],
            "examples": [examples],
        },
        {"blessing": [blessing]},
        {
            "settings": json.dumps(
                {
                    "serving_gate": section,
                    "name": NAME,
                    "split": "eval",
                    "separators": {},
                }
            ),
            "pushed_to": str(folder / "models" / NAME),
        },
    )
    return blessing
