"""The Evaluator beside TFMA's own, on the same rows and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from sklearn import metrics as sklearn
from tfx.types import standard_artifacts

from components.evaluator.executor import metrics, refusals
from models.training import group_metrics
from tests.components.evaluator import small

EVALUATE = {
    "slices": [["site"], ["tags", "site"], ["age"]],
    "group": "user",
    "metrics": {"auc": {"min": 0.6}, "logloss": {"max_change": 0}},
}
# TFMA looks at 10,000 thresholds, ours at every score.
THRESHOLDS = {"auc": 1e-3, "pr_auc": 1e-3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("evaluator")
    return folder


@pytest.fixture(scope="module")
def made(home: Path) -> tuple[dict[str, Any], Any, list[Any]]:
    """Columns, the examples of them, a good model and a worse one."""
    columns = small.rows()
    return (
        columns,
        small.write(home / "examples", columns),
        [
            small.export(home / "candidate", "better"),
            small.export(home / "baseline", "worse"),
        ],
    )


@pytest.fixture(scope="module")
def ours(home: Path, made: Any) -> tuple[Path, Any]:
    return small.evaluated(home / "ours", made[1], made[2], EVALUATE)


@pytest.fixture(scope="module")
def stock(home: Path, made: Any) -> tuple[Path, Any]:
    return small.evaluated(
        home / "stock", made[1], made[2], EVALUATE, stock=True
    )


def values(evaluation: Path) -> dict[Any, float]:
    """(slice, metric, model, whether a difference) -> value."""
    return {
        (
            record.slice_key.SerializeToString(deterministic=True),
            item.key.name,
            item.key.model_name,
            item.key.is_diff,
        ): item.value.double_value.value
        for record in tfma.load_metrics(str(evaluation))
        for item in record.metric_keys_and_values
    }


@pytest.mark.ci
def test_every_metric_and_slice_is_tfmas(ours: Any, stock: Any) -> None:
    found, wanted = values(ours[0]), values(stock[0])
    assert len(wanted) == 16 * 7 * 3  # slices, metrics, both models and diff
    assert {key[0] for key in found} == {key[0] for key in wanted}
    for key, value in wanted.items():
        assert found[key] == pytest.approx(
            value, abs=THRESHOLDS.get(key[1], 1e-6), nan_ok=True
        ), key


@pytest.mark.ci
def test_it_leaves_the_files_that_tfma_leaves(ours: Any, stock: Any) -> None:
    names = [sorted(p.name for p in run[0].iterdir()) for run in (ours, stock)]
    assert names[0] == sorted([*names[1], "evaluation.json"])
    assert "metrics.json" in names[0]  # the Pusher's manifest reads it
    for name in ("candidate", "baseline"):
        results = [
            tfma.load_eval_result(str(run[0]), model_name=name)
            for run in (ours, stock)
        ]
        assert results[0].config == results[1].config
        by_slice = [dict(result.slicing_metrics) for result in results]
        assert by_slice[0].keys() == by_slice[1].keys()
        for key, wanted in by_slice[1].items():
            assert wanted[""][""].keys() <= by_slice[0][key][""][""].keys()


@pytest.mark.ci
def test_the_verdict_and_the_blessing_are_tfmas(ours: Any, stock: Any) -> None:
    for evaluation, blessing in (ours, stock):
        result = tfma.load_validation_result(str(evaluation))
        assert result.validation_ok and not result.rubber_stamp
        assert blessing.get_int_custom_property("blessed") == 1
        assert (Path(blessing.uri) / "BLESSED").exists()
    assert ours[1].get_string_custom_property("baseline_model_uri") == (
        stock[1].get_string_custom_property("baseline_model_uri")
    )


def test_the_metrics_are_those_of_the_rows(made: Any, ours: Any) -> None:
    columns = made[0]
    labels, p = columns["label"], columns["better"]
    found = metrics(str(ours[0]))
    assert found[""]["auc"] == pytest.approx(
        sklearn.roc_auc_score(labels, p), abs=1e-12
    )
    users = np.array(columns["user"])
    for name in ("gauc", "ndcg_at_k", "recall_at_k"):
        function = getattr(group_metrics, name)
        assert found[""][name] == pytest.approx(function(users, labels, p))
    rows = np.array([b"t1" in tags for tags in columns["tags"]])
    rows &= np.array([site == b"s2" for site in columns["site"]])
    assert found["[site=s2, tags=t1]"]["example_count"] == rows.sum()
    assert found["[site=s2, tags=t1]"]["logloss"] == pytest.approx(
        sklearn.log_loss(labels[rows], p[rows].astype(float)), rel=1e-6
    )


def test_one_json_file_holds_it_all(ours: Any) -> None:
    report = small.read(ours[0])
    assert report["rows"] == 2000
    assert report["bootstrap"] == {
        "replicates": 1000,
        "unit": "user",
        "units": 200,
    }
    entry = report["metrics"]["logloss"]
    low, high = entry["difference_interval"]
    assert low < entry["difference"] < high < 0
    assert all(
        item["metrics"]["auc"]["interval"] is not None
        for item in report["slices"]
        if item["rows"] > 100
    )
    assert set(report["curves"]) == {"candidate", "baseline"}
    assert report["gate"]["passed"]


def run(
    folder: Path, columns: dict[str, Any], evaluate: dict[str, Any]
) -> tuple[dict[str, Any], Any, list[str]]:
    """Evaluates one model on `columns`."""
    evaluation, blessing = small.evaluated(
        folder / "run",
        small.write(folder / "examples", columns, "test"),
        [small.export(folder / "model", "better")],
        evaluate,
        split="test",
    )
    return small.read(evaluation), blessing, refusals(str(evaluation))


def test_a_test_split_without_a_positive(tmp_path: Path) -> None:
    columns = small.rows(200) | {"label": np.zeros(200, np.int64)}
    report, blessing, lines = run(
        tmp_path, columns, {"metrics": {"auc": {"min": 0.5}}}
    )
    assert report["metrics"]["auc"]["value"] is None
    assert "auc is undefined: the test split has no positive" in lines
    assert blessing.get_int_custom_property("blessed") == 0
    assert (Path(blessing.uri) / "NOT_BLESSED").exists()
    assert metrics(str(tmp_path / "run/evaluation"))[""]["auc"] is None
    result = tfma.load_validation_result(str(tmp_path / "run/evaluation"))
    assert not result.validation_ok


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    columns = small.rows(300)
    columns["better"][7] = np.nan
    report, _, lines = run(
        tmp_path, columns, {"metrics": {}, "slices": [["age"]]}
    )
    assert lines[0] == (
        "logloss is undefined: the model gives no finite number for 1 of 300"
        " rows; threshold: a finite number"
    )
    assert [item["metrics"]["auc"]["value"] for item in report["slices"]].count(
        None
    ) == 1


def test_a_constant_is_refused_by_default(tmp_path: Path) -> None:
    columns = small.rows(500)
    rate = columns["label"].mean(dtype=np.float32)
    columns["better"] = np.full(500, rate, np.float32)
    report, _, lines = run(tmp_path, columns, {})
    assert report["metrics"]["auc"]["value"] == 0.5
    assert lines == ["normalized_entropy is 1; threshold: below 1"]


def test_a_split_without_rows(tmp_path: Path) -> None:
    columns = {name: column[:0] for name, column in small.rows(20).items()}
    report, _, lines = run(tmp_path, columns, {"group": "user"})
    assert report["rows"] == 0
    assert "logloss is undefined: the test split has no rows" in lines[0]


def test_groups_and_slices_where_columns_are_missing(tmp_path: Path) -> None:
    columns = small.rows(400) | {"user": [None] * 400, "site": [None] * 400}
    report, _, _ = run(
        tmp_path, columns, {"group": "user", "slices": [["site"]]}
    )
    assert report["slices"] == []
    assert report["groups"]["no_group"] == 1
    assert report["metrics"]["gauc"]["value"] is None
    # each row without a user is drawn by itself
    assert report["bootstrap"]["units"] == 400


def test_an_empty_baseline_is_none(tmp_path: Path, made: Any) -> None:
    nothing = standard_artifacts.Model()
    nothing.uri = str(tmp_path / "none")
    evaluation, blessing = small.evaluated(
        tmp_path / "run", made[1], [made[2][0], nothing], EVALUATE
    )
    report = small.read(evaluation)
    assert report["models"] == ["candidate"]
    assert "baseline" not in report["metrics"]["auc"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert tfma.load_validation_result(str(evaluation)).rubber_stamp
    names = {
        item.key.model_name
        for record in tfma.load_metrics(str(evaluation))
        for item in record.metric_keys_and_values
    }
    assert names == {""}  # as TFMA's, of a model alone
    text = json.loads((evaluation / "eval_config.json").read_text())
    assert len(text["evalConfig"]["modelSpecs"]) == 1


def test_times_of_the_examples_are_read(tmp_path: Path) -> None:
    columns = small.rows(400)
    hours = np.repeat([480_000, 480_003], 200)
    times = hours * 3_600_000_000 + 1_234_567
    evaluation, _ = small.evaluated(
        tmp_path,
        small.write(tmp_path / "examples", columns, times=times),
        [small.export(tmp_path / "candidate", "better")],
        {},
        timed=True,
    )
    found = json.loads((evaluation / "evaluation.json").read_text())
    first, last = found["curves"]["candidate"]["time"]["spans"]
    assert (first["rows"], last["rows"]) == (200, 200)
    assert first["start"] == "2024-10-04T00:00Z"
    assert last["positives"] == columns["label"][200:].sum()
    # The rest of the examples is what it is without.
    assert found["rows"] == 400
