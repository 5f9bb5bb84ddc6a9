"""SchemaGen: TFX's, for features of which some are lists."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types import standard_component_specs as specs

from components.schema_gen import executor


class SchemaGenSpec(specs.SchemaGenSpec):
    """TFX's, and which features are lists."""

    PARAMETERS = {
        **specs.SchemaGenSpec.PARAMETERS,
        "lists": component_spec.ExecutionParameter(type=str),
        "code_version": component_spec.ExecutionParameter(type=str),
    }


class SchemaGen(base_component.BaseComponent):
    """Infers a schema from statistics of all splits.

    Args:
        statistics: channel of ExampleStatistics.
        lists: features with any number of values.
        code_version: of the executor; another one infers afresh.
    """

    SPEC_CLASS = SchemaGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        lists: Iterable[str] = (),
        code_version: str = "",
    ) -> None:
        super().__init__(
            spec=SchemaGenSpec(
                statistics=statistics,
                infer_feature_shape=0,
                exclude_splits="[]",
                lists=json.dumps(sorted(lists)),
                code_version=code_version,
                schema=types.Channel(type=standard_artifacts.Schema),
            )
        )
