"""StatisticsGen: TFX's, with the work done on large Arrow batches."""

from __future__ import annotations

from tfx.components import StatisticsGen as TfxStatisticsGen
from tfx.dsl.components.base import executor_spec

from components.statistics_gen import executor


class StatisticsGen(TfxStatisticsGen):
    """Same interface as `tfx.components.StatisticsGen`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
