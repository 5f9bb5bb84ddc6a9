"""CuratedSchema: a schema file of the user's, as SchemaGen's output."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.curated_schema import executor


class CuratedSchemaSpec(types.ComponentSpec):
    """Interface of CuratedSchema."""

    PARAMETERS = {
        "schema_file": component_spec.ExecutionParameter(type=str),
        "schema_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {
        "schema": component_spec.ChannelParameter(
            type=standard_artifacts.Schema
        )
    }


class CuratedSchema(base_component.BaseComponent):
    """Copies `schema_file`; `schema_version` stands for its content.

    TFX's ImportSchemaGen is found in the cache by the path alone: an edited
    file would be answered with the schema that was there before.
    """

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, schema_file: str, schema_version: str) -> None:
        super().__init__(
            spec=CuratedSchemaSpec(
                schema_file=schema_file,
                schema_version=schema_version,
                schema=types.Channel(type=standard_artifacts.Schema),
            )
        )
