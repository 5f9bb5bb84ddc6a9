"""TF_CONFIG: which processes train together. Imports no TensorFlow."""

from __future__ import annotations

import json
import os
from typing import Any

from models.errors import InputError


def workers() -> int:
    """How many processes train together, as TF_CONFIG says."""
    cluster = tf_config().get("cluster", {})
    return len(cluster.get("worker", [])) + len(cluster.get("chief", []))


def is_chief() -> bool:
    """True if this process writes for all of them."""
    task = tf_config().get("task", {})
    if "chief" in tf_config().get("cluster", {}):
        return task.get("type") == "chief"
    return int(task.get("index", 0)) == 0


def tf_config() -> dict[str, Any]:
    """The variable's content, {} without one.

    Raises:
        InputError: it is no JSON object.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
    except ValueError as error:
        raise InputError(f"TF_CONFIG is not JSON: {text!r}") from error
    if not isinstance(config, dict):
        raise InputError(f"TF_CONFIG is not a JSON object: {text!r}")
    return config
