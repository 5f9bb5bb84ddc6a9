"""Transform's work: analyze, save the transform, write what it gives."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import (
    dataset_metadata,
    metadata_io,
    schema_utils,
)
from tfx import types
from tfx.components.transform import executor as tfx_transform
from tfx.components.transform import executor_utils
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils, path_utils

from components.transform import cache, ledgers
from components.transform.analyze import Analyze
from components.transform.materialize import Materialize
from models.checkpointing.saved_state import BASE
from models.config.training import Features
from models.errors import InputError
from models.input_pipeline import row_counts
from models.preprocessing import analyzers
from models.preprocessing.input_layout import LABEL_COUNTS
from models.preprocessing.preprocessing_fn import Analysis, transformed
from serving.object_store import StoreFiles, is_store

log = logging.getLogger("lionctr.transform")
PREPROCESSING_FN = "models.preprocessing.preprocessing_fn.preprocessing_fn"

BASE_MODEL = "base_model"  # WarmStart's output, an input of `admission`

_ENTRIES = 2  # what entries of the cache are of: lists with several values


class Executor(tfx_transform.Executor):
    """One pass for the analysis, one for the examples, both by file.

    TFX's executor does the same row by row, and looks at the function nine
    times. It still does what is asked for beyond that: statistics, an
    analyzer cache, another function.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            InputError: there is nothing to analyze.
        """
        if (
            exec_properties[specs.PREPROCESSING_FN_KEY] != PREPROCESSING_FN
            or not exec_properties[specs.DISABLE_STATISTICS_KEY]
            or output_dict.get(specs.UPDATED_ANALYZER_CACHE_KEY)
        ):
            super().Do(input_dict, output_dict, exec_properties)
            _count(input_dict, output_dict)
            return
        executor_utils.MatchNumberOfTransformedExamplesArtifacts(
            input_dict, output_dict
        )
        raw = input_dict[specs.EXAMPLES_KEY]
        splits = executor_utils.ResolveSplitsConfig(
            exec_properties.get(specs.SPLITS_CONFIG_KEY), raw
        )
        config = json.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])
        graph = artifact_utils.get_single_uri(
            output_dict[specs.TRANSFORM_GRAPH_KEY]
        )
        self.fit(
            [file for split in splits.analyze for file in _files(raw, split)],
            config,
            artifact_utils.get_single_uri(input_dict[specs.SCHEMA_KEY]),
            graph,
            _state(input_dict),
        )
        outputs = output_dict.get(specs.TRANSFORMED_EXAMPLES_KEY, [])
        executor_utils.SetSplitNames(splits.transform, outputs)
        if outputs:
            names = list(splits.transform)
            self.materialize(raw, outputs, names, graph, config)
            _count(input_dict, output_dict)

    def fit(
        self,
        files: list[str],
        config: dict[str, Any],
        schema: str,
        graph: str,
        state: str | None = None,
    ) -> None:
        """Analyzes `files` and leaves the transform in `graph`.

        state: folder of the state of the training that this one goes on from.
        """
        if not files:
            raise InputError("Transform: no examples to analyze")
        metadata = dataset_metadata.DatasetMetadata(
            io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema))
        )
        metadata_io.write_metadata(
            metadata,
            os.path.join(graph, tft.TFTransformOutput.RAW_METADATA_DIR),
        )
        spec = schema_utils.schema_as_feature_spec(metadata.schema).feature_spec
        features = Features.model_validate(config["features"])
        work = os.path.join(graph, ".temp_analysis")
        if fileio.exists(work):  # of a try that was killed
            fileio.rmtree(work)
        folder, entries = (os.path.join(work, n) for n in ("found", "entries"))
        for path in (folder, entries):
            fileio.makedirs(path)
        kept = _kept(config.pop("analysis_cache", None))
        # The group is not analyzed.
        analyzed = {k: v for k, v in config.items() if k != "group"}
        version = json.dumps([_ENTRIES, analyzed, str(sorted(spec.items()))])
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | Analyze(
                    features,
                    spec,
                    folder,
                    entries,
                    kept,
                    version,
                    ledgers.fetched(features, state, work),
                    config.get("zone"),
                )
            )
        found = analyzers.read(features, folder)
        save(features, found, folder, spec, graph, config.get("group"))
        ledgers.keep(features, folder, graph)
        fileio.rmtree(work)
        if kept is not None:
            _clean(kept)

    def materialize(
        self,
        raw: list[types.Artifact],
        outputs: list[types.Artifact],
        splits: list[str],
        graph: str,
        config: Mapping[str, Any],
    ) -> None:
        """Writes a transformed file for each raw one."""
        work = []
        for split in splits:
            for source, target in zip(raw, outputs, strict=True):
                files = _files([source], split)
                folder = artifact_utils.get_split_uri([target], split)
                if fileio.exists(folder):  # of a try that was killed
                    fileio.rmtree(folder)
                fileio.makedirs(folder)
                work += [(file, _target(file, folder)) for file in files]
                if not files:
                    # Readers want a file, however empty.
                    path = os.path.join(folder, "empty")
                    io_utils.write_bytes_file(path, b"")
        features = Features.model_validate(config["features"])
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(work)
                | "Spread" >> beam.Reshuffle()
                | "Transform"
                >> beam.ParDo(Materialize(graph, features, config.get("group")))
            )


def save(
    features: Features,
    found: Analysis,
    folder: str,
    spec: Mapping[str, Any],
    graph: str,
    group: str | None = None,
) -> None:
    """Writes the transform with what was found, as TFT does.

    Args:
        features: the config section.
        found: by the analysis.
        folder: where the analysis left its files; the counts of the labels
            become an asset beside the vocabularies, and the numbers lie beside
            the graph, for the export.
        spec: of the raw features.
        graph: the folder to write to.
        group: column whose value is the row's group, for the loss.
    """

    def function(inputs: Mapping[str, Any]) -> dict[str, Any]:
        tft.make_and_track_object(
            lambda: tf.saved_model.Asset(os.path.join(folder, LABEL_COUNTS)),
            name=LABEL_COUNTS,
        )
        return transformed(inputs, features, found, group=group)

    impl_helper.analyze_in_place(
        function,
        False,
        spec,
        impl_helper.get_type_specs_from_feature_specs(spec),
        graph,
    )
    kept = os.path.join(graph, analyzers.NUMBERS)
    fileio.makedirs(kept)
    for name in analyzers.numbers(features):
        target = os.path.join(kept, name)
        fileio.copy(os.path.join(folder, name), target, overwrite=True)


def _state(inputs: Mapping[str, list[types.Artifact]]) -> str | None:
    """Where the state is that training goes on from, by WarmStart's output."""
    for artifact in inputs.get(BASE_MODEL, ()):
        folder = path_utils.serving_model_dir(artifact.uri)
        with fileio.open(os.path.join(folder, BASE), "r") as file:
            state: str | None = json.loads(file.read())["state"]
            return state
    return None


