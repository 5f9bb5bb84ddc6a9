"""Losses on two mirrored replicas, and on one device that cuts groups alike.

    python mirrored_losses.py OUT

OUT, a .npz, gets the weights of both: LOSS/STRATEGY/NUMBER.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.training import ModelConfig, TrainConfig
from models.input_pipeline.dataset import Batches
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import loop
from models.training.distribution import Team, build_strategy
from optimizers.registry import build_optimizer
from tests.examples import example

ROWS, BATCH = 640, 64
LAYOUT = Layout((IdFeature("a", 50, 4),), (), ("x",))
LOSSES = {"focal": {}, "pairwise": {"group": "g"}, "jrc": {"group": "g"}}
INT = tf.io.FixedLenFeature([], tf.int64)


class Spec:
    """Part of Transform's output that the inputs need."""

    def transformed_feature_spec(self) -> dict[str, Any]:
        return {
            "ids": tf.io.FixedLenFeature([1], tf.int64),
            "dense": tf.io.FixedLenFeature([1], tf.float32),
            "label": INT,
            "groups": INT,
        }


def write(path: Path) -> None:
    rng = np.random.default_rng(1)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(ROWS):
            x = rng.normal(size=1)
            writer.write(
                example(
                    ids=[int(rng.integers(0, 50))],
                    dense=x,
                    label=int(rng.random() < 1 / (1 + np.exp(-x[0]))),
                    groups=int(rng.integers(-1, 40)),
                )
            )


def cut(inputs: dict[str, Any], label: tf.Tensor) -> Any:
    """Groups that end where a replica's part of the batch does."""
    count = tf.size(label)
    second = tf.cast(tf.range(count) >= count // 2, tf.int64)
    groups = inputs["groups"]
    groups = tf.where(groups < 0, groups, 2 * groups + second)
    return {**inputs, "groups": groups}, label


def trained(files: list[str], name: str, strategy: str) -> Any:
    config = TrainConfig.model_validate(
        {
            "loss": {"name": name, **LOSSES[name]},
            "strategy": strategy,
            "batch_size": BATCH,
            "jit": False,
            "observe_steps": 10_000,
        }
    )
    team = Team(build_strategy(strategy))
    keras.utils.set_random_seed(1)
    with team.strategy.scope():
        section = ModelConfig(hidden=(8,), dropout=0.0)
        section = section.with_logits(config.loss.logits)
        model = build_model(LAYOUT, section, 0.5)
        optimizer = build_optimizer({"name": "sgd", "learning_rate": 0.3}, 10)
    spec: Any = Spec()
    data: Any = Batches(files, spec, BATCH, ROWS, 3, config.loss.grouped)
    if strategy == "one_device":
        data = data.epoch().map(cut)
    held_out = Batches(files, spec, ROWS)
    loop.train(model, optimizer, data, held_out, ROWS, config, team=team)
    return model.get_weights()


def main(out: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    saved = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "part")
        for name in LOSSES:
            for strategy in ("mirrored", "one_device"):
                found = trained([f"{folder}/part"], name, strategy)
                for number, values in enumerate(found):
                    saved[f"{name}/{strategy}/{number}"] = np.array(values)
    np.savez(out, **saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
