"""Runs a Transform executor on small data, and reads what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.tf_metadata import schema_utils
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.transform import executor
from models.input_pipeline.dataset import Batches
from models.training.run import Files as TrainingFiles
from models.training.run import TrainingRun
from tests.components.click_log_gen.ingest import Row, write_log

Files = Mapping[str, Mapping[str, Sequence[Row]]]  # split -> file -> rows


def run(
    cls: type[Any],
    folder: Path,
    files: Files,
    spec: Mapping[str, Any],
    features: Mapping[str, Any],
    **properties: Any,
) -> tft.TFTransformOutput:
    """`cls`, a Transform executor, on `files`; outputs go to `folder`."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "raw")
    examples.split_names = artifact_utils.encode_split_names(list(files))
    for split, parts in files.items():
        target = Path(artifact_utils.get_split_uri([examples], split))
        target.mkdir(parents=True)
        for name, rows in parts.items():
            write_log(target / name, "tfrecord", rows)
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    io_utils.write_pbtxt_file(
        f"{schema.uri}/schema.pbtxt",
        schema_utils.schema_from_feature_spec(dict(spec)),
    )
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(folder / "graph")
    transformed = standard_artifacts.Examples()
    transformed.uri = str(folder / "transformed")
    context = cls.Context(
        beam_pipeline_args=["--runner=FnApiRunner"],
        tmp_dir=str(folder / "tmp"),
        unique_id="1",
    )
    cls(context).Do(
        {"examples": [examples], "schema": [schema]},
        {"transform_graph": [graph], "transformed_examples": [transformed]},
        {
            "preprocessing_fn": executor.PREPROCESSING_FN,
            "custom_config": json.dumps({"features": features}),
            "disable_statistics": 1,
            "force_tf_compat_v1": 0,
        }
        | properties,
    )
    return tft.TFTransformOutput(graph.uri)


def training(
    custom: Mapping[str, Any],
    folder: Path,
    splits: Mapping[str, Sequence[Row]],
    spec: Mapping[str, Any],
    beside: Mapping[str, Any],
) -> TrainingRun:
    """A training on what our Transform makes of `splits`, of train and eval.

    Args:
        custom: its sections.
        folder: of all that is written.
        splits: rows of each.
        spec: of the examples.
        beside: file beside the examples -> its content, as JSON.
    """
    (folder / "raw").mkdir()
    for name, content in beside.items():
        (folder / "raw" / name).write_text(json.dumps(content))
    files = {name: {"part": found} for name, found in splits.items()}
    transform = run(executor.Executor, folder, files, spec, custom["features"])
    where = folder / "transformed"
    return TrainingRun(
        custom,
        TrainingFiles(
            transform, [f"{where}/Split-train/*"], [f"{where}/Split-eval/*"]
        ),
    )


def read(folder: Path, split: str, transform: Any) -> list[Row]:
    """The transformed rows of a split, as the trainer reads them."""
    files = str(folder / f"transformed/Split-{split}/*")
    found: list[Row] = []
    for inputs, labels in Batches([files], transform, 64):
        columns = {"label": labels.numpy().tolist()}
        for name, value in inputs.items():
            ragged = isinstance(value, tf.RaggedTensor)
            columns[name] = value.to_list() if ragged else value.numpy()
        found += [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
    return found


def assets(transform: tft.TFTransformOutput) -> dict[str, bytes]:
    """The files beside the transform."""
    folder = Path(transform.transform_savedmodel_dir) / "assets"
    return {path.name: path.read_bytes() for path in folder.iterdir()}
