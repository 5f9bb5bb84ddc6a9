"""Curves of numbers from examples to the export, and to the next training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from models.checkpointing import saved_state
from models.checkpointing.warm_start import Base
from models.config.training import ModelConfig, TrainConfig
from models.errors import InputError
from models.export import Served, export
from models.input_pipeline.row_counts import ROWS
from models.preprocessing import analyzers
from models.training.metrics import logloss_of_logits
from models.training.run import TrainingRun
from optimizers.registry import build_optimizer
from pipeline.prediction.chunk import Model
from tests.components.transform import runs

SPEC: dict[str, Any] = {
    "label": tf.io.VarLenFeature(tf.int64),
    "site": tf.io.VarLenFeature(tf.string),
    "age": tf.io.VarLenFeature(tf.float32),
}
FEATURES = {"numeric": ["age"], "categorical": ["site"]}
CUSTOM: dict[str, Any] = {
    "features": FEATURES,
    "model": ModelConfig(hidden=(4,)).asked(),
    "optimizer": {"name": "lion", "learning_rate": "auto"},
    "train": TrainConfig(batch_size=256, jit=False).asked(),
    "negatives": {},
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Clicks of the middle ages; some have no age."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        age = float(rng.integers(0, 60))
        click = rng.random() < (0.7 if 10 < age < 35 else 0.15)
        row = {"site": f"s{rng.integers(5)}", "label": int(click)}
        found.append(row | ({"age": age} if rng.random() < 0.9 else {}))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder, eval rows, the training and what it fitted."""
    folder = tmp_path_factory.mktemp("curves")
    splits = {"train": rows(1500, 1), "eval": rows(1000, 2)}
    counts = {name: len(found) for name, found in splits.items()}
    job = runs.training(CUSTOM, folder, splits, SPEC, {ROWS: counts})
    key = job.key
    fitted = job.fit()
    assert job.key == key  # a checkpoint is found again
    return folder, splits["eval"], job, fitted


def test_the_choice_is_said_and_the_export_has_the_curves(
    trained: Any,
) -> None:
    folder, found, job, fitted = trained
    assert job.custom["train"]["curves"] is True
    (choice,) = (c for c in job.chosen if c.path == "train.curves")
    assert choice.value is True and "standard errors better" in choice.reason
    served = Served(
        fitted.model,
        job.files.transform,
        job.features,
        job.negatives.shift,
        analysis=analyzers.kept(job.features, job.files.transform),
    )
    path = folder / "7"
    export(served, str(path), {"config": CUSTOM})
    ages = np.array([row.get("age", np.nan) for row in found], np.float32)
    sites = [row["site"] for row in found]
    answers = tf.saved_model.load(str(path)).signatures["serving_default"](
        site=tf.constant(sites), age=tf.constant(ages)
    )["ctr"]
    p = answers.numpy().astype(float)
    label = np.array([row["label"] for row in found])
    loss = logloss_of_logits(label, np.log(p) - np.log1p(-p))
    assert loss == pytest.approx(job.scores(fitted.model).logloss, rel=1e-4)
    scored = Model(str(path)).predict(
        {"site": pa.array(sites), "age": pa.array(ages)}, {}
    )["ctr"]
    np.testing.assert_array_equal(scored, answers)
    middle = (ages > 14) & (ages < 30)
    assert p[middle].mean() > 0.5 > 2 * p[ages > 40].mean()


def test_a_warm_start_keeps_the_curves(trained: Any, tmp_path: Path) -> None:
    *_, job, fitted = trained
    saved_state.save(
        str(tmp_path),
        fitted.model,
        build_optimizer({"name": "sgd", "learning_rate": 0.1}, 10, 3),
        job.meaning,
    )
    base = Base(str(tmp_path))
    given = {"warm_start": "latest_blessed", "epochs": 1}
    warm = TrainingRun(
        {**CUSTOM, "train": CUSTOM["train"] | given}, job.files, base
    )
    assert warm.custom["train"]["curves"] is True and warm.shape.pieces == 8
    assert "the warm start has them" in [
        choice.reason for choice in warm.chosen
    ]
    later = warm.fit()
    assert later.warm_start is not None
    new = later.warm_start.initialised
    assert not any(name.startswith("model/") for name in new)
    before, after = (one.model.deep.curves for one in (fitted, later))
    np.testing.assert_array_equal(before.left, after.left)
    np.testing.assert_allclose(before.weight, after.weight, atol=0.3)
    assert (before.weight.numpy() != after.weight.numpy()).any()

    off = CUSTOM["train"] | given | {"curves": False}
    straight = TrainingRun({**CUSTOM, "train": off}, job.files, base)
    assert straight.shape.pieces == 0
    assert straight.custom["train"]["curves"] is False


def test_curves_need_a_linear_start(trained: Any) -> None:
    job = trained[2]
    train = CUSTOM["train"] | {"curves": True, "linear_start": False}
    with pytest.raises(InputError, match=r"train\.curves: received true.*fals"):
        TrainingRun({**CUSTOM, "train": train}, job.files)
