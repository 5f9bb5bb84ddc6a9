"""Compare the losses of `train.loss` on logs with groups and known truth.

    python -m benchmarks.studies.losses --seeds 3

Two logs: "user x item" of `studies.logs`, with the user as the group and a
feature; and "sessions", whose level nobody sees and whose numbers hint at it.
A column tells the mean prediction over the click rate of the test rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.defaults import (
    arguments,
    learned,
    predicted,
    repeated,
)
from benchmarks.studies.encoding import encoded
from benchmarks.studies.logs import SHAPES, Log, draw
from benchmarks.studies.scores import judged, parts

LOSSES: dict[str, dict[str, Any]] = {
    "logloss": {"name": "logloss"},
    "focal, gamma 2": {"name": "focal"},
    "label_smoothing .01": {"name": "label_smoothing"},
    "pairwise .5": {"name": "pairwise", "group": "g"},
    "pairwise 0": {"name": "pairwise", "group": "g", "logloss_share": 0},
    "jrc .5": {"name": "jrc", "group": "g"},
    "jrc .1": {"name": "jrc", "group": "g", "logloss_share": 0.1},
}


class Grouped(NamedTuple):
    """A log, and the group of each row."""

    log: Log
    groups: Any


def sessions(seed: int, count: int = 12_500, size: int = 8) -> Grouped:
    """A session's level raises clicks, and moves two of four numbers."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), size)
    level = rng.normal(size=count)[groups]
    items = (1000 * rng.random(len(groups)) ** 2).astype(np.int64)
    effect = rng.normal(size=1000)[items]
    numbers = rng.normal(size=(len(groups), 4))
    numbers[:, :2] -= 0.7 * level[:, None]
    inside = 0.6 * (numbers @ [1.0, -0.5, 0.5, 0.0])
    logit = -1.8 + 1.5 * level + 0.7 * effect + inside
    truth = 1 / (1 + np.exp(-logit))
    label = rng.random(len(groups)) < truth
    return Grouped(
        Log(items[:, None], numbers, label.astype(float), truth), groups
    )


def users(seed: int) -> Grouped:
    """Products of vectors of users and items; the user is the group."""
    log = draw(SHAPES["user x item"], seed)
    return Grouped(log, log.ids[:, 0])


WORLDS = {"sessions": sessions, "user x item": users}


def trained(world: Grouped, section: dict[str, Any], seed: int) -> list[float]:
    """Test GAUC, AUC, logloss, and mean prediction over click rate."""
    from models.config.losses import LossConfig
    from models.config.training import TrainConfig
    from models.input_pipeline.groups import by_group
    from models.training.group_metrics import gauc
    from models.training.metrics import sigmoid

    layout, inputs = encoded(world.log)
    inputs["groups"] = world.groups.astype(np.int64)
    train, _, test = parts(len(world.log.label))
    asked = TrainConfig(
        loss=LossConfig.model_validate(section), linear_start=False, epochs=2
    ).asked()

    def ordered(config: TrainConfig) -> Any:
        rng = np.random.default_rng(seed)
        order = rng.permutation(train.stop)
        if config.loss.grouped:
            together = config.loss.rows_together
            order = by_group(world.groups[train], rng, together)
        return order

    model = learned(
        layout, inputs, world.log.label, asked, seed, ordered=ordered
    ).model
    labels, logits = predicted(model, inputs, world.log.label)
    chance = sigmoid(logits)
    return [
        gauc(world.groups[test], labels, logits),
        *judged(labels, chance),
        float(chance.mean() / labels.mean()),
    ]


def main() -> None:
    """Prints a line for each loss: means over the seeds."""
    options = arguments(__doc__, WORLDS, 3, "worlds").parse_args()
    columns = ("GAUC", "AUC", "logloss", "mean / rate")
    for name in options.worlds or WORLDS:
        print(
            f"{name:20}" + "".join(f"{c:>20}" for c in columns) + "  s of CPU"
        )
        world = WORLDS[name]
        for loss, section in LOSSES.items():
            one = partial(_one, world, section)
            found, spent = repeated(options.seeds, one)
            cells = [
                f"{mean:.4f} ± {spread:.4f}"
                for mean, spread in zip(
                    found.mean(0), found.std(0), strict=True
                )
            ]
            print(
                f"{loss:20}"
                + "".join(f"{cell:>20}" for cell in cells)
                + f"  {spent:8.0f}",
                flush=True,
            )


def _one(
    world: Callable[[int], Grouped], section: dict[str, Any], seed: int
) -> list[float]:
    return trained(world(seed), section, seed)


if __name__ == "__main__":
    main()
