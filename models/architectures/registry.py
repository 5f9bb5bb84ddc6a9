"""model.name -> the architecture's builder."""

from __future__ import annotations

import random
from typing import Any

from models.architectures import user_model
from models.config.architectures import BUILDERS, ModelConfig, OwnConfig
from models.errors import InputError
from models.preprocessing.input_layout import Layout


def build_model(layout: Layout, config: ModelConfig, base_rate: float) -> Any:
    """A model of Keras 3, or 2, that maps transformed inputs to logits [N].

    Args:
        layout: of the inputs.
        config: the config section.
        base_rate: share of positive training rows, where predictions start.

    Raises:
        InputError: the user's own model cannot be had.
    """
    # An import may draw numbers, as that of keras_rs does: the first model of a
    # process would begin with other weights than later ones of the same seed.
    state = random.getstate()
    try:
        builder = BUILDERS.load(config.name)
    except ValueError as error:
        raise InputError(str(error)) from error
    random.setstate(state)
    if isinstance(config, OwnConfig):
        model = user_model.build(builder, layout, config, base_rate)
    else:
        model = builder(layout, config, base_rate)
    if layout.shallow and getattr(model, "shallow", None) is None:
        names = ", ".join(f.name for f in layout.shallow)
        raise InputError(
            f"features: {names}: `serve: shallow` received model.name"
            f" {config.name!r}, which adds no weights beside its network;"
            " accepted: a Keras 3 architecture of ours, or your own that"
            " returns a models.architectures.base.Network"
        )
    if config.logits == 2 and not _has_level(model):
        raise InputError(
            "train.loss: received one that needs a logit of each label, with"
            f" model.name {config.name!r}; accepted: a Keras 3 architecture of"
            " ours, or your own that returns a models.architectures.base"
            ".Network, made with the `config` that it gets"
        )
    return model


def _has_level(model: Any) -> bool:
    deep = getattr(model, "deep", None)
    return getattr(deep, "level", None) is not None
