"""Intervals, slices, curves and own metrics, without TFX or a model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from components.evaluator import bootstrap
from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.measured import Sample, measure
from components.evaluator.predictions import Columns, Values
from models.training import metrics


def columns(count: int, seed: int = 0, models: int = 1) -> Columns:
    """Rows with known odds, said with noise by each model."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-2, 1.2, count)
    labels = rng.random(count) < 1 / (1 + np.exp(-odds))
    said = tuple(
        (1 / (1 + np.exp(-odds - rng.normal(0, 0.3 + number, count)))).astype(
            np.float32
        )
        for number in range(models)
    )
    return Columns(labels, said, None, {})


def report(
    data: Columns, weights: Any = None, **settings: Any
) -> dict[str, Any]:
    config = EvaluateConfig.model_validate(settings)
    found = evaluate(data, config, "eval", weights)
    json.dumps(found, allow_nan=False)  # whatever it holds
    return found


@pytest.mark.parametrize("count", [1000, 20_000])
def test_replicates_spread_as_those_of_single_rows(count: int) -> None:
    data = columns(count)
    labels, p = data.labels.astype(float), data.predictions[0]
    found = measure(
        Sample(labels, bootstrap.units(count), np.ones(count)),
        p,
        bootstrap.draws(1000),
        {},
        10,
    )
    rng = np.random.default_rng(5)
    functions = {
        "auc": metrics.auc,
        "pr_auc": metrics.pr_auc,
        "logloss": metrics.logloss,
        "calibration": metrics.calibration,
    }
    drawn = [
        [f(labels, p, w) for f in functions.values()]
        for w in rng.poisson(1.0, (400, count))
    ]
    for name, spread in zip(functions, np.std(drawn, 0), strict=True):
        # Both are estimates: 3.5 % of deviation from 400 of them, 2.2 % from
        # 1,000, and 1.6 % from the units.
        assert found.replicates[name].std() == pytest.approx(spread, rel=0.15)


@pytest.mark.ci
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    many = _rows(columns(400_000, 99))
    truth, auc = metrics.logloss(*many), metrics.auc(*many)
    hits = {"logloss": 0, "auc": 0}
    for seed in range(100):
        entries = report(columns(500, seed), confidence=0.9, replicates=300)[
            "metrics"
        ]
        for name, value in (("logloss", truth), ("auc", auc)):
            low, high = entries[name]["interval"]
            assert low <= entries[name]["value"] <= high
            hits[name] += low <= value <= high
    # 90 of 100 are expected, give or take 3
    assert all(80 <= count <= 98 for count in hits.values()), hits


def _rows(data: Columns) -> tuple[Any, Any]:
    return data.labels, data.predictions[0]


def test_rows_of_a_group_are_drawn_together() -> None:
    """Ten copies of each row tell no more than one."""
    one = columns(500)
    copies = Columns(
        np.repeat(one.labels, 10),
        (np.repeat(one.predictions[0], 10),),
        np.repeat(np.arange(500), 10),
        {},
    )
    alone = report(one)["metrics"]["logloss"]["interval"]
    grouped = report(copies, group="user_id")["metrics"]["logloss"]["interval"]
    blind = report(Columns(copies.labels, copies.predictions, None, {}))[
        "metrics"
    ]["logloss"]["interval"]
    width = [high - low for low, high in (alone, grouped, blind)]
    assert width[1] == pytest.approx(width[0], rel=0.15)
    assert width[2] < 0.45 * width[0]


def test_a_difference_is_paired() -> None:
    first = columns(2000)
    rng = np.random.default_rng(1)
    nearly = first.predictions[0] * rng.uniform(0.99, 1.01, 2000)
    both = Columns(
        first.labels,
        (first.predictions[0], nearly.astype(np.float32)),
        None,
        {},
    )
    entry = report(both)["metrics"]["logloss"]
    assert entry["difference"] == entry["value"] - entry["baseline"]
    own, pair = entry["interval"], entry["difference_interval"]
    assert pair[1] - pair[0] < 0.05 * (own[1] - own[0])
    same = Columns(first.labels, first.predictions * 2, None, {})
    entry = report(same)["metrics"]["auc"]
    assert entry["difference"] == 0
    assert entry["difference_interval"] == [0, 0]


def test_the_same_rows_give_the_same_intervals() -> None:
    assert report(columns(3000)) == report(columns(3000))


def test_weights_count_as_repetitions() -> None:
    data = columns(300)
    weights = np.random.default_rng(2).integers(0, 3, 300)
    again = Columns(
        np.repeat(data.labels, weights),
        (np.repeat(data.predictions[0], weights),),
        None,
        {},
    )
    weighted, repeated = report(data, weights), report(again)
    for name in ("auc", "pr_auc", "logloss", "calibration", "brier"):
        assert weighted["metrics"][name]["value"] == pytest.approx(
            repeated["metrics"][name]["value"], rel=1e-9
        ), name


