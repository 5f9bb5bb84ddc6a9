"""Runs that are killed outright, again and again, wherever they are."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.attempts import Attempts, prepare

KILLS = int(os.environ.get("LIONCTR_KILLS", "60"))
COMPONENTS = (
    "ClickLogGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "Baseline",
    "Evaluator",
    "ServingGate",
    "Pusher",
)
GATE = "serving_gate=on"


def moments() -> list[tuple[str, float]]:
    """Component and share of its time, spread evenly over all of them."""
    draw = random.Random(10)
    each = [
        KILLS // len(COMPONENTS) + (n < KILLS % len(COMPONENTS))
        for n in range(len(COMPONENTS))
    ]
    return [
        (component, (part + draw.random()) / count)
        for component, count in zip(COMPONENTS, each, strict=True)
        for part in range(count)
    ]


def running(folder: Path) -> str:
    """The component that works now; "" while none does.

    TFX makes a folder when an execution begins, and a run begins without any.
    """
    for component in reversed(COMPONENTS):
        if (folder / f"runs/tiny/artifacts/{component}/.system").exists():
            return component
    return ""


def versions(folder: Path) -> list[Path]:
    return [p for p in (folder / "models/tiny").iterdir() if p.is_dir()]


def weights(folder: Path) -> bytes:
    (version,) = versions(folder)
    (file,) = (version / "variables").glob("variables.data-*")
    return file.read_bytes()


def orphans() -> list[int]:
    """Servers of gates that were killed; they end with their parents."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            command = path.with_name("cmdline").read_bytes().split(b"\0")
            if b"serving.process" in command and "\nPPid:\t1\n" in (
                path.read_text()
            ):
                found.append(int(path.parent.name))
    return found


def seconds(folder: Path) -> dict[str, float]:
    (path,) = folder.glob("runs/tiny/runs/*/summary.json")
    found: dict[str, float] = json.loads(path.read_text())["seconds"]
    return found


@pytest.mark.slow
def test_killed_at_any_moment_a_pipeline_pushes_the_same_model_once(
    tmp_path: Path,
) -> None:
    whole = Attempts(tmp_path / "whole")
    whole.folder.mkdir()
    prepare(whole.folder)
    code, console = whole.run(GATE)
    assert code == 0, console
    durations = seconds(whole.folder)

    attempts = Attempts(tmp_path / "killed")
    folder = attempts.folder
    folder.mkdir()
    prepare(folder)
    count = dict.fromkeys(COMPONENTS, 0)
    for component, share in moments():
        for attempt in range(6):
            wait = share * durations[component] / 2**attempt
            where = killed_in(attempts, component, wait)
            if where:
                count[where] += 1
            if where == component:
                break
            # It was over too soon, and is in the cache: all begins anew.
            os.utime(folder / "logs/impressions.tsv")
    print(count)
    assert sum(count.values()) >= KILLS
    assert min(count.values()) >= KILLS // len(COMPONENTS)

    code, console = attempts.run(GATE)
    assert code == 0, console
    assert weights(folder) == weights(whole.folder)
    left = [
        str(path)
        for pattern in (".push-*", ".temp*", "work", "*.tmp", "part-*")
        for path in folder.rglob(pattern)
    ]
    assert left == []
    deadline = time.monotonic() + 30
    while orphans():
        assert time.monotonic() < deadline, orphans()
        time.sleep(0.5)
    with closing(sqlite3.connect(folder / "runs/tiny/metadata.sqlite")) as base:
        known = {
            Path(uri).parts[-3:]
            for (uri,) in base.execute("SELECT uri FROM Artifact WHERE state=2")
        }
    artifacts = folder / "runs/tiny/artifacts"
    there = {p.parts[-3:] for p in artifacts.glob("[!.]*/[!.]*/[0-9]*")}
    assert there <= known


def killed_in(attempts: Attempts, component: str, wait: float) -> str:
    """Kills a run, `wait` seconds after a component has begun.

    Returns:
        The component that it was killed in; "" if the run was over.
    """
    folder = attempts.folder
    before = COMPONENTS[: COMPONENTS.index(component)]

    process = attempts.start(GATE)
    attempts.until(
        process,
        lambda: (
            "run 20" in attempts.console.read_text() and not running(folder)
        ),
    )
    attempts.until(process, lambda: running(folder) not in ("", *before))
    process.join(wait)
    where = running(folder) if process.is_alive() else ""
    process.kill()
    process.join()
    return where
