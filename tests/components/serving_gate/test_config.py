"""`serving_gate` in the config, and the extra that it needs."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from components.serving_gate.config import ServingGateConfig, lacking


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("off", False), ("'off'", False), ("", False), ("on", True), ("{}", True)],
)
def test_off_is_a_word(text: str, enabled: bool) -> None:
    section = yaml.safe_load(f"serving_gate: {text}")["serving_gate"]
    assert ServingGateConfig.model_validate(section).enabled is enabled


@pytest.mark.parametrize(
    "section", [{"rows": 0}, {"rows": 901}, {"p99_ms": 0}, {"row": 1}, 3, "x"]
)
def test_what_cannot_be_is_refused(section: Any) -> None:
    with pytest.raises(ValueError):
        ServingGateConfig.model_validate(section)


def test_a_missing_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lacking() == ""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "uvicorn" else find(name),
    )
    assert "pip install 'lion-ctr[serving]'" in lacking()
    assert "serving_gate: off" in lacking()


def test_the_code_of_the_server_is_in_the_key_of_the_cache() -> None:
    from pipeline.code_version import imported

    found = imported("components.serving_gate.component")
    assert {"serving.process", "serving.routes", "serving.batching"} <= found
