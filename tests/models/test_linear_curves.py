"""Curves of numbers in the linear start: chosen, given, kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.training import ModelConfig, Negatives
from models.preprocessing.input_layout import Layout
from models.training import linear_curves, linear_start
from models.training.evaluation import Evaluation
from models.training.linear_curves import PIECES, ramps
from models.training.metrics import logloss_of_logits

ROWS = 4000
LAYOUT = Layout((), (), ("bent", "counted", "straight", "flag", "constant"))


def drawn(seed: int, bend: float) -> tuple[dict[str, Any], Any]:
    """Numbers of LAYOUT, and clicks that the first three make likely."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, ROWS)
    x = np.stack(
        [
            rng.normal(size=ROWS),
            np.log1p(counts),
            rng.normal(size=ROWS),
            rng.random(ROWS) < 0.3,
            np.full(ROWS, 0.25),
        ],
        1,
    ).astype(np.float32)
    logit = bend * (x[:, 0] ** 2 - 1) + bend * (counts == 1) + x[:, 2] - 0.5
    label = rng.random(ROWS) < 1 / (1 + np.exp(-logit))
    return {"dense": x}, label.astype(np.float32)


def batched(rows: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(rows).batch(512)


def fitted(bend: float, curves: bool | str = "auto") -> linear_start.Fit:
    rows = [batched(drawn(seed, bend)) for seed in (1, 2)]
    return linear_start.fit(LAYOUT, {}, *rows, Negatives(), curves)


def given(found: linear_start.Fit) -> Any:
    model = build_model(
        replace(LAYOUT, pieces=found.pieces), ModelConfig(hidden=(4,)), 0.3
    )
    found.give(model)
    return model


def test_a_bent_effect_gets_a_curve_that_the_model_has() -> None:
    found = fitted(0.8)
    verdict = found.start.curves
    assert verdict is not None and verdict.penalty and found.pieces == PIECES
    assert verdict.errors > 5 and "standard errors better" in verdict.reason
    straight = fitted(0.8, curves=False)
    assert not straight.pieces and straight.start.curves is None
    assert found.start.logloss < straight.start.logloss - 0.03
    model = given(found)
    labels, logits = Evaluation(model).predict(batched(drawn(2, 0.8)))
    assert logloss_of_logits(labels, logits) == pytest.approx(
        found.start.logloss, abs=2e-3  # the network begins near 0
    )  # fmt: skip
    trained = {v.path for v in model.trainable_variables}
    assert not any("curves" in path or "weight" in path for path in trained)
    # A click is as likely far left as far right.
    curve = model.deep.curves
    ends = np.full((2, 5), 0.0, np.float32)
    ends[:, 0] = -1.2, 1.2
    left, right = (curve(ends) + ends @ model.deep.weight).numpy()
    middle = float(curve(0 * ends)[0])
    assert min(left, right) - middle > 0.5


def test_a_straight_effect_gets_none() -> None:
    found = fitted(0.0)
    verdict = found.start.curves
    assert verdict is not None and verdict.penalty is None
    assert found.pieces == 0 and given(found).deep.curves is None
    assert found.weights == pytest.approx(fitted(0.0, False).weights)


def test_curves_that_are_asked_for_come_anyway() -> None:
    found = fitted(0.0, curves=True)
    assert found.pieces == PIECES
    assert given(found).deep.curves is not None


def test_ramps_rise_between_quantiles_and_steps_to_the_next_number() -> None:
    x = drawn(1, 0.0)[0]["dense"].astype(np.float64)
    found = ramps(x)
    assert found is not None
    assert found.bends == [0, 1, 2]  # a flag and a constant have none
    assert (found.width > 0).all()
    ends = found.left[0, 0], (found.left + found.width)[0, -1]
    assert np.mean(x[:, 0] < ends[0]) == pytest.approx(0.1, abs=0.01)
    assert np.mean(x[:, 0] > ends[1]) == pytest.approx(0.1, abs=0.01)
    shares = found.shares(x).reshape(ROWS, 3, PIECES)
    assert (shares[x[:, 0] > ends[1], 0] == 1).all()
    zero, one = x[:, 1] == 0, x[:, 1] == x[x[:, 1] > 0, 1].min()
    assert (shares[zero, 1] == 0).all()
    # Half of the rows count 0: some ramps are steps from 0 to 1.
    assert (shares[one, 1] == 1).any(1).all()
    between = x[one][:1].copy()
    between[0, 1] /= 2  # no jump: rounding of a number moves a score little
    half = found.shares(between).reshape(3, PIECES)[1]
    assert (half > 0).any() and (half < 1).all()


def test_without_numbers_that_bend_nobody_is_asked() -> None:
    flags = np.random.default_rng(0).random((100, 2)) < 0.5
    assert ramps(flags.astype(float)) is None
    assert ramps(np.zeros((100, 0))) is None


def test_more_cells_than_memory_has_are_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear_curves, "_CELLS", ROWS * 3 * PIECES - 1)
    assert fitted(0.8).start.curves is None


def test_a_sample_chooses_and_all_rows_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = fitted(0.8).start.logloss
    monkeypatch.setattr(linear_start, "_ROWS", 1000)
    found = fitted(0.8)
    assert found.pieces and found.start.logloss == pytest.approx(
        whole, abs=2e-3
    )
