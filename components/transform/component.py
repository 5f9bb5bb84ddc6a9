"""Transform: TFX's, with the work done in batches of our own."""

from __future__ import annotations

from tfx.components import Transform as TfxTransform
from tfx.dsl.components.base import executor_spec

from components.transform import executor


class Transform(TfxTransform):
    """Same interface as `tfx.components.Transform`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
