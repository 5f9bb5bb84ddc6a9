"""model.name -> the architecture's builder."""

from __future__ import annotations

import importlib
from typing import Any

from models.config import ModelConfig
from models.layout import Layout

_MODULES = {"wide_deep": "models.wide_deep"}


def build_model(layout: Layout, config: ModelConfig, base_rate: float) -> Any:
    """A keras.Model that maps transformed inputs to logits [N].

    base_rate: share of positive training rows, where predictions start.
    """
    module = importlib.import_module(_MODULES[config.name])
    return module.build(layout, config, base_rate)
