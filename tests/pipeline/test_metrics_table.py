"""The lines that a run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.metrics_table import fit, fit_lines, lines
from pipeline.runners import run_table


def report(paired: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": 0.36, "interval": [0.35, 0.375]}
    if paired:
        entry |= {"baseline": 0.37, "baseline_interval": None}
        entry |= {"difference": -0.01, "difference_interval": [-0.02, -0.005]}
    lost = dict.fromkeys(entry) | {
        "undefined": "the eval split has no positive"
    }
    return {
        "split": "eval",
        "models": ["candidate", "baseline"][: 1 + paired],
        "rows": 2000,
        "positives": 254,
        "confidence": 0.9,
        "bootstrap": {"unit": "user_id"},
        "metrics": {
            "logloss": entry,
            "auc": lost,
            "example_count": {"value": 2000, "interval": None},
        },
        "constant": {"logloss": 0.38},
        "gate": {"notes": ["a note"]},
    }


def test_candidate_baseline_difference_and_intervals() -> None:
    head, _, loss, auc, constant, note = lines(report(True))
    assert "eval split: 2,000 rows, 254 positives" in head
    assert "90 % intervals, bootstrap by user_id" in head
    assert loss.split() == [
        *("logloss", "0.36000", "0.35000", "0.37500", "0.37000"),
        *("-0.01000", "-0.02000", "-0.00500", "*"),
    ]
    assert auc.split() == ["auc", *["-"] * 5]
    assert constant.split()[-1] == "0.38000"
    assert note.strip() == "a note"


def test_a_calibration_is_shown_before_and_after() -> None:
    found = report(False) | {
        "calibration": {"metrics": report(True)["metrics"]}
    }
    *_, loss, auc, note = lines(found)
    assert loss.split() == [
        *("logloss", "0.37000", "-", "-0.01000", "-0.02000", "-0.00500"),
    ]
    assert auc.split()[0] == "auc" and note.strip() == "a note"
    assert any("before the calibration" in line for line in lines(found))


def test_a_model_alone_has_no_differences() -> None:
    text = "\n".join(lines(report(False)))
    assert "baseline" not in text and "*" not in text
    assert "0.36000   0.35000 0.37500" in text


def test_train_against_eval_is_a_line() -> None:
    training = {
        "train_logloss": 0.30, "train_auc": 0.8, "steps": 7,
        "eval_logloss": 0.36, "eval_auc": None,
    }  # fmt: skip
    found = fit(training)
    assert found["eval"] == {"logloss": 0.36, "auc": None}
    (line,) = fit_lines(found)
    assert line.split(maxsplit=3)[3] == (
        "logloss 0.30000 on train, 0.36000 on eval; auc 0.80000 on train,"
        " - on eval"
    )
    assert not list(fit_lines(fit({"eval_logloss": 0.36, "eval_auc": 0.7})))


def test_the_fit_of_several_labels_says_which_they_are() -> None:
    training = {
        f"{split}_{name}": value
        for split in ("train", "eval")
        for name, value in (("logloss", 0.36), ("auc", 0.7))
    }
    (line,) = fit_lines(fit(training), several=True)
    assert "logloss (mean of the labels) 0.36000 on train" in line
    assert "auc (first label) 0.70000 on train" in line


def test_a_slice_without_a_metric_is_named_with_the_reason() -> None:
    summary = {
        "evaluation": report(False),
        "fit": {},
        "undefined": {
            "[device=tv]": "cvr.gauc: the slice device=tv has no user",
            "[device=pc]": "auc: the slice device=pc has no negative",
        },
    }
    *_, line = run_table.metrics(summary)
    assert line.split(maxsplit=2)[2] == (
        "metrics of 2 slices, such as: cvr.gauc: the slice device=tv has no"
        " user"
    )


def test_every_event_of_a_label_is_told() -> None:
    fates = {"credited": 5, "orphans": 2, "outside": 1, "rejected": 3}
    summary = {
        "evaluation": None,
        "rows": {"rejected": 0},
        "clicks": None,
        "events": {"buy": {"read": 11, **fates}},
        "pushed_model": "models/x/1",
        "tensorboard": "logs",
    }
    (line,) = (
        line
        for line in run_table.table(summary, Path("run"))
        if "events of buy" in line
    )
    assert "5 of 11 credited; 2 orphans, 1 outside the window, 3 rej" in line
