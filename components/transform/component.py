"""Transform: TFX's, with the work done in batches of our own."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components import Transform as TfxTransform
from tfx.dsl.components.base import executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.types import standard_component_specs as specs

from components.transform import executor


class TransformSpec(specs.TransformSpec):
    """Interface of TFX's Transform, and the model that training begins with."""

    INPUTS = {
        **specs.TransformSpec.INPUTS,
        executor.BASE_MODEL: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
    }


class Transform(TfxTransform):
    """Same interface as `tfx.components.Transform`.

    Args:
        base_model: WarmStart's output, whose state has the ledgers that
            `admission` goes on from; None: none is looked for.
        arguments: of `tfx.components.Transform`.
    """

    spec: types.ComponentSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self, base_model: types.BaseChannel | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)  # which makes the spec itself
        if base_model is not None:
            self.spec = TransformSpec(
                base_model=base_model,
                **self.spec.inputs,
                **self.spec.outputs,
                **self.spec.exec_properties,
            )