@pytest.mark.parametrize("label", [False, True])
def test_one_class_is_undefined_and_said_so(label: bool) -> None:
    data = Columns(
        np.full(50, label),
        (np.linspace(0.1, 0.9, 50, dtype=np.float32),),
        None,
        {},
    )
    found = report(data)
    entry = found["metrics"]["auc"]
    lacks = "negative" if label else "positive"
    assert entry["value"] is None and entry["interval"] is None
    assert entry["undefined"] == f"the eval split has no {lacks}"
    assert found["metrics"]["logloss"]["value"] > 0
    assert found["metrics"]["positives"]["value"] == 50 * label


def test_no_rows_at_all() -> None:
    empty = np.zeros(0)
    found = report(
        Columns(empty.astype(bool), (empty.astype(np.float32),), None, {})
    )
    assert found["rows"] == 0 and found["base_rate"] is None
    assert found["metrics"]["logloss"]["undefined"] == (
        "the eval split has no rows"
    )


def test_predictions_that_are_no_numbers() -> None:
    data = columns(100)
    data.predictions[0][[3, 4, 5]] = [math.nan, math.inf, -math.inf]
    rows = np.arange(100)
    codes = (rows < 10).astype(np.int32)
    found = report(
        Columns(
            data.labels,
            data.predictions,
            None,
            {"site": Values(rows, codes, ["good", "bad"])},
        ),
        slices=[["site"]],
    )
    assert found["metrics"]["logloss"]["undefined"] == (
        "the model gives no finite number for 3 of 100 rows"
    )
    good, bad = found["slices"]
    assert good["metrics"]["logloss"]["value"] is not None
    assert "3 of 10 rows" in bad["metrics"]["auc"]["undefined"]


def test_slices_of_columns_together_and_of_lists() -> None:
    data = columns(6)
    site = Values(
        np.arange(6), np.array([0, 0, 1, 1, 0, 1], np.int32), ["a", "b"]
    )
    # rows 0 and 1 have two tags, row 5 has none
    tags = Values(
        np.array([0, 0, 1, 1, 2, 3, 4]),
        np.array([0, 1, 0, 1, 0, 1, 1], np.int32),
        [7, 8],
    )
    found = report(
        Columns(
            data.labels, data.predictions, None, {"site": site, "tag": tags}
        ),
        slices=[["tag", "site"], ["tag"], ["site", "tag"], []],
    )
    assert {item["name"]: item["rows"] for item in found["slices"]} == {
        "site=a, tag=7": 2,
        "site=a, tag=8": 3,
        "site=b, tag=7": 1,
        "site=b, tag=8": 1,
        "tag=7": 3,
        "tag=8": 4,
    }
    # nothing can be said of chance by so few rows
    assert all(
        entry["interval"] is None
        for item in found["slices"]
        for entry in item["metrics"].values()
    )


def test_a_slice_of_all_rows_has_the_same_metrics() -> None:
    data = columns(3000)
    site = Values(np.arange(3000), np.zeros(3000, np.int32), ["all"])
    found = report(
        Columns(data.labels, data.predictions, None, {"site": site}),
        slices=[["site"]],
    )
    (item,) = found["slices"]
    assert item["metrics"] == found["metrics"]


def test_curves_show_the_rows() -> None:
    data = columns(5000)
    found = report(data)["curves"]["candidate"]
    bins = found["reliability"]
    assert sum(item["rows"] for item in bins) == 5000
    assert len(bins) == 20
    assert all(abs(item["rows"] - 250) <= 1 for item in bins)
    said = [item["prediction"] for item in bins]
    assert said == sorted(said)
    inside = sum(
        item["interval"][0] <= item["label"] <= item["interval"][1]
        for item in bins
    )
    assert inside == 20
    histogram = found["histogram"]
    assert sum(histogram["positives"]) == data.labels.sum()
    assert sum(histogram["negatives"]) == (~data.labels).sum()
    assert len(histogram["edges"]) == len(histogram["negatives"]) + 1
    roc = found["roc"]
    assert (roc["fpr"][0], roc["tpr"][0]) == (0, 0)
    assert (roc["fpr"][-1], roc["tpr"][-1]) == (1, 1)
    area = np.trapezoid(roc["tpr"], roc["fpr"])
    assert area == pytest.approx(
        sklearn.roc_auc_score(data.labels, data.predictions[0]), abs=1e-3
    )
    assert found["pr"]["recall"][-1] == 1
    assert found["pr"]["precision"][-1] == pytest.approx(data.labels.mean())


def test_the_course_of_time_has_calibration_with_intervals() -> None:
    data = columns(6000)
    hours = 480_000 + np.arange(6000, dtype=np.int32) // 1500
    off = data.predictions[0].copy()
    off[hours == 480_002] *= 2  # one hour is predicted twice too high
    found = report(Columns(data.labels, (off,), None, {}, hours=hours))
    time = found["curves"]["candidate"]["time"]
    assert time["hours"] == 1
    assert [span["start"] for span in time["spans"]] == [
        f"2024-10-04T{hour:02}:00Z" for hour in range(4)
    ]
    for number, span in enumerate(time["spans"]):
        rows = slice(1500 * number, 1500 * (number + 1))
        clicks = int(data.labels[rows].sum())
        assert (span["rows"], span["positives"]) == (1500, clicks)
        value = off[rows].sum() / clicks
        assert span["calibration"] == pytest.approx(value, rel=1e-5)
        low, high = span["calibration_interval"]
        assert low < value < high
        assert (low > 1) == (number == 2)
        low, high = span["interval"]
        assert low < span["label"] < high
    assert "time" not in report(data)["curves"]["candidate"]


