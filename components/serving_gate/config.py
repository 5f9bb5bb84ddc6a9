"""Config section of the ServingGate."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

from pydantic import Field, model_validator

from models.config.section import Section

_NEEDED = ("uvicorn", "tensorflow_serving")


class ServingGateConfig(Section):
    """Served before it is pushed: what the server must keep."""

    enabled: bool = True
    """Start the server and ask it; `serving_gate: off` is short for false."""
    rows: Annotated[int, Field(ge=1, le=900)] = 200
    """Rows of the last split that the server is asked."""
    p99_ms: Annotated[float, Field(gt=0)] | None = 250
    """Milliseconds in which 99 % of the requests of one row must be answered;
    null: they are measured only."""
    allow_input_change: bool = False
    """Push a model that lacks inputs of the served version."""
    warm_up: bool = True
    """Push the requests with the model, for servers to be warmed up with."""

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        # YAML 1.1 reads off as false.
        if value in (None, False, "off"):
            return {"enabled": False}
        return {} if value in (True, "on") else value


def lacking() -> str:
    """Advice to install the server; "" if it is there."""
    if all(importlib.util.find_spec(name) for name in _NEEDED):
        return ""
    return (
        "the server is not installed: pip install 'lion-ctr[serving]', or set"
        " serving_gate: off"
    )
