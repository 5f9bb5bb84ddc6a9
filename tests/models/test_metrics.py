"""Every metric against scikit-learn, and against cases done by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from models.config.metric_registry import (
    METRICS,
    OBJECTIVES,
    REGISTERED,
    better,
    names_of,
)
from models.errors import InputError
from models.training import group_metrics, metrics

ROWS = 3000


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """Labels, probabilities with ties, weights with zeros, groups."""
    rng = np.random.default_rng(3)
    labels = (rng.random(ROWS) < 0.2).astype(np.int64)
    p = np.round(0.2 * labels + 0.8 * rng.random(ROWS), 2)
    return {
        "labels": labels,
        "probabilities": np.clip(p, 0.01, 0.99),
        "weights": rng.integers(0, 4, ROWS).astype(float),
        "groups": rng.integers(0, 300, ROWS),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.auc, sklearn.roc_auc_score),
        (metrics.logloss, sklearn.log_loss),
        (
            lambda *a: metrics.from_sums("brier", *a),
            sklearn.brier_score_loss,
        ),
        (
            lambda *a: metrics.from_sums("rmse", *a),
            lambda *a, **k: sklearn.mean_squared_error(*a, **k) ** 0.5,
        ),
    ],
)
def test_metrics_are_scikit_learns(
    data: dict[str, Any], ours: Any, theirs: Any, weighted: bool
) -> None:
    labels, p = data["labels"], data["probabilities"]
    weights = data["weights"] if weighted else None
    assert ours(labels, p, weights) == pytest.approx(
        theirs(labels, p, sample_weight=weights), abs=1e-12
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_pr_auc_is_just_below_average_precision(
    data: dict[str, Any], weighted: bool
) -> None:
    labels, p = data["labels"], data["probabilities"]
    weights = data["weights"] if weighted else None
    steps = sklearn.average_precision_score(labels, p, sample_weight=weights)
    positives = labels.sum()
    gap = steps - metrics.pr_auc(labels, p, weights)
    assert abs(gap) < math.log(positives) / positives


def test_pr_auc_by_hand() -> None:
    # All in one tie: precision is the base rate whatever is taken.
    assert metrics.pr_auc([1, 0, 0, 1], [0.3] * 4) == pytest.approx(0.5)
    # Positive, negative, positive from the top; between the last two scores
    # precision grows from 1/2 to 2/3 as (1 + x) / (2 + x).
    last = 1 - math.log(3 / 2)
    assert metrics.pr_auc([1, 0, 1], [0.9, 0.8, 0.7]) == pytest.approx(
        (1 + last) / 2
    )


def test_ties_count_half() -> None:
    assert metrics.auc([0, 1, 0, 1], [0.1, 0.5, 0.5, 0.9]) == 0.875
    assert metrics.auc([0, 1], [0.5, 0.5]) == 0.5
    # weights are repetitions
    assert metrics.auc([0, 1, 1], [0.5, 0.4, 0.6], [2, 1, 3]) == metrics.auc(
        [0, 0, 1, 1, 1, 1], [0.5, 0.5, 0.4, 0.6, 0.6, 0.6]
    )


def test_calibration_and_entropy_by_hand() -> None:
    labels, p = [0, 0, 0, 1], [0.25] * 4
    assert metrics.normalized_entropy(labels, p) == pytest.approx(1, abs=1e-12)
    assert metrics.calibration(labels, p) == 1
    assert metrics.calibration(labels, [0.5] * 4, [1, 1, 0, 1]) == 1.5
    # two bins of two rows: |0.1 - 0| and |0.4 - 0.5|, each half of the rows
    assert metrics.expected_calibration_error(
        [0, 0, 0, 1], [0.05, 0.15, 0.3, 0.5], bins=2
    ) == pytest.approx(0.1)
    # equal predictions stay in one bin
    assert metrics.expected_calibration_error(labels, p, bins=4) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_what_one_class_leaves_undefined(label: int) -> None:
    labels, p = [label] * 3, [0.2, 0.3, 0.4]
    assert math.isnan(metrics.auc(labels, p))
    assert math.isnan(metrics.normalized_entropy(labels, p))
    assert math.isnan(metrics.pr_auc(labels, p)) == (label == 0)
    assert math.isnan(metrics.calibration(labels, p)) == (label == 0)
    assert math.isfinite(metrics.logloss(labels, p))
    assert str(metrics.entropy(np.asarray(float(label)))) == "0.0"


def test_a_probability_that_is_no_number_makes_no_metric() -> None:
    labels, p = [0, 1, 1], [0.2, math.nan, 0.4]
    for function in (
        metrics.auc,
        metrics.pr_auc,
        metrics.logloss,
        metrics.calibration,
        metrics.expected_calibration_error,
    ):
        assert math.isnan(function(labels, p)), function.__name__
    assert math.isnan(group_metrics.gauc([1, 1, 1], labels, p))


def test_no_rows_make_no_metric() -> None:
    for function in (metrics.auc, metrics.logloss, metrics.calibration):
        assert math.isnan(function([], []))
    assert math.isnan(group_metrics.gauc([], [], []))


def test_a_certain_and_wrong_prediction_costs_a_finite_loss() -> None:
    assert metrics.logloss([1], [0.0]) == pytest.approx(-math.log(1e-7))


def test_logits_and_probabilities_give_one_loss() -> None:
    logits = np.linspace(-10, 10, 100)
    labels = np.arange(100) % 2
    assert metrics.logloss_of_logits(labels, logits) == pytest.approx(
        metrics.logloss(labels, metrics.sigmoid(logits)), rel=1e-9
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_is_the_mean_auc_of_groups_by_impressions(
    data: dict[str, Any], weighted: bool
) -> None:
    y, p, groups = data["labels"], data["probabilities"], data["groups"]
    w = data["weights"] if weighted else np.ones(ROWS)
    over = under = 0.0
    for group in range(300):
        rows = (groups == group) & (w > 0)
        if len(set(y[rows])) == 2:
            score = sklearn.roc_auc_score(
                y[rows], p[rows], sample_weight=w[rows]
            )
            over += w[rows].sum() * score
            under += w[rows].sum()
    assert group_metrics.gauc(groups, y, p, w) == pytest.approx(over / under)
    _, codes = np.unique(groups, return_inverse=True)
    sums = group_metrics.group_sums(codes, y.astype(float), p, w, 5).sum(0)
    assert group_metrics.left_out(sums) == pytest.approx(1 - under / w.sum())


def test_ndcg_is_scikit_learns(data: dict[str, Any]) -> None:
    y, p, groups = data["labels"], data["probabilities"], data["groups"]
    found = []
    for group in range(300):
        rows = groups == group
        if y[rows].sum() and rows.sum() > 1:
            found.append(sklearn.ndcg_score(y[rows][None], p[rows][None], k=5))
    assert group_metrics.ndcg_at_k(groups, y, p, k=5) == pytest.approx(
        np.mean(found), abs=1e-12
    )


def test_groups_by_hand() -> None:
    groups = ["a", "a", "a", "b", "c", "c"]
    labels = [1, 0, 1, 1, 0, 0]
    scores = [0.9, 0.8, 0.1, 0.5, 0.4, 0.4]
    # b has one row, c one label: only a has an AUC, of 1 of 2 pairs
    assert group_metrics.gauc(groups, labels, scores) == 0.5
    # the first of a's two positives, all of b's one; c has none
    assert group_metrics.recall_at_k(groups, labels, scores, k=1) == 0.75
    ideal = 1 + 1 / math.log2(3)
    assert group_metrics.ndcg_at_k(groups, labels, scores, k=2) == (
        pytest.approx((1 / ideal + 1) / 2)
    )
    # of two equal scores either may be on top
    assert group_metrics.recall_at_k([1, 1], [0, 1], [0.5, 0.5], k=1) == 0.5
    assert math.isnan(group_metrics.gauc(["b"], [1], [0.5]))


def test_a_metric_is_known_by_one_name() -> None:
    assert {
        *metrics.FROM_SUMS,
        *group_metrics.FROM_GROUPS,
        *("auc", "pr_auc", "expected_calibration_error"),
        *("example_count", "positives"),
    } == set(REGISTERED)
    assert "gauc" not in names_of((), grouped=False)
    assert names_of(["my.metrics:Mine", "auc"], True)[-1] == "my.metrics:Mine"
    for name in ("logloss", "my.metrics:Mine"):
        assert METRICS.check(name) == name
    with pytest.raises(ValueError, match="did you mean 'logloss'") as error:
        METRICS.check("log_loss")
    assert all(name in str(error.value) for name in REGISTERED)


def test_a_search_goes_by_a_metric_that_is_better_one_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_goals.py").write_text(
        "class Goal:\n"
        "    better = 'lower'\n"
        "    def terms(self, labels, probabilities): ...\n"
        "    def value(self, sums): ...\n"
        "class Either(Goal):\n"
        "    better = 'one'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert {"auc", "brier", "logloss"} < set(OBJECTIVES.names)
    assert not {"calibration", "gauc", "positives"} & set(OBJECTIVES.names)
    assert [better(n) for n in ("auc", "brier")] == ["higher", "lower"]
    assert better("own_goals:Goal") == "lower"
    with pytest.raises(InputError, match="better = 'one'"):
        better("own_goals:Either")


def test_every_objective_is_computed_of_rows() -> None:
    labels, probabilities = np.array([0.0, 1.0, 0.0]), np.array([0.2, 0.7, 0.4])
    for name in OBJECTIVES.names:
        assert np.isfinite(metrics.of_rows(name, labels, probabilities))
    squares = np.square(labels - probabilities)
    assert metrics.of_rows("brier", labels, probabilities) == squares.mean()
