"""ExampleValidator: TFX's, but an anomaly of severity error stops the run."""

from __future__ import annotations

from tfx.components import ExampleValidator as TfxExampleValidator
from tfx.dsl.components.base import executor_spec

from components.example_validator import executor


class ExampleValidator(TfxExampleValidator):
    """Same interface as `tfx.components.ExampleValidator`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
