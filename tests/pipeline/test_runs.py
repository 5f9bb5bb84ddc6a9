"""`lionctr runs`: the table, two runs side by side, which ones may go."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.run_store import changes


def add(root: Path, run: str, made: dict[str, str], **summary: Any) -> Path:
    """A run; `made`: component -> number of its artifact."""
    home = root / "ads"
    folder = home / "runs" / run
    folder.mkdir(parents=True)
    uris = {}
    for node, number in made.items():
        uri = home / "artifacts" / node / "out" / number
        uri.mkdir(parents=True, exist_ok=True)
        (uri / "data").write_bytes(b"x" * 1000)
        uris[node] = {"out": str(uri)}
    whole = {
        "status": "done",
        "model": {"name": "wide_deep"},
        "optimizer": {"name": "lion", "learning_rate": 0.001},
        "features": {"categorical": [{"name": "ad", "dim": 8}]},
        "artifacts": uris,
        **summary,
    }
    (folder / "summary.json").write_text(json.dumps(whole))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five runs: 1 made what 4 reuses, 2 pushed, 3 stands alone, 5 died."""
    add(tmp_path, "20240101-000000", {"Gen": "1", "Trainer": "2"})
    add(
        tmp_path,
        "20240102-000000",
        {"Gen": "3"},
        pushed_model="models/ads/7",
        metrics={"logloss": 0.4, "auc": 0.7, "calibration": None},
    )
    add(
        tmp_path,
        "20240103-000000",
        {"Gen": "4"},
        status="refused",
        metrics={"logloss": 0.3, "auc": 0.6},
    )
    add(
        tmp_path,
        "20240104-000000",
        {"Gen": "1", "Trainer": "5"},
        status="failed",
        optimizer={"name": "adamw", "learning_rate": 0.1},
        features={"categorical": [{"name": "ad", "dim": 16}]},
    )
    return tmp_path


def told(capsys: Any, root: Path, *words: str) -> str:
    assert main(["runs", *words, "--root", str(root)]) == 0
    return str(capsys.readouterr().out)


def listed(capsys: Any, root: Path, *words: str) -> Any:
    return json.loads(told(capsys, root, *words, "--json"))


def test_the_newest_run_comes_first(root: Path, capsys: Any) -> None:
    head, *lines = told(capsys, root, "ads").splitlines()
    assert head.split()[:4] == ["run", "when", "(UTC)", "status"]
    assert [line[:8] for line in lines] == [
        "20240104", "20240103", "20240102", "20240101",
    ]  # fmt: skip
    assert lines[0].endswith(
        "features.categorical.ad.dim 16, optimizer.name adamw,"
        " optimizer.learning_rate 0.1"
    )
    assert "2024-01-03 00:00:00  refused  wide_deep  lion" in lines[1]
    assert "0.70000  0.40000" in lines[2] and lines[2].endswith("  7")


def test_runs_are_sorted_by_a_metric_the_best_first(
    root: Path, capsys: Any
) -> None:
    def order(metric: str) -> list[str]:
        rows = listed(capsys, root, "ads", "--sort", metric)["runs"]
        return [row["run"][7] for row in rows][:2]

    assert order("logloss") == ["3", "2"]
    assert order("auc") == ["2", "3"]
    assert main(["runs", "ads", "--root", str(root), "--sort", "x"]) == 2
    assert "accepted here: auc, calibration, logloss" in capsys.readouterr().err


def test_two_runs_side_by_side(root: Path, capsys: Any) -> None:
    words = ("ads", "--diff", "20240102-000000", "last")
    lines = [line.split() for line in told(capsys, root, *words).splitlines()]
    assert ["optimizer.name", "lion", "adamw"] in lines
    assert ["features.categorical.ad.dim", "8", "16"] in lines
    assert ["logloss", "0.40000", "-"] in lines
    assert not any("model.name" in line for line in lines)
    found = listed(capsys, root, *words)
    assert found["metrics"]["logloss"] == [0.4, None]
    assert main(["runs", "ads", "--root", str(root), "--diff", "x", "y"]) == 2
    assert "--diff: received 'x'" in capsys.readouterr().err


