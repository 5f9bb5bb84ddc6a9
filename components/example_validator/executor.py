"""ExampleValidator's work: TFDV's, then a verdict."""

from __future__ import annotations

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator import executor as tfx_validator
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from models.errors import RefusedError


class Executor(tfx_validator.Executor):
    """Raises on anomalies of severity error."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Runs the component.

        Raises:
            RefusedError: names split, feature and anomaly of each error.
        """
        output = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["anomalies"])
        problems = []
        for split in artifact_utils.decode_split_names(artifact.split_names):
            path = os.path.join(
                artifact_utils.get_split_uri([artifact], split),
                "SchemaDiff.pb",
            )
            anomalies = anomalies_pb2.Anomalies()
            with fileio.open(path, "rb") as file:
                anomalies.ParseFromString(file.read())
            problems += [f"  {split}: {line}" for line in errors(anomalies)]
        if problems:
            raise RefusedError(
                "The data does not fit the schema; training was not started.\n"
                + "\n".join(problems)
                + "\nMend the data, or edit the schema and name it in"
                " data.curated_schema."
            )
        return output


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
