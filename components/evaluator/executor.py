"""Evaluator's work: metrics of the exported model, and the gate's verdict."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from components.evaluator import gate, tfma_files, tfma_results
from components.evaluator.config import EvaluateConfig
from components.evaluator.each_output import each_output
from components.evaluator.evaluation import FILE, evaluate
from components.evaluator.importance import audit
from components.evaluator.outputs import evaluate_outputs, with_outputs
from components.evaluator.predictions import predictions
from models.config.labels import labels_of
from models.input_pipeline import row_counts
from models.input_pipeline.record_index import index

log = logging.getLogger("lionctr.evaluate")
SETTINGS = "settings"
METRICS = "metrics.json"  # of the candidate: slice -> metric -> value or null


class Executor(tfx_evaluator.Executor):
    """Calls the exported model on large batches, in this process.

    It needs some 60 bytes a row besides, so no Beam runner is asked, a
    cluster's neither. The exec property `settings` is JSON: `evaluate`, the
    config section, `kinds`, of the columns in it, `timed`: whether the
    examples carry times, `weighted`: whether they have weights, and `labels`,
    where there are several. Without it, TFX's own executor evaluates by TFMA.

    An empty baseline is left out, and every broken threshold is logged.
    """

    def __init__(self, context: Any = None) -> None:
        # Beam's executor would pack TFX for workers, which takes seconds.
        base_executor.BaseExecutor.__init__(self, context)

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            InputError: a model or a metric of one's own cannot be used.
            FailedError: the examples are not those that ingest wrote.
        """
        _check_rows(input_dict["examples"], exec_properties)
        baseline = input_dict.get(specs.BASELINE_MODEL_KEY)
        if baseline and not fileio.isdir(_serving(baseline)):
            input_dict = {
                key: value
                for key, value in input_dict.items()
                if key != specs.BASELINE_MODEL_KEY
            }
        if exec_properties.get(SETTINGS):
            self._evaluate(input_dict, output_dict, exec_properties)
        else:
            stock = tfx_evaluator.Executor(self._context)
            stock.Do(input_dict, output_dict, exec_properties)
        folder = artifact_utils.get_single_uri(output_dict["evaluation"])
        with fileio.open(os.path.join(folder, METRICS), "w") as file:
            file.write(json.dumps(metrics(folder), indent=1))
        for line in refusals(folder):
            log.warning("refused: %s", line)

    def _evaluate(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = json.loads(exec_properties[SETTINGS])
        config = EvaluateConfig.model_validate(settings["evaluate"])
        (split,) = json_utils.loads(exec_properties[specs.EXAMPLE_SPLITS_KEY])
        examples = input_dict[specs.EXAMPLES_KEY]
        models = {"candidate": _serving(input_dict[specs.MODEL_KEY])}
        baseline = input_dict.get(specs.BASELINE_MODEL_KEY)
        if baseline:
            models["baseline"] = _serving(baseline)
        folders = artifact_utils.get_split_uris(examples, split)
        files = _files(examples, split)
        sliced = [name for names in config.slices for name in names]
        if config.calibrate is not None and config.calibrate.by is not None:
            sliced.append(config.calibrate.by)
        columns = predictions(
            files,
            models,
            settings["kinds"],
            list(dict.fromkeys(sliced)),
            config.group,
            settings.get("timed", False),
            settings.get("weighted", False),
            labels_of(settings),
        )
        found = evaluate(columns, config, split)
        found["outputs"] = evaluate_outputs(
            columns, labels_of(settings), config, split
        )
        verdict = gate.judge(found, config)
        found["gate"] = with_outputs(verdict, found["outputs"])
        if config.importance is not None and found["rows"]:
            found["importance"] = audit(
                files,
                _files(examples, "train"),
                models["candidate"],
                found["rows"],
                config,
                settings["kinds"].get(config.group, "string"),
                settings.get("weighted", False),
                labels_of(settings),
            )
        for line in found["gate"]["notes"]:
            log.warning("%s", line)
        eval_config = proto_utils.json_to_proto(
            exec_properties[specs.EVAL_CONFIG_KEY], tfma.EvalConfig()
        )
        eval_config = tfma.utils.update_eval_config_with_defaults(
            eval_config, has_baseline=bool(baseline), rubber_stamp=True
        )
        folder = artifact_utils.get_single_uri(output_dict["evaluation"])
        fileio.makedirs(folder)
        tfma_files.write(found, eval_config, models, folders[0], folder)
        text = json.dumps(found, indent=1, allow_nan=False)
        io_utils.write_string_file(os.path.join(folder, FILE), text + "\n")
        passed = found["gate"]["passed"]
        self._bless(input_dict, output_dict, exec_properties, passed)

    def _bless(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
        passed: bool,
    ) -> None:
        """Leaves the blessing that TFX's Evaluator leaves."""
        (blessing,) = output_dict[specs.BLESSING_KEY]
        (model,) = input_dict[specs.MODEL_KEY]
        text = blessing.set_string_custom_property
        number = blessing.set_int_custom_property
        text(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
        number(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
        for base in input_dict.get(specs.BASELINE_MODEL_KEY, ()):
            text(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, base.uri)
            number(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, base.id)
        if "current_component_id" in exec_properties:
            text("component_id", exec_properties["current_component_id"])
        name, value = (
            (constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE)
            if passed
            else (constants.NOT_BLESSED_FILE_NAME, constants.NOT_BLESSED_VALUE)
        )
        io_utils.write_string_file(os.path.join(blessing.uri, name), "")
        number(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)


def _files(examples: list[types.Artifact], split: str) -> list[str]:
    return sorted(
        file
        for folder in artifact_utils.get_split_uris(examples, split)
        for file in fileio.glob(io_utils.all_files_pattern(folder))
    )


def _serving(artifacts: list[types.Artifact]) -> str:
    uri: str = artifact_utils.get_single_uri(artifacts)
    return str(path_utils.serving_model_path(uri))


def _check_rows(
    examples: list[types.Artifact], exec_properties: dict[str, Any]
) -> None:
    splits = json.loads(exec_properties.get("example_splits") or "[]")
    for split in splits or ["eval"]:
        patterns = [
            f"{uri}/*" for uri in artifact_utils.get_split_uris(examples, split)
        ]
        row_counts.check("Evaluator", patterns, index(patterns).total)


def report(evaluation: str) -> dict[str, Any]:
    """The evaluation, see `components.evaluator.evaluation`; {} of TFMA's."""
    path = os.path.join(evaluation, FILE)
    if not fileio.exists(path):
        return {}
    found: dict[str, Any] = json.loads(io_utils.read_string_file(path))
    return found


def refusals(evaluation: str) -> list[str]:
    """One line for each broken threshold: metric, threshold, value."""
    found = report(evaluation)
    if not found:
        return tfma_results.refusals(evaluation)
    return list(found["gate"]["refusals"])


def metrics(evaluation: str) -> dict[str, dict[str, float | None]]:
    """Slice ("" is overall) -> metric -> value, of the candidate model.

    A metric of an output after the first is called by it: cvr.auc. None stands
    for a metric that is not defined: see `undefined`.
    """
    found = report(evaluation)
    if not found:
        return tfma_results.metrics(evaluation)
    values: dict[str, dict[str, float | None]] = {}
    for head, part in each_output(found):
        for where, entries in _slices(part):
            values.setdefault(where, {}).update(
                {head + name: entry["value"] for name, entry in entries.items()}
            )
    return values


def undefined(evaluation: str) -> dict[str, str]:
    """Slice -> which of its metrics have no value, and why."""
    found = report(evaluation)
    if not found:
        return tfma_results.undefined(evaluation)
    names: dict[str, dict[str, list[str]]] = {}
    for head, part in each_output(found):
        for where, entries in _slices(part):
            for name, entry in entries.items():
                if "undefined" in entry:
                    reasons = names.setdefault(where, {})
                    reasons.setdefault(entry["undefined"], []).append(
                        head + name
                    )
    return {
        where: "; ".join(
            f"{', '.join(some)}: {why}" for why, some in reasons.items()
        )
        for where, reasons in names.items()
    }


def _slices(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [("", found["metrics"])] + [
        (f"[{item['name']}]", item["metrics"]) for item in found["slices"]
    ]
