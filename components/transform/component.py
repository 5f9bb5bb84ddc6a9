"""Transform: TFX's, with the work done in batches of our own."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components import Transform as TfxTransform
from tfx.dsl.components.base import executor_spec

from components.transform import executor


class Transform(TfxTransform):
    """Same interface as `tfx.components.Transform`.

    Args:
        base_model: WarmStart's output, whose state has the ledgers that
            `admission` goes on from; None: none is looked for.
        arguments: of `tfx.components.Transform`.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self, base_model: types.BaseChannel | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        if base_model is not None:  # TFX's own `__init__` makes the spec
            self.spec.inputs[executor.BASE_MODEL] = base_model
