"""Evaluator: TFX's, with an optional baseline and refusals one can read."""

from __future__ import annotations

from tfx.components import Evaluator as TfxEvaluator
from tfx.dsl.components.base import executor_spec

from components.evaluator import executor


class Evaluator(TfxEvaluator):
    """Same interface as `tfx.components.Evaluator`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
