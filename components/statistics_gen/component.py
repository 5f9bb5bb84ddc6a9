"""StatisticsGen: TFX's, with the work done on large Arrow batches."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel_utils, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ExecutionParameter

from components.statistics_gen import executor


class StatisticsGenSpec(specs.StatisticsGenSpec):
    """TFX's, where it runs, kinds of lists, the version of the code."""

    PARAMETERS = {
        **specs.StatisticsGenSpec.PARAMETERS,
        "code_version": ExecutionParameter(type=str),
        "on_beam": ExecutionParameter(type=int),
        "weighted": ExecutionParameter(type=str),
        "sequences": ExecutionParameter(type=str),
    }


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Statistics of each split, as `tfx.components.StatisticsGen` leaves them.

    Args:
        examples: channel of Examples.
        code_version: of the executor; another one computes afresh.
        on_beam: whether Beam's workers compute them, as in stock TFX.
        weighted: list whose values have weights -> what separates the two. The
            values are counted without; on Beam's workers with them.
        sequences: columns whose distinct lists are counted, but on Beam's
            workers.
    """

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: Any,
        code_version: str = "",
        on_beam: bool = False,
        weighted: Mapping[str, str] | None = None,
        sequences: Collection[str] = (),
    ) -> None:
        statistics = channel_utils.as_channel(
            [standard_artifacts.ExampleStatistics()]
        )
        super().__init__(
            StatisticsGenSpec(
                examples=examples,
                exclude_splits="[]",
                code_version=code_version,
                on_beam=int(on_beam),
                weighted=json.dumps(weighted or {}),
                sequences=json.dumps(sorted(sequences)),
                statistics=statistics,
            )
        )
