"""The report of a run: what it shows, and that it shows something always."""

from __future__ import annotations

import json
import math
import re
import struct
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import google_crc32c
import pytest
from tensorboard.compat.proto import event_pb2
from tensorflow_metadata.proto.v0 import statistics_pb2

from models.errors import InputError
from pipeline.cli import main
from pipeline.report import page
from pipeline.report.sections import harm, number

HOSTILE = '<script>alert("x")</script>&"\''
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that elements are nested, ids are unique, nothing is fetched."""

    def __init__(self, text: str, folder: Path | None = None) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.seen: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []  # styles of the charts' texts
        self.feed(text)
        self.close()
        assert not self.open
        for link in self.links:
            if folder is not None and (folder / unquote(link)).is_file():
                continue
            assert link.startswith(("#", "data:,")), link
            assert not link.startswith("#") or link[1:] in self.ids, link

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "text":
            self.labels.append(dict(attrs).get("style", ""))
        for key, value in attrs:
            if key == "id":
                assert value not in self.ids, value
                self.ids.add(value)
            if key in ("src", "href", "xlink:href", "action", "srcset"):
                self.links.append(value)
            self.links += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert "url(" not in data and "@import" not in data
        self.text += f" {data.strip()}"


def entry(value: float | None, baseline: float | None) -> dict[str, Any]:
    def ends(x: float | None) -> list[float] | None:
        return None if x is None else [x - 0.01, x + 0.01]

    both = value is not None and baseline is not None
    apart = value - baseline if both else None  # type: ignore[operator]
    told = {} if value is not None else {"undefined": "no positive"}
    return told | {
        "value": value,
        "interval": ends(value),
        "baseline": baseline,
        "baseline_interval": ends(baseline),
        "difference": apart,
        "difference_interval": ends(apart),
    }


def curve() -> dict[str, Any]:
    line = [n / 200 for n in range(201)]
    return {
        "reliability": [
            {"rows": 50.0, "prediction": x, "label": x, "interval": [0.0, 1.0]}
            for x in line[1:100:10]
        ],
        "histogram": {
            "edges": [n / 41 for n in range(1, 41)],
            "negatives": [3] * 39,
            "positives": [0] * 39,
        },
        "roc": {"fpr": line, "tpr": line, "threshold": line},
        "pr": {"recall": line, "precision": line[::-1], "threshold": line},
        "time": {
            "hours": 3,
            "spans": [
                {
                    "start": f"2024-10-04T{hour:02}:00Z",
                    "rows": 1717,
                    "positives": 171 * hour,
                    "prediction": 0.1,
                    "label": 0.11,
                    "interval": [0.1, 0.12],
                    "calibration": 0.90909 if hour else None,
                    "calibration_interval": [0.8, 1.1] if hour > 3 else None,
                }
                for hour in (0, 3, 6)
            ],
        },
    }


def data_checks() -> dict[str, Any]:
    def far(distance: float) -> dict[str, Any]:
        moved = {"value": HOSTILE, "before": 0.125, "after": 0.625}
        return {
            "measure": "infinity norm",
            "distance": distance,
            "threshold": 0.1,
            "moved": [moved],
        }

    features = {"f1": far(0.03), "f2": far(0.54321)}
    one = {
        "against": "the data of the pushed model",
        "features": features,
        "only": {"base": ["f9"], "now": [], "types": []},
        "drifted": ["f2"],
    }
    alone = {
        "f1": {"auc": 0.99765, "by": "the value itself"},
        "f2": {"auc": None, "by": "too few rows of one label"},
    }
    return {
        "version": 1,
        "drift": {"base": 7, "why": "", "comparisons": [one]},
        "leaks": {
            "rows": 5000,
            "total": 16000,
            "positives": 9,
            "features": alone,
            "found": ["f1"],
        },
    }


def importance(count: int) -> dict[str, Any]:
    part = {
        "rows": 77,
        "positives": 7,
        "metrics": {
            name: entry(0.61234, None)
            for name in ("logloss", "auc", "calibration")
        },
    }
    names = [HOSTILE, *(f"f{number}" for number in range(1, count))]
    return {
        "rows": 2020,
        "of": 4040,
        "repeats": 1,
        "train_rows": 16000,
        "features": [
            {
                "name": name,
                "crosses": ["a_x_b"] * (number == 1),
                "logloss": entry(0.04321 / (1 + number), None),
                "auc": entry(-0.01, None),
            }
            for number, name in enumerate(names)
        ],
        "ids": [
            {
                "name": name,
                "encode": "vocab",
                "unseen": 0.1234,
                "out_of_vocabulary": 0.2346,
                "cold": part,
                "rest": part,
            }
            for name in names
        ],
        "collisions": [
            {
                "name": "f1",
                "buckets": 1024,
                "values": 555,
                "used": 444,
                "shared": 111,
            }
        ],
    }


def evaluation(count: int = 3) -> dict[str, Any]:
    metrics = {
        "auc": entry(0.71234, 0.70111),
        "logloss": entry(0.34567, 0.35678),
        "gauc": entry(None, None),
    }
    named = ("small=1", 40, 4, 1.02), (HOSTILE, 4000, 400, 3.0)
    return {
        "version": 1,
        "split": "test",
        "models": ["candidate", "baseline"],
        "rows": 4040,
        "positives": 404,
        "base_rate": 0.1,
        "constant": {"logloss": 0.32508},
        "confidence": 0.95,
        "bootstrap": {"replicates": 1000, "unit": "row", "units": 4040},
        "metrics": metrics,
        "slices": [
            {
                "key": {},
                "name": name,
                "rows": rows,
                "positives": positives,
                "metrics": {**metrics, "calibration": entry(ratio, None)},
            }
            for name, rows, positives, ratio in named
        ],
        "groups": None,
        "curves": {"candidate": curve(), "baseline": curve()},
        "gate": {"checks": [], "notes": [], "passed": True, "refusals": []},
        "importance": importance(count),
    }


def tfrecord(records: list[bytes]) -> bytes:
    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        turned = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return struct.pack("<I", turned)

    text = b""
    for record in records:
        size = struct.pack("<Q", len(record))
        text += size + masked(size) + record + masked(record)
    return text


def events() -> bytes:
    records = []
    for step in range(1, 1001):
        event = event_pb2.Event(step=step)
        value = event.summary.value.add(tag="train/loss")
        value.tensor.dtype = 1
        value.tensor.float_val.append(1 / step)
        if not step % 100:
            event.summary.value.add(tag="eval/logloss", simple_value=0.5)
        records.append(event.SerializeToString())
    return tfrecord(records)


def statistics(count: int) -> bytes:
    proto = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = proto.datasets.add()
    for index in range(count):
        feature = dataset.features.add()
        feature.path.step.append(HOSTILE if index == 0 else f"f{index}")
        common = feature.string_stats.common_stats
        common.num_missing, common.num_non_missing = 25, 75
        common.tot_num_values = 75
        feature.string_stats.unique = 1234
        feature.string_stats.top_values.add(value=HOSTILE, frequency=15)
    feature = dataset.features.add()
    feature.path.step.append("price")
    feature.num_stats.mean = 2.5
    return bytes(proto.SerializeToString())


def run(home: Path, count: int = 3, **changes: Any) -> Path:
    """A run's folder with all that a pipeline leaves."""

    def place(name: str) -> Path:
        folder = home / "artifacts" / name
        folder.mkdir(parents=True)
        return folder

    rejected, trained = place("rejected/1"), place("model_run/2")
    evaluated, counted = place("evaluation/3"), place("statistics/4")
    checked, searched = place("anomalies/5"), place("tuner_results/6")
    trial = {"trial_id": "04", "score": 0.34321, "optimizer.name": '"adam"'}
    (searched / "tuner_results.json").write_text(
        json.dumps([{**trial, "train.epochs": 2}, {**trial, "trial_id": "1"}])
    )
    (checked / "data_checks.json").write_text(json.dumps(data_checks()))
    reason = f"column {HOSTILE}: not a number"
    (rejected / "counts.json").write_text(
        json.dumps(
            {
                "positives": {"train": 2000, "test": 404},
                "times": {"train": {"first": "2024-01-01", "last": "2024-02"}},
                "reasons": {reason: 17},
                "examples": {
                    reason: {"file": "a.tsv", "where": "byte 9", "row": HOSTILE}
                },
                "warnings": ["few positives"],
            }
        )
    )
    chosen = {"path": "train.epochs", "value": 3, "reason": "376 steps"}
    (trained / "training.json").write_text(
        json.dumps(
            {"steps": 1128, "chosen": [chosen], "warnings": ["few steps"]}
        )
    )
    (trained / "events.out.tfevents.1").write_bytes(events())
    (evaluated / "evaluation.json").write_text(json.dumps(evaluation(count)))
    (counted / "Split-train").mkdir()
    (counted / "Split-train/FeatureStats.pb").write_bytes(statistics(count))
    folder = home / "runs/20240101-000000"
    folder.mkdir(parents=True)
    summary = {
        "status": "done",
        "message": "",
        "name": "ads",
        "run": folder.name,
        "rows": {"read": 20057, "rejected": 17, "train": 16000, "gap": None},
        "metrics": {"auc": 0.71234, "logloss": 0.34567, "gauc": None},
        "pushed_model": "models/ads/7",
        "warnings": ["told at the top"],
        "seconds": {"Trainer": 12.345, "Evaluator": 1.5},
        "tuned": {"learning_rate": 0.00321},
        "serving_gate": {
            "split": "test",
            "rows": 321,
            "tolerance": 1e-5,
            "p99_ms": 250.0,
            "latency": {"REST": {"p50": 1.234, "p99": 5.678, "late": False}},
        },
        "model": {"name": "wide_deep", "hidden": [64, 32]},
        "train": {"epochs": 3},
        "artifacts": {
            "ClickLogGen": {"rejected": str(rejected)},
            "Trainer": {"model_run": str(trained)},
            "Evaluator": {"evaluation": str(evaluated)},
            "StatisticsGen": {"statistics": str(counted)},
            "ExampleValidator": {"anomalies": str(checked)},
            "Tuner": {"tuner_results": str(searched)},
        },
        **changes,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def shown(folder: Path) -> Page:
    return Page(page.write(folder).read_text("utf-8"))


def test_every_number_stands_in_the_page(tmp_path: Path) -> None:
    found = shown(run(tmp_path))
    for text in (
        "0.71234", "0.34567", "0.70111", "0.35678", "0.32508", "20,057",
        "17", "16,000", "2,000", "4,040", "404", "12.345", "13.845",
        "0.00321", "1,128", "models/ads/7", "2024-02", "byte 9",
        "[64, 32]", "train.epochs (chosen)", "1,234 values", "25.00 %",
        "mean 2.5", "gauc is undefined: no positive", "few positives",
        "Warning: few steps", "Warning: told at the top", "0.04321",
        "a_x_b", "12.34 %", "23.46 %", "0.61234", "555", "20.00 %",
        "2,020 of 4,040 rows of the test split",
        "0.54321", "12.5% -> 62.5%", "only there: f9", "0.99765",
        "on 5,000 of 16,000 rows", "1 of 2 features are far",
        "2024-10-04T06:00Z", "1,026", "0.80000 to 1.10000", "3 hours",
        "0.34321", "adam", "train.epochs", "321 rows", "5.68", "250 ms",
    ):  # fmt: skip
        assert text in found.text, text
    assert found.seen.count("svg") == 7
    # Black text would be lost on a dark page.
    assert len(found.labels) > 30
    assert all("fill: var(--ink)" in style for style in found.labels)


def test_a_calibration_is_shown_before_and_after(tmp_path: Path) -> None:
    folder = run(tmp_path, calibration={"functions": [{"name": HOSTILE}]})
    path = tmp_path / "artifacts/evaluation/3/evaluation.json"
    found = json.loads(path.read_text())
    metrics = {"logloss": entry(0.31415, 0.32718), "auc": entry(0.6, 0.6)}
    other = {**metrics, "brier": entry(0.27272, 0.3)}
    found["calibration"] = {
        "metrics": metrics,
        "slices": [{"name": HOSTILE, "metrics": other}],
        "reliability": [
            {"rows": 5, "prediction": 0.1618, "label": 0.2, "interval": None}
        ],
    }
    path.write_text(json.dumps(found))
    text = shown(folder).text
    for words in ("uncalibrated", "0.31415", "0.32718", "0.16180", "all rows"):
        assert words in text, words
    assert text.count(HOSTILE) > shown(run(tmp_path / "b")).text.count(HOSTILE)
    assert "0.27272" not in text


def test_features_that_only_training_sees_are_marked(tmp_path: Path) -> None:
    features = {
        "numeric": [{"name": "price", "serve": 2.5}],
        "categorical": [
            {"name": HOSTILE, "serve": "shallow"},
            {"name": "f1", "serve": "missing"},
            {"name": "f2", "serve": None},
        ],
    }
    text = shown(run(tmp_path, features=features)).text
    for name, about in (("mean 2.5", "2.5"), ("1,234", "left out")):
        part = text[
            text.index(f"seen in training only, served: {about}") - 90 :
        ]
        assert name in part[:90]
    assert text.count("seen in training only") == 3
    assert f"price (2.5), {HOSTILE} (left out), f1 (no value)." in text


def test_names_from_a_log_are_text(tmp_path: Path) -> None:
    found = shown(run(tmp_path))
    assert found.text.count(HOSTILE) >= 5
    assert "script" not in found.seen


def test_slices_come_by_harm(tmp_path: Path) -> None:
    text = shown(run(tmp_path)).text
    slices = text[text.index("Harm: ") :]
    assert slices.index(HOSTILE) < slices.index("small=1")


def test_a_run_that_stopped_for_its_data_says_what_was_found(
    tmp_path: Path,
) -> None:
    checks = data_checks()
    one = checks["drift"]["comparisons"][0]
    drift = {"feature": "f2", "against": "day", **one["features"]["f2"]}
    leak = {"feature": "f1", **checks["leaks"]["features"]["f1"]}
    found = shown(
        run(
            tmp_path,
            status="refused",
            artifacts={},
            drift={"base": 7, "why": "", "found": [drift]},
            leaks={"rows": 5, "total": 5, "found": [leak]},
        )
    )
    assert "f2: infinity norm 0.543 from day" in found.text
    assert "f1: its values alone give an AUC of 0.99765" in found.text


def test_harm_is_the_logloss_of_a_wrong_mean() -> None:
    rate, mean = 0.1, 0.2
    cost = rate * math.log(rate / mean) + 0.9 * math.log(0.9 / 0.8)
    ratio = {"calibration": {"value": 2.0}}
    assert harm(500, 50, ratio) == pytest.approx(500 * cost)
    assert harm(500, 50, {"calibration": {"value": 1.0}}) == 0
    assert harm(0, 0, {}) == 0
    assert harm(10, 0, {"logloss": {"value": 0.2}}) == pytest.approx(2.0)
    assert harm(10, 10, {"calibration": {"value": 0.5}}) == pytest.approx(
        10 * math.log(2)
    )


@pytest.mark.parametrize("status", ["refused", "failed", "input_error"])
def test_runs_that_pushed_nothing_say_why(tmp_path: Path, status: str) -> None:
    folder = tmp_path / "runs/1"
    folder.mkdir(parents=True)
    summary = {"status": status, "name": "ads", "message": f"a < b\n{HOSTILE}"}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = shown(folder)
    assert HOSTILE in found.text
    assert "nothing was pushed" in found.text


def test_numbers_that_are_none_are_a_dash(tmp_path: Path) -> None:
    assert number(None) == number(math.nan) == number(math.inf) == "-"
    folder = run(tmp_path)
    path = tmp_path / "artifacts/evaluation/3/evaluation.json"
    found = evaluation()
    for name in found["metrics"]:
        found["metrics"][name] = entry(None, None)
    found |= {"base_rate": None, "constant": {"logloss": None}, "curves": {}}
    path.write_text(json.dumps(found))
    text = shown(folder).text
    assert "nan" not in text.lower() and "None" not in text


@pytest.mark.parametrize(
    "broken",
    [
        "model_run/2/events.out.tfevents.1",
        "model_run/2/training.json",
        "evaluation/3/evaluation.json",
        "statistics/4/Split-train/FeatureStats.pb",
        "rejected/1/counts.json",
    ],
)
def test_a_damaged_file_costs_its_section_alone(
    tmp_path: Path, broken: str
) -> None:
    folder = run(tmp_path)
    (tmp_path / "artifacts" / broken).write_bytes(b"\xff[1]damaged")
    found = shown(folder)
    assert "What could not be read" in found.text
    assert "12.345" in found.text


def test_a_section_that_cannot_be_drawn_says_so(tmp_path: Path) -> None:
    folder = run(tmp_path)
    path = tmp_path / "artifacts/evaluation/3/evaluation.json"
    found = evaluation()
    del found["curves"]["candidate"]["roc"]
    path.write_text(json.dumps(found))
    text = shown(folder).text
    assert "Not shown: KeyError" in text
    assert "0.71234" in text


def test_a_folder_that_was_moved_is_read_all_the_same(tmp_path: Path) -> None:
    before = page.write(run(tmp_path / "a")).read_text()
    (tmp_path / "a").rename(tmp_path / "b")
    after = page.write(tmp_path / "b/runs/20240101-000000").read_text()
    assert after == before


def test_a_hundred_features_fit(tmp_path: Path) -> None:
    folder = run(tmp_path, 100)
    page.write(folder)  # imports and fonts once
    began = time.process_time()
    path = page.write(folder)
    assert time.process_time() - began < 2
    assert path.stat().st_size < 2_000_000


def test_a_report_without_importance_has_no_column_of_it(
    tmp_path: Path,
) -> None:
    folder = run(tmp_path)
    path = tmp_path / "artifacts/evaluation/3/evaluation.json"
    found = evaluation()
    del found["importance"]
    path.write_text(json.dumps(found))
    text = shown(folder).text
    assert "importance" not in text and "25.00 %" in text


def test_importance_has_a_table_of_each_output(tmp_path: Path) -> None:
    folder = run(tmp_path)
    path = tmp_path / "artifacts/evaluation/3/evaluation.json"
    found = evaluation()
    for one in found["importance"]["features"]:
        rise = entry(0.77771, None)
        one["outputs"] = {"cvr": {"logloss": rise, "auc": rise}}
    path.write_text(json.dumps(found))
    text = shown(folder).text
    assert "feature, for cvr" in text and "0.77771" in text
    assert "feature, for ctr" not in text


def test_settings_stand_beside_those_of_the_last_pushed_run(
    tmp_path: Path,
) -> None:
    folder = run(tmp_path)
    for day, told in (
        ("20231230", {"pushed_model": "models/5", "train": {"epochs": 9}}),
        ("20231231", {"pushed_model": "models/6", "train": {"epochs": 7}}),
        ("20231232", {"status": "refused", "train": {"epochs": 8}}),
        ("20240102", {"pushed_model": "models/8", "train": {"epochs": 6}}),
    ):
        before = tmp_path / f"runs/{day}-000000"
        before.mkdir()
        model = {"name": "wide_deep", "hidden": [64, 32]}
        (before / "summary.json").write_text(
            json.dumps({"model": model, **told})
        )
    text = " ".join(shown(folder).text.split())
    assert (
        "differs from the last pushed run 20231231-000000 here"
        " train.epochs 7 3 " in text
    )


def test_the_command_prints_the_path(tmp_path: Path, capsys: Any) -> None:
    folder = run(tmp_path / "ads")
    for name in (str(folder), folder.name, "last"):
        assert main(["report", name, "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
        (folder / "report.html").unlink()
    assert main(["report", "other", "--root", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"without summary.json"):
        page.write(tmp_path)


def test_no_tensorflow_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.report import"
        " page; page.write(Path(sys.argv[1]));"
        "print('tensorflow' in sys.modules)"
    )
    folder = run(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"
