"""Calibration of an export: fitted by held-out rows, applied in its graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.export import UNCALIBRATED, Served, export, export_id
from models.preprocessing.id_space import Keys, value_of
from models.training import calibration, metrics
from models.training.calibration import ENOUGH, Rows, UnfitError, fit
from tests.models.test_training_only import (
    LOGGED,
    ROWS,
    Model,
    Transform,
    Vocabularies,
    features,
)

COUNT = 20_000


def rows(
    slope: float = 0.6, shift: float = -0.7, count: int = COUNT, seed: int = 1
) -> Rows:
    """Logits that are wrong by a slope and a shift; a third have ties."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, count)
    logits[::3] = np.round(logits[::3], 1)
    logits = logits.astype(np.float32).astype(np.float64)
    p = metrics.sigmoid(slope * logits + shift)
    labels = (rng.random(count) < p).astype(np.float64)
    return Rows(labels, logits, rng.uniform(0.2, 3, count))


def in_graph(
    found: calibration.Calibration, logits: Any, ids: Any = None
) -> Any:
    """Probabilities, as the exported graph computes them."""
    inputs = {} if ids is None else {"ids": tf.constant(ids, tf.int64)}
    function = tf.function(lambda z: found(z, inputs))
    return function(tf.constant(logits, tf.float32)).numpy()


def test_platt_is_logistic_regression_on_the_logits() -> None:
    data = rows()
    reference = LogisticRegression(penalty=None, tol=1e-10, max_iter=1000)
    reference.fit(data.logits[:, None], data.labels, data.weights)
    slope, intercept = calibration.platt(data)
    assert slope == pytest.approx(reference.coef_[0, 0], abs=1e-5)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-5)
    found, (report,) = fit("platt", data)
    fresh = rows(seed=2)
    np.testing.assert_allclose(
        in_graph(found, fresh.logits),
        reference.predict_proba(fresh.logits[:, None])[:, 1],
        atol=1e-5,
    )
    assert report == {
        "id": None,
        "rows": COUNT,
        "positives": data.labels.sum(),
        "slope": slope,
        "intercept": intercept,
    }


def test_isotonic_is_that_of_scikit_learn_but_at_its_ends() -> None:
    data, fresh = rows(), rows(seed=2)
    reference = IsotonicRegression(out_of_bounds="clip")
    reference.fit(data.logits, data.labels, data.weights)
    found, _ = fit("isotonic", data)
    p = in_graph(found, fresh.logits)
    expected = reference.predict(fresh.logits)
    knots = reference.y_thresholds_[reference.y_thresholds_ > 0]
    inside = (expected >= knots[0]) & (expected < knots[knots < 1][-1])
    assert inside.mean() > 0.95
    np.testing.assert_allclose(p[inside], expected[inside], atol=1e-5)
    assert p.min() > 0 and p.max() < 1


