"""Evaluator: TFX's interface, with settings of ours beside the EvalConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfx.components import Evaluator as TfxEvaluator
from tfx.dsl.components.base import executor_spec

from components.evaluator import executor


class Evaluator(TfxEvaluator):
    """Same interface as `tfx.components.Evaluator`, and `settings`.

    Without `settings` TFMA evaluates, as in stock TFX.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self, settings: Mapping[str, Any] | None = None, **arguments: Any
    ) -> None:
        """See `tfx.components.Evaluator`.

        Args:
            settings: see `Executor`.
            arguments: TFX's.
        """
        super().__init__(**arguments)
        if settings is not None:
            text = json.dumps(settings, sort_keys=True)
            self.spec.exec_properties[executor.SETTINGS] = text
