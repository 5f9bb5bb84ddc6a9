"""Runs in trouble: full disks, lost and damaged files, signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands import rejected
from tests import forks
from tests.e2e.attempts import Attempts, prepare
from tests.pipeline.mounts import small_disk


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    """A pipeline that has run once."""
    folder = tmp_path_factory.mktemp("trouble")
    prepare(folder)
    attempts = Attempts(folder)
    code, console = attempts.run()
    assert code == 0, console
    return attempts


def last(folder: Path) -> dict[str, Any]:
    """The summary of the last run."""
    runs = sorted(folder.glob("runs/tiny/runs/*/summary.json"))
    summary: dict[str, Any] = json.loads(runs[-1].read_text())
    return summary


def rows_trained(folder: Path) -> int:
    """Rows of the last training, both epochs."""
    folders = folder.glob("runs/tiny/artifacts/Trainer/model_run/*")
    newest = max(folders, key=lambda path: int(path.name))
    return int(json.loads((newest / "training.json").read_text())["examples"])


@pytest.mark.ci
def test_a_file_too_many_is_noticed_by_its_reader(attempts: Attempts) -> None:
    split = next(
        attempts.folder.glob(
            "runs/tiny/artifacts/Transform/transformed_examples/*/Split-train"
        )
    )
    name = sorted(split.iterdir())[0]
    copy = name.with_name("data_tfrecord-00007-of-00009")
    shutil.copy(name, copy)
    code, console = attempts.run("train.seed=2")
    copy.unlink()
    assert code == 1
    assert f"{split}/*".removeprefix(f"{attempts.folder}/") in console
    assert "files were added or removed since" in console


@pytest.mark.ci
def test_files_of_a_lost_database_are_not_read(attempts: Attempts) -> None:
    folder = attempts.folder
    (folder / "runs/tiny/metadata.sqlite").unlink()
    header, *rows = (folder / "logs/impressions.tsv").read_bytes().splitlines()
    for name, part in (("a", rows[:2000]), ("b", rows[2000:])):
        (folder / f"logs/{name}.tsv").write_bytes(b"\n".join([header, *part]))
    code, console = attempts.run(
        "data.impressions.path=[logs/a.tsv, logs/b.tsv]"
    )
    assert code == 0, console
    assert "artifacts/.orphaned, which may be deleted" in console
    summary = last(folder)
    assert rows_trained(folder) == 2 * summary["rows"]["train"]
    assert summary["metrics"]["example_count"] == summary["rows"]["eval"]
    assert summary["rows"]["kept"] == summary["rows"]["read"] - 2


def test_a_damaged_database_is_told_before_anything_runs(
    attempts: Attempts,
) -> None:
    database = attempts.folder / "runs/tiny/metadata.sqlite"
    kept = database.read_bytes()
    database.write_bytes(kept[: len(kept) // 2])
    code, console = attempts.run()
    database.write_bytes(kept)
    assert code == 1
    assert "runs/tiny/metadata.sqlite is damaged" in console
    assert "ClickLogGen" not in console
    assert last(attempts.folder)["status"] == "failed"


def test_a_reader_that_leaves_does_not_end_a_run(attempts: Attempts) -> None:
    pipe = attempts.folder / "pipe"
    os.mkfifo(pipe)
    words = ["pipeline.cli", "run", "tiny.yaml", "--set", "train.seed=3"]
    process = forks.start(words, attempts.folder, pipe)
    with pipe.open() as reader:
        assert reader.readline().startswith("tiny: run ")
    process.join(600)
    assert process.exitcode == 0
    assert last(attempts.folder)["status"] == "done"


@pytest.mark.parametrize(
    ("component", "seed"), [("ClickLogGen", 4), ("Trainer", 5)]
)
def test_sigterm_leaves_a_summary_and_goes_on(
    attempts: Attempts, component: str, seed: int
) -> None:
    folder = attempts.folder
    os.utime(folder / "logs/impressions.tsv")
    system = folder / f"runs/tiny/artifacts/{component}/.system"
    process = attempts.start(f"train.seed={seed}")
    assert attempts.until(process, lambda: not system.exists())
    assert attempts.until(process, system.exists)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    process.join(120)
    assert process.exitcode == 1
    message = "Stopped by SIGTERM. Run the same command again to go on."
    assert message in attempts.console.read_text()
    assert last(folder)["message"] == message


@pytest.mark.ci
def test_a_disk_that_fills_during_ingest_is_named(
    attempts: Attempts,
) -> None:
    folder = attempts.folder
    with small_disk(folder / "small", "500k") as resize:
        console = attempts.console
        attempts.console = folder / "small" / "console.txt"
        began = time.monotonic()
        code, shown = attempts.run("root=small")
        attempts.console = console
        assert code == 1
        assert time.monotonic() - began < 200
        assert "No space left on small/tiny/artifacts" in shown
        resize("80m")
        code, shown = attempts.run("root=small")
        assert code == 0, shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "size", "setting"),
    [
        ("push", "60k", "push.to=push/models"),
        ("runs/tiny/checkpoints", "80k", "train.seed=6"),
        ("runs/tiny/artifacts/Trainer", "150k", "train.seed=7"),
        ("runs/tiny/artifacts/Transform", "150k", "features.numeric=[]"),
    ],
)
def test_any_full_disk_is_named_and_the_same_command_goes_on(
    attempts: Attempts, place: str, size: str, setting: str
) -> None:
    with small_disk(attempts.folder / place, size) as resize:
        code, console = attempts.run(setting)
        assert code == 1, console
        assert "No space left on " in console
        named = console.partition("No space left on ")[2].partition(":")[0]
        assert place.startswith(named) or named.startswith(place)
        resize("80m")
        code, console = attempts.run(setting)
        assert code == 0, console


@pytest.mark.slow
def test_a_full_disk_of_the_database_is_named(attempts: Attempts) -> None:
    folder = attempts.folder
    database = folder / "runs/tiny/metadata.sqlite"
    size = database.stat().st_size // 1024 + 72
    with small_disk(folder / "db", f"{size}k") as resize:
        target = folder / "db" / database.name
        shutil.move(database, target)
        database.symlink_to(target)
        code, console = attempts.run("train.seed=8", "features.numeric=[]")
        assert code == 1
        assert "No space left on runs/tiny/metadata.sqlite" in console
        resize("80m")
        code, console = attempts.run("train.seed=8", "features.numeric=[]")
        assert code == 0, console
        database.unlink()
        shutil.move(target, database)


@pytest.mark.slow
def test_a_full_disk_of_temporary_files_is_named(attempts: Attempts) -> None:
    with small_disk(attempts.folder / "temporary", "20k"):
        full = attempts.folder / "temporary"
        result = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "run", "tiny.yaml"],
            check=False,
            capture_output=True,
            text=True,
            cwd=attempts.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path.cwd()),
                "TMPDIR": str(full),
            },
        )
    assert result.returncode == 1
    assert f"No space left on {full}" in result.stderr


@pytest.mark.slow
def test_rejected_rows_are_shown_beside_a_run(
    attempts: Attempts,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = attempts.folder
    code, console = attempts.run()
    assert code == 0, console
    os.utime(folder / "logs/impressions.tsv")
    process = attempts.start()
    system = folder / "runs/tiny/artifacts/StatisticsGen/.system"
    assert attempts.until(process, lambda: not system.exists())
    assert attempts.until(process, system.exists)
    monkeypatch.chdir(folder)
    assert rejected.show("tiny.yaml") == 0
    assert capsys.readouterr().out.startswith("2 rows in runs/tiny/artifacts")
    process.join(600)
    assert process.exitcode == 0