def test_the_last_block_of_clicks_alone_is_not_certain() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1.0])
    x, y = calibration.isotonic(Rows(labels, np.arange(9.0), np.ones(9)))
    assert list(x) == [0, 2, 3, 4, 5, 8]
    np.testing.assert_allclose(y, [0.125, 0.125, 0.5, 0.5, 0.9, 0.9])
    # One block: nothing rises.
    x, y = calibration.isotonic(
        Rows(1 - labels[:6], np.arange(6.0), np.ones(6))
    )
    assert list(x) == [0, 5] and list(y) == pytest.approx([4 / 6] * 2)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_rows_held_out_are_calibrated_and_ranked_as_before(method: str) -> None:
    data, fresh = rows(), rows(seed=2)
    found, _ = fit(method, data)
    p = in_graph(found, fresh.logits)
    given = fresh.labels, fresh.weights

    def error(probabilities: Any) -> float:
        return metrics.expected_calibration_error(
            given[0], probabilities, given[1]
        )

    before = metrics.sigmoid(fresh.logits)
    assert error(p) < 0.2 * error(before)
    order = np.argsort(fresh.logits)
    assert (np.diff(p[order]) >= 0).all()
    apart = metrics.auc(given[0], p, given[1]) - metrics.auc(
        given[0], before, given[1]
    )
    # Platt's ranking is the same, up to float32; isotonic has ties.
    assert abs(apart) < (1e-6 if method == "platt" else 2e-3)
    assert np.isnan(in_graph(found, [np.nan])).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_value_with_enough_rows_has_a_function_of_its_own(
    method: str,
) -> None:
    one, other = rows(0.5, -1.0), rows(1.5, 0.5, seed=3)
    few = rows(1, 3, ENOUGH[method] - 1, seed=4)
    parts = {7: one, 2: other, 9: few}
    ids = np.repeat(list(parts), [len(p.labels) for p in parts.values()])
    together = Rows(
        *(
            np.concatenate([getattr(p, name) for p in parts.values()])
            for name in ("labels", "logits", "weights")
        ),
        ids,
    )
    found, reports = fit(method, together, column=1)
    assert [report["id"] for report in reports] == [2, 7, None]
    z = np.linspace(-8, 8, 41)
    for id, expected in (
        (7, fit(method, one)[0]),
        (2, fit(method, other)[0]),
        (9, fit(method, together)[0]),
        (0, fit(method, together)[0]),
        (99, fit(method, together)[0]),
    ):
        pairs = np.stack([np.zeros(41), np.full(41, id)], 1)
        np.testing.assert_allclose(
            in_graph(found, z, pairs), in_graph(expected, z), atol=1e-6
        )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (rows(count=300), "too few; platt needs 100 of either label"),
        (rows(slope=-0.5), "turns the ranking round"),
        (Rows(rows().labels, np.ones(COUNT), np.ones(COUNT)), "the same"),
        (
            Rows(
                (rows().logits > 0).astype(float), rows().logits, np.ones(COUNT)
            ),
            "without error",
        ),
    ],
)
def test_rows_that_fit_no_rising_function(data: Rows, words: str) -> None:
    with pytest.raises(UnfitError, match=words):
        fit("platt", data)


def test_every_signature_is_calibrated_but_one(tmp_path: Path) -> None:
    found, _ = fit("platt", rows())
    slope, intercept = found.curves.slope[0], found.curves.intercept[0]
    served = Served(
        Model(),
        Transform(),
        features(place="top"),
        logit_shift=-1.0,
        calibrations=(found,),
    )
    path = str(tmp_path / "m")
    export(served, path, {})
    signatures = tf.saved_model.load(path).signatures
    logged = np.array(LOGGED) - 1
    constant = np.array([1.59, 1.0, 1.37]) - 1
    given = tf.constant(ROWS)
    for name, logits in (
        ("examples", slope * constant + intercept),
        ("examples_as_logged", slope * logged + intercept),
        (UNCALIBRATED, logged),
    ):
        p = signatures[name](examples=given)["ctr"]
        np.testing.assert_allclose(p, metrics.sigmoid(logits), atol=1e-6)
    raw = {
        "user": tf.constant(["u", "w", "u"]),
        "age": tf.constant([3.0, np.nan, 1.0]),
        "slot": tf.constant([4, -1, 2], tf.int64),
    }
    p = signatures["serving_default"](**raw)["ctr"]
    expected = metrics.sigmoid(slope * constant + intercept)
    np.testing.assert_allclose(p, expected, atol=1e-6)


def test_an_export_with_another_calibration_is_another(tmp_path: Path) -> None:
    class Weighted:
        variables = (tf.Variable([1.0, 2.0], name="w"),)

    transform: Any = Vocabularies(tmp_path / "a", "u\nw")
    found = {
        export_id(Weighted(), transform, {}, *(made.arrays() if made else ()))
        for made in (
            None,
            fit("platt", rows())[0],
            fit("platt", rows(seed=2))[0],
            fit("isotonic", rows())[0],
        )
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (
            Keys("vocab", 4, 1, vocabulary="v"),
            ["no value", "tv", "pc", "values outside the vocabulary"],
        ),
        (Keys("identity", 3), ["no value", "0", "1"]),
        (Keys("hash", 2), ["no value", "hash bucket 0"]),
    ],
)
def test_a_segment_is_called_by_its_value(keys: Keys, names: list[str]) -> None:
    text = {"v": b"tv\npc"}.__getitem__
    assert [value_of(keys, id, text) for id in range(keys.size)] == names
