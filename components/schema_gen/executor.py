"""SchemaGen's work: TFX's, without bounds on how many values a list has."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.schema_gen import executor
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import io_utils


class Executor(executor.Executor):
    """Infers the schema; a list of the config may have any number of values."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        super().Do(input_dict, output_dict, exec_properties)
        folder = artifact_utils.get_single_uri(output_dict[specs.SCHEMA_KEY])
        path = os.path.join(folder, executor.DEFAULT_FILE_NAME)
        schema = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
        unbind(schema, json.loads(exec_properties["lists"]))
        io_utils.write_pbtxt_file(path, schema)


def unbind(schema: schema_pb2.Schema, lists: Collection[str]) -> None:
    """Takes from `lists` the bounds that the lists of one log happen to keep.

    TFDV infers them where all rows have the same number of values.
    """
    for feature in schema.feature:
        if feature.name in lists and feature.HasField("value_count"):
            feature.value_count.min = min(1, feature.value_count.min)
            feature.value_count.ClearField("max")
