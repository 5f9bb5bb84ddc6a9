"""The lines that a training shows."""

from __future__ import annotations

import logging

import pytest

from models.training import progress


def test_time_left_counts_steps_alone_not_the_tracing_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    caplog.set_level(logging.INFO, "lionctr.train")
    shown = progress.Progress(1000, None)
    for seconds, step in ((30.0, 10), (3.0, 20), (3.0, 30)):
        now[0] += seconds
        shown.stretch(step, 100, 1.0, 0.5, {"lion": 1e-4})
    first, second, third = caplog.messages
    assert first == "step 10/1000  100 examples/s  loss 0.5000  rate 0.0001"
    assert second.endswith("5 min left")  # 980 steps of 0.3 s
    assert third.endswith("5 min left")
