"""A small training, in a process of its own.

    python training.py EXAMPLES CHECKPOINTS OUT SETTINGS

Settings: those of TrainConfig, and `optimizer`, a spec, `negatives`,
`dropout`, and `state` and `base`, folders beside the examples where the
training's state is left and where it begins; JSON. OUT, an .npz, gets all that
training changed; `steps` says where it began and ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.architectures.registry import build_model
from models.checkpointing.saved_state import (
    Meaning,
    columns_of,
    optimizer_names,
    save,
)
from models.checkpointing.warm_start import Base
from models.config.training import ModelConfig, Negatives, TrainConfig
from models.input_pipeline.dataset import Batches
from models.keras_versions import keras_version, start_afresh
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import linear_start, loop
from models.training.distribution import Team, build_strategy
from models.variables import named_variables
from optimizers.registry import build_optimizer
from tests.examples import example

ROWS, BATCH = 2000, 64
LAYOUT = Layout(
    single=(IdFeature("a", 500, 4), IdFeature("b", 40, 4)),
    lists=(IdFeature("tags", 9, 4),),
    dense=("x", "y"),
)


class Spec:
    """Part of Transform's output that the inputs need."""

    def transformed_feature_spec(self) -> dict[str, Any]:
        return {
            "ids": tf.io.FixedLenFeature([2], tf.int64),
            "dense": tf.io.FixedLenFeature([2], tf.float32),
            "list_tags": tf.io.VarLenFeature(tf.int64),
            "label": tf.io.FixedLenFeature([], tf.int64),
        }


def write(folder: Path, rows: int = ROWS, files: int = 3) -> None:
    """Examples whose label depends on `a` and x."""
    rng = np.random.default_rng(1)
    writers = [
        tf.io.TFRecordWriter(
            str(folder / f"part-{i}.gz"), tf.io.TFRecordOptions("GZIP")
        )
        for i in range(files)
    ]
    for row in range(rows):
        ids = rng.integers(0, [500, 40])
        dense = rng.normal(size=2)
        label = int(ids[0] % 3 + dense[0] > 1)
        tags = rng.integers(0, 9, row % 3)
        writers[row % files].write(
            example(ids=ids, dense=dense, list_tags=tags, label=label)
        )
    for writer in writers:
        writer.close()


def meaning(spec: Mapping[str, Any], shift: float, later: bool) -> Meaning:
    """Meaning of LAYOUT; later `a` has other values, and some elsewhere."""
    values = [b"%d" % i for i in range(498)]
    if later:
        values = [b"%d" % i for i in range(510, 12, -1)]
    return Meaning(
        {
            "a": Keys("vocab", 500, 1, vocabulary="a"),
            "b": Keys("hash", 40),
            "tags": Keys("hash", 9),
        },
        {"a": b"\n".join(values)}.__getitem__,
        columns_of(LAYOUT),
        optimizer_names(spec),
        shift,
    )


def train(
    examples: Path,
    checkpoints: Path | None,
    settings: dict[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
) -> tuple[loop.Result, dict[str, Any]]:
    """Result, and all that training changed."""
    given: dict[str, Any] = {
        "batch_size": BATCH,
        "epochs": 2,
        "checkpoint_steps": 7,
        "observe_steps": 10_000,  # tracing that takes a second more
        "shuffle": 500,
        "optimizer": {"name": "lion", "learning_rate": 0.003},
    } | (settings or {})
    spec, name = given.pop("optimizer"), given.pop("model", "wide_deep")
    dropout = given.pop("dropout", 0.2)
    l2 = given.pop("embedding_l2", 0.0)
    negatives = Negatives.model_validate(given.pop("negatives", {}))
    state, base = given.pop("state", None), given.pop("base", None)
    meant = meaning(spec, negatives.shift, later=base is not None)
    begun = Base(f"{examples}/{base}") if base else None
    config = TrainConfig.model_validate(given)
    team = Team(build_strategy(config.strategy))
    start_afresh(config.seed)
    per_epoch = -(-ROWS // config.batch_size)
    section = ModelConfig(
        name=name, hidden=(16,), dropout=dropout, embedding_l2=l2
    )
    files, linear = [f"{examples}/part-*"], None
    layout = LAYOUT
    if config.linear_start:
        rows = Batches(files, Spec(), 500)
        linear = linear_start.fit(
            LAYOUT, meant.keys, rows, rows, negatives, config.curves
        )
        layout = replace(LAYOUT, pieces=linear.pieces)
    elif begun:
        layout = replace(LAYOUT, pieces=begun.pieces)
    with team.strategy.scope():
        model = build_model(layout, section, 0.5)
        optimizer = build_optimizer(
            spec,
            per_epoch * config.epochs,
            keras_version(model),
            begun.steps(model, meant) if begun else 0,
        )
        if begun:
            optimizer.build(model.trainable_variables)
            begun.carry(model, optimizer, meant)
    if linear is not None:
        with team.strategy.scope():
            linear.give(model)
    result = loop.train(
        model,
        optimizer,
        Batches(files, Spec(), config.batch_size, config.shuffle, config.seed),
        Batches(files, Spec(), 500).epoch(0),
        ROWS,
        config,
        f"{checkpoints}/tensorboard" if checkpoints else None,
        negatives=negatives,
        callbacks=callbacks,
        team=team,
        checkpoints=str(checkpoints) if checkpoints else None,
    )
    if state:
        save(f"{examples}/{state}", model, optimizer, meant)
    return result, {
        name: variable.numpy()
        for name, variable in named_variables(model, optimizer).items()
    }


def scalars(checkpoints: Path) -> dict[str, dict[int, float]]:
    """Scalars of TensorBoard: tag -> step -> value."""
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    events = EventAccumulator(str(checkpoints / "tensorboard"))
    events.Reload()
    return {
        tag: {
            event.step: float(tf.make_ndarray(event.tensor_proto))
            for event in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
    }


def main(examples: str, checkpoints: str, out: str, settings: str) -> None:
    result, found = train(
        Path(examples), Path(checkpoints), json.loads(settings)
    )
    np.savez(
        out,
        steps=[result.resumed_at, result.steps],
        logloss=result.eval_logloss,
        **found,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