def test_old_runs_go_but_not_pushed_ones_nor_what_others_reuse(
    root: Path, capsys: Any
) -> None:
    (root / "ads/runs/20240100-000000").mkdir()  # was killed
    before = {path for path in root.rglob("*") if path.is_file()}
    dry = listed(capsys, root, "ads", "--keep", "1", "--dry-run")
    assert {path for path in root.rglob("*") if path.is_file()} == before | {
        root / "ads/.lock"
    }
    assert dry["deleted"] == ["20240103-000000"]
    assert [Path(path).name for path in dry["artifacts"]] == ["4"]
    run = root / "ads/runs/20240103-000000"
    assert dry["bytes"] == 1000 + (run / "summary.json").stat().st_size
    assert dry["kept_for"] == {
        "20240100-000000": "it has no summary.json",
        "20240102-000000": "it pushed models/ads/7",
        "20240101-000000": "a later run that stays reuses what it made",
    }
    text = told(capsys, root, "ads", "--keep", "1")
    assert f"deleted 1 runs and 1 artifacts, {dry['bytes']:,} bytes" in text
    gone = before - {path for path in root.rglob("*") if path.is_file()}
    assert gone == {
        run / "summary.json", root / "ads/artifacts/Gen/out/4/data"
    }  # fmt: skip


def test_nothing_outside_the_artifacts_is_deleted(
    root: Path, capsys: Any
) -> None:
    outside = root / "models/ads/7"
    outside.mkdir(parents=True)
    sly = {"Gen": {"out": f"{root}/ads/artifacts/../../models"}}
    add(root, "20240103-000001", {}, artifacts={"P": {"o": str(outside)}})
    add(root, "20240103-000002", {}, artifacts=sly)
    listed(capsys, root, "ads", "--keep", "0")
    assert outside.is_dir()


def test_artifacts_stay_if_an_older_version_does_not_name_its_own(
    root: Path, capsys: Any
) -> None:
    path = root / "ads/runs/20240102-000000/summary.json"
    summary = json.loads(path.read_text())
    del summary["artifacts"]
    path.write_text(json.dumps(summary))
    found = listed(capsys, root, "ads", "--keep", "1", "--dry-run")
    assert found["deleted"] and not found["artifacts"]


def test_checkpoints_go_that_no_remaining_run_has_written(
    root: Path, capsys: Any
) -> None:
    folders = [root / "ads/checkpoints" / name for name in ("old", "new")]
    for folder, day in zip(folders, ("02", "04"), strict=True):
        step = folder / "step-0000000010"
        step.mkdir(parents=True)
        (step / "index.json").write_text("{}")
        then = datetime.datetime.fromisoformat(f"2024-01-{day}T12:00+00:00")
        for path in (step, step / "index.json"):
            os.utime(path, (then.timestamp(), then.timestamp()))
    found = listed(capsys, root, "ads", "--keep", "4")
    assert not found["checkpoints"]  # each was written by one that stays
    text = told(capsys, root, "ads", "--keep", "2")
    assert f"deleted {folders[0]}\n" in text
    assert "0 artifacts, checkpoints of 1 stopped trainings, 2 bytes" in text
    assert [folder.exists() for folder in folders] == [False, True]
    told(capsys, root, "ads", "--keep", "0")
    assert not folders[1].exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["other"], "Pipelines there: ads"),
        (["ads", "--keep", "-1"], "received -1; accepted: 0 or more"),
        (["--keep", "1"], "received no pipeline"),
        (["ads", "--dry-run"], "without --keep"),
    ],
)
def test_mistakes_are_named(
    root: Path, capsys: Any, words: list[str], message: str
) -> None:
    assert main(["runs", *words, "--root", str(root)]) == 2
    assert message in capsys.readouterr().err


def test_a_summary_of_an_older_version_is_read(tmp_path: Path) -> None:
    folder = add(tmp_path, "20240101-000000", {})
    (folder / "summary.json").write_text('{"status": "done"}')
    (folder / "config.yaml").write_text("model: {name: dlrm}\ndata: {x: 1}\n")
    done = subprocess.run(
        [
            sys.executable, "-c",
            ("import sys; from pipeline.cli import main; main(sys.argv[1:]);"
            "print('tensorflow' in sys.modules)"),
            "runs", "--root", str(tmp_path),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "dlrm" in done.stdout
    assert done.stdout.endswith("False\n")


def test_changes_name_the_leaf() -> None:
    before = {"a": {"b": [1, 2]}, "c": [{"name": "x", "d": 1}], "e": None}
    after = {"a": {"b": [1]}, "c": [{"name": "x", "d": 2}, {"name": "y"}]}
    assert [one["path"] for one in changes(before, after)] == [
        "a.b", "c.x.d", "c.y.name",
    ]  # fmt: skip
    assert changes(before, before) == []