def _count(
    inputs: Mapping[str, list[types.Artifact]],
    outputs: Mapping[str, list[types.Artifact]],
) -> None:
    """Keeps beside the transformed examples how many ingest wrote."""
    given = inputs[specs.EXAMPLES_KEY]
    written = outputs.get(specs.TRANSFORMED_EXAMPLES_KEY, [])
    for source, target in zip(given, written, strict=False):
        rows = row_counts.read([source.uri])
        if rows is not None:
            row_counts.write(target.uri, rows)
        row_counts.copy_weights(source.uri, target.uri)


def _kept(folder: str | None) -> str | None:
    """The folder of the analysis cache; a run can do without."""
    if not folder:
        return None
    try:
        if is_store(folder):
            StoreFiles().listdir(folder)
        else:
            fileio.makedirs(folder)
    except (OSError, tf.errors.OpError) as error:
        log.warning("no analysis cache at %s: %s", folder, error)
        return None
    return folder


def _clean(folder: str) -> None:
    try:
        cache.clean(folder)
    except (OSError, tf.errors.OpError) as error:
        log.warning("cannot clean %s: %s", folder, error)


def _files(artifacts: list[types.Artifact], split: str) -> list[str]:
    return sorted(
        file
        for folder in artifact_utils.get_split_uris(artifacts, split)
        for file in fileio.glob(io_utils.all_files_pattern(folder))
    )


def _target(file: str, folder: str) -> str:
    name = file.rpartition("/")[2]
    return os.path.join(folder, name.removesuffix(".gz"))
