"""Rates that train, where a configuration gives none: for batches of 512."""

from __future__ import annotations

from typing import Any

from optimizers.config.catalog import FIXED_RATE, defaults

_DEFAULT = ""
_CONSTANT = {"name": "constant"}
_COSINE = {"name": "cosine", "warmup": 0.05}

# Optimizer -> architecture -> rate of the rest, rate of embedding tables, and
# what else tables want. `benchmarks/studies/lion_tables.py` searched them, on
# validation rows of generated logs.
_RATES: dict[str, dict[str, dict[str, Any]]] = {
    "lion": {
        _DEFAULT: {
            "learning_rate": 1e-4,
            "table_rate": 1.6e-2,
            "table_beta_2": 0.9,
            "table_frequency_power": 0.35,
            "schedule": _CONSTANT,
        },
        "dcn_v2": {
            "learning_rate": 1e-4,
            "table_rate": 8e-3,
            "table_beta_2": 0.9,
            "table_frequency_power": 0.35,
            "schedule": _CONSTANT,
        },
        "dlrm": {
            "learning_rate": 4e-4,
            "table_rate": 3.2e-2,
            "table_beta_2": 0.9,
            "table_frequency_power": 0.35,
            "schedule": _CONSTANT,
        },
        # Products of embeddings bear no larger rate.
        "deepfm": {
            "learning_rate": 4e-4,
            "table_rate": 2e-3,
            "table_beta_2": 0.95,
            "table_frequency_power": 0.25,
            "schedule": _CONSTANT,
        },
    },
    "adafactor": {_DEFAULT: {"learning_rate": 1e-2}},
    "adagrad": {_DEFAULT: {"learning_rate": 0.03, "table_rate": 0.1}},
    "adam": {_DEFAULT: {"learning_rate": 1e-3, "table_rate": 2e-3}},
    "adamw": {_DEFAULT: {"learning_rate": 1e-3, "table_rate": 2e-3}},
    "ftrl": {_DEFAULT: {"learning_rate": 1.0}},
    "rmsprop": {_DEFAULT: {"learning_rate": 1e-3}},
    "sgd": {_DEFAULT: {"learning_rate": 0.1}},
}
_OF_HISTORIES = {
    "learning_rate": 1e-3,
    "table_rate": 4e-3,
    "table_beta_2": 0.95,
}
# Logs of a few thousand rows to some tens of thousands, several epochs: rates
# by frequency learn rare values by heart there.
_FEW_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "lion": {
        _DEFAULT: {
            "learning_rate": 4e-4,
            "table_rate": 4e-3,
            "table_beta_2": 0.95,
        },
        "din": _OF_HISTORIES,
        "bst": _OF_HISTORIES,
        "deepfm": {
            "learning_rate": 1e-3,
            "table_rate": 1e-3,
            "table_beta_2": 0.95,
        },
    },
}
# The network learns what a linear model has left: it begins near 0, the
# weights of single ids rest, and early stopping bounds what it may learn.
_AFTER_LINEAR_START: dict[str, dict[str, dict[str, Any]]] = {
    "lion": {
        _DEFAULT: {
            "learning_rate": 1.6e-3,
            "table_rate": 4e-3,
            "table_beta_2": 0.95,
        },
    },
}
_SCALED = ("learning_rate", "table_rate")


def rates_of(
    optimizer: str,
    architecture: str,
    scale: float,
    few_rows: bool = False,
    linear_start: bool = False,
) -> dict[str, Any]:
    """Rates by argument, two digits, and the `schedule` that goes with them.

    Args:
        optimizer: its name in a configuration.
        architecture: `model.name`.
        scale: of the rates, 1 at batches of 512.
        few_rows: whether the log gives several epochs of few steps.
        linear_start: whether a linear model was fitted before, of few rows.
    """
    # An optimizer that was not searched has the rate of its class.
    default = {"learning_rate": defaults(optimizer)["learning_rate"]}
    rates = _RATES.get(optimizer, {_DEFAULT: default})
    if linear_start:
        rates = _AFTER_LINEAR_START.get(optimizer, rates)
    elif few_rows:
        rates = _FEW_ROWS.get(optimizer, rates)
    found = rates.get(architecture, rates[_DEFAULT])
    if optimizer in ("ftrl", "adagrad", "adafactor"):
        scale = 1.0  # each scales its own steps
    return {
        "schedule": None if optimizer in FIXED_RATE else _COSINE,
        **found,
        **{
            name: float(f"{found[name] * scale:.2g}")
            for name in _SCALED
            if name in found
        },
    }
