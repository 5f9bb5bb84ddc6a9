"""Compare the losses of `train.loss` on logs with groups and known truth.

    python -m benchmarks.studies.losses --seeds 3

Two logs: "user x item" of `studies.logs`, with the user as the group and a
feature; and "sessions", whose level nobody sees and whose numbers hint at it.
A column tells the mean prediction over the click rate of the test rows.
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.defaults import encoded, judged, parts
from benchmarks.studies.logs import SHAPES, Log, draw

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
    import keras
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.config.losses import LossConfig
    from models.config.training import ModelConfig, TrainConfig
    from models.input_pipeline.groups import by_group
    from models.training import loop
    from models.training.automatic import choose
    from models.training.evaluation import Evaluation
    from models.training.group_metrics import gauc
    from models.training.metrics import sigmoid
    from optimizers.registry import build_optimizer

    layout, inputs = encoded(world.log)
    label = world.log.label.astype(np.float32)
    train, held_out, test = parts(len(label))
    asked = TrainConfig(
        loss=LossConfig.model_validate(section),
        linear_start=False,
        epochs=2,
        seed=seed,
    ).asked()
    sections, _ = choose(
        {
            "model": ModelConfig().asked(),
            "optimizer": {"name": "lion", "learning_rate": "auto"},
            "train": asked,
        },
        train.stop,
        sum(f.size for f in layout.ids),
    )
    config = TrainConfig.model_validate(sections["train"])
    rng = np.random.default_rng(seed)
    order = rng.permutation(train.stop)
    if config.loss.grouped:
        order = by_group(world.groups[train], rng)

    def batches(rows: Any, size: int = 4096) -> Any:
        some = {name: x[rows] for name, x in inputs.items()}
        some["groups"] = world.groups[rows].astype(np.int64)
        return tf.data.Dataset.from_tensor_slices((some, label[rows])).batch(
            size
        )

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = build_model(
        layout,
        ModelConfig.model_validate(sections["model"]).with_logits(
            config.loss.logits
        ),
        float(label[train].mean()),
    )
    steps = -(-train.stop // config.batch_size) * config.epochs
    loop.train(
        model,
        build_optimizer(sections["optimizer"], steps),
        batches(order, config.batch_size),
        batches(held_out),
        train.stop,
        config,
    )
    labels, logits = Evaluation(model).predict(batches(test))
    chance = sigmoid(logits)
    return [
        gauc(world.groups[test], labels, logits),
        *judged(labels, chance),
        float(chance.mean() / labels.mean()),
    ]


def main() -> None:
    """Prints a line for each loss: means over the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--worlds", nargs="*", choices=list(WORLDS))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    columns = ("GAUC", "AUC", "logloss", "mean / rate")
    for name in options.worlds or WORLDS:
        print(
            f"{name:20}" + "".join(f"{c:>20}" for c in columns) + "  s of CPU"
        )
        for loss, section in LOSSES.items():
            began = time.process_time()
            found = np.array(
                [
                    trained(WORLDS[name](seed), section, seed)
                    for seed in range(1, options.seeds + 1)
                ]
            )
            cells = [
                f"{mean:.4f} ± {spread:.4f}"
                for mean, spread in zip(
                    found.mean(0), found.std(0), strict=True
                )
            ]
            spent = time.process_time() - began
            print(
                f"{loss:20}"
                + "".join(f"{cell:>20}" for cell in cells)
                + f"  {spent:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