@pytest.mark.parametrize(
    ("days", "step"), [(3, 1), (30, 6), (300, 168), (3000, 504)]
)
def test_a_long_time_is_cut_into_few_spans(days: int, step: int) -> None:
    data = columns(2000)
    hours = np.linspace(0, days * 24 - 1, 2000).astype(np.int32)
    found = report(
        Columns(data.labels, data.predictions, None, {}, hours=hours)
    )
    time = found["curves"]["candidate"]["time"]
    assert time["hours"] == step
    assert len(time["spans"]) <= 200
    assert sum(span["rows"] for span in time["spans"]) == 2000


def upper(rows: int) -> float:
    """Clopper and Pearson's bound of a rate that no row has shown."""
    return float(stats.beta.ppf(0.975, 1, rows))


@pytest.mark.parametrize("clicked", [False, True])
def test_a_bin_of_one_class_is_not_shown_as_certain(clicked: bool) -> None:
    data = columns(1000)
    lowest = np.argsort(data.predictions[0], kind="stable")[:100]
    labels = data.labels.copy()
    labels[lowest] = clicked
    found = report(Columns(labels, data.predictions, None, {}))
    bins = found["curves"]["candidate"]["reliability"]
    for one in bins[:2]:
        assert (one["rows"], one["label"]) == (50, clicked)
        low, high = one["interval"]
        wanted = (1 - upper(50), 1) if clicked else (0, upper(50))
        assert (low, high) == pytest.approx(wanted)


def test_a_span_of_few_rows_or_no_click_claims_nothing() -> None:
    data = columns(2000)
    hours = np.r_[np.zeros(4), np.ones(96), np.full(1900, 2)].astype(np.int32)
    labels = data.labels.copy()
    labels[4:100] = False
    found = report(Columns(labels, data.predictions, None, {}, hours=hours))
    few, none, many = found["curves"]["candidate"]["time"]["spans"]
    assert few["interval"] is few["calibration_interval"] is None
    assert none["calibration"] is none["calibration_interval"] is None
    assert none["interval"] == [0, pytest.approx(upper(96))]
    assert many["calibration_interval"] is not None


MINE = """
import numpy as np


class Focal:
    better = "lower"

    def terms(self, labels, probabilities):
        right = np.where(labels > 0.5, probabilities, 1 - probabilities)
        return (-((1 - right) ** 2) * np.log(right))[:, None]

    def value(self, sums):
        return sums[..., 1] / sums[..., 0]


class Nothing:
    pass
"""


def test_a_metric_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_ctr_metrics.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "my_ctr_metrics:Focal"
    data = columns(1000)
    entry = report(data, metrics={name: {"max": 1}})["metrics"][name]
    p = data.predictions[0].astype(float)
    right = np.where(data.labels, p, 1 - p)
    assert entry["value"] == pytest.approx(
        np.mean(-((1 - right) ** 2) * np.log(right))
    )
    assert entry["interval"][0] < entry["value"] < entry["interval"][1]
    with pytest.raises(Exception, match=r"no method 'terms'.*evaluate|evalua"):
        report(data, metrics={"my_ctr_metrics:Nothing": {"max": 1}})


def test_a_calibrated_candidate_is_compared_with_itself_before() -> None:
    data = columns(4000)
    p = data.predictions[0].astype(float)
    before = (p / (p + (1 - p) / 3)).astype(np.float32)  # odds times three
    site = Values(
        np.arange(4000), np.arange(4000, dtype=np.int32) % 2, ["a", "b"]
    )
    weights = np.random.default_rng(1).uniform(0.5, 2, 4000).astype(np.float32)
    found = report(
        Columns(
            data.labels,
            data.predictions,
            None,
            {"site": site},
            uncalibrated=before,
            weights=weights,
        ),
        calibrate={"method": "platt", "by": "site"},
    )
    entries = found["calibration"]["metrics"]
    alone = report(Columns(data.labels, (before,), None, {}), weights)
    for name, entry in entries.items():
        assert entry["value"] == found["metrics"][name]["value"]
        assert entry["baseline"] == alone["metrics"][name]["value"]
    assert entries["logloss"]["difference_interval"][1] < 0
    assert entries["auc"]["difference"] == 0
    assert [one["name"] for one in found["calibration"]["slices"]] == [
        "site=a",
        "site=b",
    ]
    curves = alone["curves"]["candidate"]
    assert found["calibration"]["reliability"] == curves["reliability"]
    assert found["slices"] == [] and found["models"] == ["candidate"]
    assert report(data)["calibration"] is None
