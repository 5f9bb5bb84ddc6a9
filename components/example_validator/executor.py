"""ExampleValidator's work: TFDV's, then drift, skew and leaks; a verdict."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx import types
from tfx.components.example_validator import executor as tfx_validator
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils

from components.data_checks import (
    FILE,
    LEAK_AUC,
    SINGLE_FEATURES,
    DriftConfig,
    described,
    drift_lines,
    leak_lines,
    lines,
    missing,
)
from components.example_validator import base_statistics
from components.example_validator.comparison import Comparison, compare
from models.errors import RefusedError

_PUSHED = "the data of the pushed model"
_TRAIN = "train"
_SEVERITY = anomalies_pb2.AnomalyInfo
log = logging.getLogger("lionctr.data")


class Executor(tfx_validator.Executor):
    """Raises on anomalies of severity error.

    Drift and skew are anomalies of the train split, of severity warning, or
    error with `stop`. FILE, beside the splits, has them and the leaks whole.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Runs the component.

        Raises:
            RefusedError: names split, feature and anomaly of each error, or
                the drift and the leaks that the config stops at.
        """
        output = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["anomalies"])
        problems = []
        for split in artifact_utils.decode_split_names(artifact.split_names):
            found = _anomalies(_diff(artifact, split))
            problems += [f"  {split}: {line}" for line in errors(found)]
        if problems:
            raise RefusedError(
                "The data does not fit the schema; training was not started.\n"
                + "\n".join(problems)
                + "\nMend the data, or edit the schema and name it in"
                " data.curated_schema."
            )
        settings = json.loads(exec_properties.get("settings") or "{}")
        if settings:
            self._check(input_dict, artifact, exec_properties, settings)
        return output

    def _check(
        self,
        input_dict: dict[str, list[types.Artifact]],
        artifact: types.Artifact,
        exec_properties: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Looks for drift, skew and leaks; leaves them in the artifact."""
        (statistics,) = input_dict[specs.STATISTICS_KEY]
        config = DriftConfig.model_validate(settings["drift"])
        checks: dict[str, Any] = {"version": 1}
        problems = []
        if config.action != "off":
            schema = io_utils.SchemaReader().read(
                io_utils.get_only_uri_in_dir(
                    artifact_utils.get_single_uri(input_dict[specs.SCHEMA_KEY])
                )
            )
            base = base_statistics.find(
                exec_properties["pushed_to"], statistics.uri
            )
            compared = list(
                _comparisons(statistics, base, config, schema, settings)
            )
            checks["drift"] = {
                "base": base.version,
                "why": base.why,
                "comparisons": [one.to_json() for one in compared],
            }
            _merge(_diff(artifact, _TRAIN), compared, config.action == "stop")
            if config.action == "stop":
                problems += drift_lines(checks)
        train = _statistics(statistics, _TRAIN)
        constant = constant_features(train, settings["features"])
        if constant:
            checks["constant"] = constant
        if settings["leaks"] != "off":
            checks["leaks"] = _leaks(statistics.uri, settings["features"])
            if settings["leaks"] == "stop":
                problems += leak_lines(checks)
        io_utils.write_string_file(
            os.path.join(artifact.uri, FILE), json.dumps(checks, indent=1)
        )
        for line in lines(checks):
            log.info("%s", line)
        if problems:
            error = RefusedError(
                "The data are refused; training was not started.\n"
                + "\n".join(f"  {line}" for line in problems)
                + "\ndata.drift and data.leaks say what is refused."
            )
            error.data_checks = checks
            raise error


def _diff(artifact: types.Artifact, split: str) -> str:
    folder = artifact_utils.get_split_uri([artifact], split)
    return os.path.join(folder, tfx_validator.DEFAULT_FILE_NAME)


def _anomalies(path: str) -> anomalies_pb2.Anomalies:
    with fileio.open(path, "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def errors(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """A line for each anomaly of severity error: feature and anomaly."""
    infos = sorted(anomalies.anomaly_info.items())
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("(data set)", anomalies.dataset_anomaly_info))
    return [
        f"{name}: {info.short_description}: {info.description}"
        for name, info in infos
        if info.severity == anomalies_pb2.AnomalyInfo.ERROR
    ]


def _comparisons(
    statistics: types.Artifact,
    base: base_statistics.Base,
    config: DriftConfig,
    schema: Any,
    settings: Mapping[str, Any],
) -> Iterator[Comparison]:
    """Train with the pushed model's data, and with each other split."""
    features, sequences = settings["features"], settings["sequences"]
    found = {
        split: _statistics(statistics, split)
        for split in artifact_utils.decode_split_names(statistics.split_names)
    }
    train = found.pop(_TRAIN)
    if base.statistics is not None:
        yield compare(
            train, base.statistics, _PUSHED, config, schema, features,
            sequences=sequences,
        )  # fmt: skip
    uneven = {*settings["uneven"], *sequences}
    features = [f for f in features if f not in uneven]
    for split, other in found.items():
        yield compare(
            train, other, f"the {split} split", config, schema, features,
            skew=True,
        )  # fmt: skip


def _statistics(
    statistics: types.Artifact, split: str
) -> statistics_pb2.DatasetFeatureStatisticsList:
    folder = artifact_utils.get_split_uri([statistics], split)
    with fileio.open(os.path.join(folder, "FeatureStats.pb"), "rb") as file:
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(
            file.read()
        )


def constant_features(
    train: statistics_pb2.DatasetFeatureStatisticsList, features: list[str]
) -> list[str]:
    """Those of `features` that have the same value in each row."""
    found = []
    for feature in train.datasets[0].features:
        if feature.WhichOneof("stats") == "num_stats":
            same = feature.num_stats.min == feature.num_stats.max
            common = feature.num_stats.common_stats
        else:
            same = feature.string_stats.unique == 1
            common = feature.string_stats.common_stats
        if same and common.tot_num_values and not missing(feature):
            found.append(feature.path.step[0])
    return sorted(set(found) & set(features))


def _merge(path: str, compared: list[Comparison], stop: bool) -> None:
    """Adds what was compared to the anomalies that TFX reads."""
    anomalies = _anomalies(path)
    severity = _SEVERITY.ERROR if stop else _SEVERITY.WARNING
    for one in compared:
        if one.anomalies is None:
            continue
        anomalies.drift_skew_info.extend(one.anomalies.drift_skew_info)
        for name in one.drifted:
            ours = one.anomalies.anomaly_info[name]
            ours.description = described(name, one.features[name], one.against)
            known = anomalies.anomaly_info[name]
            known.reason.extend(ours.reason)
            known.severity = max(known.severity, severity)
            known.path.CopyFrom(ours.path)
            for field in ("short_description", "description"):
                texts = (getattr(known, field), getattr(ours, field))
                setattr(known, field, "; ".join(filter(None, texts)))
    with fileio.open(path, "wb") as file:
        file.write(anomalies.SerializeToString(deterministic=True))


def _leaks(statistics: str, features: list[str]) -> dict[str, Any]:
    """StatisticsGen's account of single features, and which of them leak."""
    path = os.path.join(statistics, SINGLE_FEATURES)
    if not fileio.exists(path):
        why = f"StatisticsGen left no {SINGLE_FEATURES}"
        return {"why": why, "features": {}, "found": []}
    found = json.loads(io_utils.read_string_file(path))
    known = found["features"]
    leaking = [
        name
        for name in features
        if (known.get(name, {}).get("auc") or 0.0) > LEAK_AUC
    ]
    return {
        **found,
        "features": {name: known[name] for name in features if name in known},
        "found": sorted(leaking, key=lambda name: -known[name]["auc"]),
    }
