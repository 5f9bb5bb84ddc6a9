"""Pusher: TFX's, with an atomic and idempotent push."""

from __future__ import annotations

from tfx.components import Pusher as TfxPusher
from tfx.dsl.components.base import executor_spec

from components.pusher import executor


class Pusher(TfxPusher):
    """Same interface as `tfx.components.Pusher`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
