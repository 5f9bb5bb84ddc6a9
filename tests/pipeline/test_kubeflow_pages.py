"""Artifacts of an evaluation for KFP's pages, and a report that fails."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from components.evaluator import executor
from pipeline.runners.kubeflow import pages, run_folder, steps


def entry(value: float | None, difference: float | None) -> dict[str, Any]:
    return {"value": value, "difference": difference}


EVALUATION = {
    "constant": {"logloss": 0.5},
    "metrics": {
        "auc": entry(0.75, 0.01),
        "logloss": entry(0.4, -0.002),
        "gauc": entry(None, None),
    },
    "curves": {
        "candidate": {
            "roc": {
                "fpr": [i / 1000 for i in range(1001)],
                "tpr": [math.sqrt(i / 1000) for i in range(1001)],
                "threshold": [1 - i / 1000 for i in range(1001)],
            }
        }
    },
}


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An evaluation's folder, whose metrics are those of EVALUATION."""
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION), "utf-8")
    values = {"auc": 0.75, "logloss": 0.4, "gauc": None}
    monkeypatch.setattr(executor, "metrics", lambda folder: {"": values})
    monkeypatch.setattr(executor, "refusals", lambda folder: ["auc is low"])
    return tmp_path


def outputs() -> dict[str, Any]:
    """As KFP's driver gives them."""
    return {
        "artifacts": {
            name: {"artifacts": [{"uri": f"minio://b/Evaluator/{name}"}]}
            for name in ("evaluation", *pages.OUTPUTS)
        }
    }


def test_metrics_are_finite_numbers_with_their_changes(
    evaluation: Path, tmp_path: Path
) -> None:
    shown = pages.shown(outputs(), str(evaluation), tmp_path)
    assert shown["metrics"] == {
        "auc": 0.75,
        "auc_change": 0.01,
        "logloss": 0.4,
        "logloss_change": -0.002,
        "normalized_entropy": 0.8,
    }


def test_the_roc_curve_is_short_and_has_both_ends(
    evaluation: Path, tmp_path: Path
) -> None:
    shown = pages.shown(outputs(), str(evaluation), tmp_path)
    points = shown["roc"]["confidenceMetrics"]
    assert 90 < len(points) <= 102
    first, last = points[0], points[-1]
    assert first == {
        "confidenceThreshold": 1.0,
        "falsePositiveRate": 0.0,
        "recall": 0.0,
    }
    assert (last["falsePositiveRate"], last["recall"]) == (1.0, 1.0)


def test_the_verdict_is_a_markdown_file_where_the_launcher_looks(
    evaluation: Path, tmp_path: Path
) -> None:
    (tmp_path / "minio/b/Evaluator").mkdir(parents=True)
    pages.shown(outputs(), str(evaluation), tmp_path)
    text = (tmp_path / "minio/b/Evaluator/verdict").read_text("utf-8")
    assert text.startswith("# Refused\n\n- auc is low\n")
    assert "| logloss | 0.4 | -0.002 |" in text


def test_an_older_ir_without_these_outputs_goes_on(tmp_path: Path) -> None:
    assert pages.shown({"artifacts": {}}, str(tmp_path), tmp_path) == {}


def report_task(tmp_path: Path, **values: Any) -> str:
    """An ExecutorInput, with artifacts that are not there."""
    (tmp_path / "minio/b/Report").mkdir(parents=True)
    inputs = {
        name: {"artifacts": [{"uri": f"minio://b/{name}"}]}
        for name in ("Evaluator_evaluation", "Trainer_model_run")
    }
    output = {"artifacts": [{"uri": "minio://b/Report/report"}]}
    return json.dumps(
        {
            "inputs": {
                "parameterValues": {"config": "{}", **values},
                "artifacts": inputs,
            },
            "outputs": {"artifacts": {"report": output}},
        }
    )


def test_a_report_that_cannot_be_made_says_why_and_stops_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIONCTR_COPIES", str(tmp_path))
    runs = str(tmp_path / "state/ads/runs")
    given = {run_folder.RUNS: runs, run_folder.RUN: "ads-x7"}
    assert steps.main(["report", report_task(tmp_path, **given)]) == 0
    page = (tmp_path / "minio/b/Report/report").read_text("utf-8")
    assert "No report could be made: ValidationError" in page
    assert "<script" not in page
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
