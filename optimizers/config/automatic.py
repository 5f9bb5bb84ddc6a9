"""Rates that train, where a configuration gives none: for batches of 512."""

from __future__ import annotations

_DEFAULT = ""

# Optimizer -> architecture -> rate of the rest, rate of embedding tables, and
# what else tables want. `benchmarks/studies/lion_tables.py` searched them.
_RATES: dict[str, dict[str, dict[str, float]]] = {
    "lion": {
        _DEFAULT: {
            "learning_rate": 4e-4,
            "table_rate": 4e-3,
            "table_beta_2": 0.95,
        },
        # Products of embeddings bear no larger rate.
        "deepfm": {
            "learning_rate": 1e-3,
            "table_rate": 1e-3,
            "table_beta_2": 0.95,
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
_UNSCALED = ("table_beta_2",)


def rates_of(
    optimizer: str, architecture: str, scale: float
) -> dict[str, float]:
    """Rates by argument, two digits.

    Args:
        optimizer: its name in a configuration.
        architecture: `model.name`.
        scale: of the rates, 1 at batches of 512.
    """
    rates = _RATES[optimizer]
    found = rates.get(architecture, rates[_DEFAULT])
    if optimizer in ("ftrl", "adagrad", "adafactor"):
        scale = 1.0  # each scales its own steps
    return {
        name: value if name in _UNSCALED else float(f"{value * scale:.2g}")
        for name, value in found.items()
    }
