"""ExampleValidator: TFX's, and drift, skew and leaks; errors stop the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types import standard_component_specs as specs

from components.example_validator import executor


class ExampleValidatorSpec(specs.ExampleValidatorSpec):
    """TFX's, and what is checked besides."""

    PARAMETERS = {
        **specs.ExampleValidatorSpec.PARAMETERS,
        **{
            name: component_spec.ExecutionParameter(type=str)
            for name in ("settings", "pushed_to", "base", "code_version")
        },
    }


class ExampleValidator(base_component.BaseComponent):
    """Compares the statistics with a schema, and with other data.

    `base` stands for the pushed model's data in the cache: see
    `base_statistics.find`. A runner sets it once the statistics are there.

    Args:
        statistics: channel of ExampleStatistics.
        schema: channel of Schema.
        settings: see `components.data_checks.settings`; {}: only the schema.
        pushed_to: folder of the model's versions.
        code_version: of the executor; another one checks afresh.
    """

    SPEC_CLASS = ExampleValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        settings: Mapping[str, Any] | None = None,
        pushed_to: str = "",
        code_version: str = "",
    ) -> None:
        super().__init__(
            spec=ExampleValidatorSpec(
                statistics=statistics,
                schema=schema,
                exclude_splits="[]",
                settings=json.dumps(settings or {}, sort_keys=True),
                pushed_to=pushed_to,
                base="",
                code_version=code_version,
                anomalies=types.Channel(
                    type=standard_artifacts.ExampleAnomalies
                ),
            )
        )
