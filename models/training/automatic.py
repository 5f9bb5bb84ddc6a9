"""Settings that nobody gave: chosen from the log before training.

The rules were chosen on generated logs (`docs/training.md` has the reasons);
a setting that the config gives is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.training import precision
from models.training.cluster import workers
from optimizers.config.automatic import rates_of
from optimizers.config.catalog import AUTO, TABLE_ARGUMENTS
from optimizers.config.messages import counted

_STEPS = 1000  # of a training, if the log can give them within _EPOCHS
_STEPS_AFTER_START = 2000
_EPOCHS, _EPOCHS_OF_MANY = 8, 2  # at most, of few rows and of many
_EVAL_STEPS = 125  # at most, where early stopping keeps the best
# Rank of a cross layer's matrix, from the width on where it halves the work,
# and number of such layers. `benchmarks/studies/architectures.py` compared.
_RANK, _LOW_RANK_WIDTH = 64, 256
_LAYERS, _LAYERS_OF_LOW_RANK = 3, 2
# Fewer say too little of an id for its embedding to be left free.
_EVENTS_PER_ID, _EVENTS_PER_ID_AFTER_START = 1.0, 0.5
_SMALL = 150_000  # rows below which a large network learns the log by heart
# Rows below which a network learns what a linear start leaves in several
# passes at low rates; from there on as without a start.
_SLOW = 250_000
_LINEAR = 400_000  # rows below which a linear start was found to pay
_WHY_LINEAR = "single effects exactly, the network what is left"


@dataclass(frozen=True)
class Choice:
    """A setting that was chosen: its path in the config, value and reason."""

    path: str
    value: Any
    reason: str


def choose(
    custom: Mapping[str, Any],
    rows: int,
    ids: int,
    events: int | None = None,
    width: int = 0,
) -> tuple[dict[str, Any], list[Choice]]:
    """The sections of a training without `auto`, and what was chosen.

    Args:
        custom: sections `model`, `optimizer`, `train`, and others.
        rows: that train.
        ids: values of all categorical features and buckets.
        events: rows of the rarer label; None: half of all.
        width: numbers and values of all embeddings of a row.
    """
    chosen: list[Choice] = []
    sections = {
        name: dict(custom[name]) for name in ("model", "optimizer", "train")
    }

    def fill(path: str, value: Any, reason: str) -> None:
        name, _, field = path.partition(".")
        if sections[name].get(field) == AUTO:
            sections[name][field] = value
            chosen.append(Choice(path, value, reason))

    def put(path: str, value: Any, reason: str) -> None:
        """Fills a field that is null where nothing is given."""
        name, _, field = path.partition(".")
        if sections[name].get(field) is None:
            sections[name][field] = value
            chosen.append(Choice(path, value, reason))

    train, model, optimizer = (
        sections[name] for name in ("train", "model", "optimizer")
    )
    size = f"{rows:,} rows"
    fill(
        "train.batch_size",
        batch_size(rows),
        f"half the square root of {size}, a power of two from 64 to 4096",
    )
    small = rows < _SMALL
    word = "few" if small else "enough"
    # Above _SMALL only Lion was tried with it.
    most = _LINEAR if optimizer.get("name") == "lion" else _SMALL
    if rows < most and _may_start_linear(sections):
        fill("train.linear_start", True, _WHY_LINEAR)
    elif train.get("linear_start") == AUTO:
        train["linear_start"] = False
    begun = train.get("linear_start") is True
    if train.get("curves") == AUTO and not begun:  # else the start chooses
        train["curves"] = False
    slow = begun and rows < _SLOW
    steps = -(-rows // train["batch_size"])
    wanted = _STEPS_AFTER_START if slow else _STEPS
    epochs = min(_EPOCHS if small else _EPOCHS_OF_MANY, -(-wanted // steps))
    if train.get("epochs") == AUTO:
        fill(
            "train.epochs",
            epochs,
            f"{counted(steps, 'step')} an epoch; a training wants {wanted:,}",
        )
        if begun:
            often = max(1, steps // 4)
            put(
                "train.eval_steps",
                min(_EVAL_STEPS, often) if small else often,
                "four evaluations an epoch or more: the best weights are kept",
            )
            put(
                "train.early_stopping",
                {"patience": 8 if small else 4, "min_delta": 0.0},
                "the linear start counts as the first evaluation",
            )
        elif epochs > 1:
            put(
                "train.early_stopping",
                {"patience": 2, "min_delta": 0.0},
                "several epochs: the best of them is kept",
            )
    if train.get("precision") == AUTO:
        fill("train.precision", *precision.fastest())
    fill("model.hidden", [64, 32] if small else [256, 128], f"{word} rows")
    low = model.get("projection_dim") == AUTO and width >= _LOW_RANK_WIDTH
    wide = f"{counted(width, 'value')} a row before the cross layers"
    fill("model.cross_layers", _LAYERS_OF_LOW_RANK if low else _LAYERS, wide)
    fill("model.projection_dim", _RANK if low else None, wide)
    fill(
        "model.dropout",
        0.2 if small or slow else 0.0,
        "a linear start" if slow and not small else f"{word} rows",
    )
    if slow or small:
        share = (rows // 2 if events is None else events) / max(1, ids)
        enough = _EVENTS_PER_ID_AFTER_START if slow else _EVENTS_PER_ID
        fill(
            "model.embedding_l2",
            0.0 if share >= enough else 0.02,
            f"{share:.2g} rows of the rarer label for each id",
        )
    fill("model.embedding_l2", 0.0, f"{word} rows")
    if optimizer.get("learning_rate") == AUTO:
        scale = math.sqrt(train["batch_size"] / 512)
        rates = rates_of(
            optimizer["name"],
            model["name"],
            scale,
            small,
            slow,
        )
        schedule = rates.pop("schedule")
        why = f"{optimizer['name']} at batches of {train['batch_size']}"
        fill("optimizer.learning_rate", rates["learning_rate"], why)
        if ids:
            for name, value in rates.items():
                optimizer.setdefault(name, AUTO)
                fill(f"optimizer.{name}", value, f"{why}, embedding tables")
        if schedule is not None:
            put("optimizer.schedule", dict(schedule), why)
    for name in TABLE_ARGUMENTS:
        if optimizer.get(name) == AUTO:
            del optimizer[name]
    return {**custom, **sections}, chosen


def _may_start_linear(sections: Mapping[str, Mapping[str, Any]]) -> bool:
    """Only where rates and epochs are chosen too, and not among workers."""
    train, optimizer = sections["train"], sections["optimizer"]
    return (
        sections["model"].get("name", "wide_deep") == "wide_deep"
        and optimizer.get("learning_rate") == train.get("epochs") == AUTO
        and train.get("warm_start") is None
        and train.get("strategy") not in ("multi_worker", "tpu")
        and workers() < 2
    )


def batch_size(rows: int) -> int:
    """Rows of an update: noise helps small logs, speed counts on large ones."""
    power = round(math.log2(max(1.0, math.sqrt(rows) / 2)))
    return int(2 ** min(12, max(6, power)))
