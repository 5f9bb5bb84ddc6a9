"""A model a day whose rows come after sightings, and go without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.preprocessing import ledger_file
from tests.e2e.attempts import lionctr

USERS = {1: range(30), 2: range(10, 40), 3: range(10, 40)}
RARE = {1: 2, 2: 2, 3: 0}  # sightings of a user on a day
pytestmark = pytest.mark.slow


def write_log(path: Path, day: int) -> None:
    """1200 rows of a day, in order of their times; the last fifth is eval."""
    lines = ["ts\tclick\tuser\tprice"]
    users = [f"u{n}" for n in USERS[day]]
    for row in range(1200):
        user = "rare" if row < RARE[day] else users[row % len(users)]
        hour, minute = divmod(row, 60)
        click = int((row * 7919) % 100 < 20 + 40 * (row % 3 == 0))
        lines.append(
            f"2024-03-0{day}T{hour:02d}:{minute:02d}:00Z\t{click}\t{user}"
            f"\t{row % 17}"
        )
    path.write_text("\n".join(lines) + "\n", "utf-8")


class Home:
    """A pipeline whose log is another one each day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for day in USERS:
            write_log(folder / f"{day}.tsv", day)
        config = {
            "name": "daily",
            "root": str(folder / "runs"),
            "data": {
                "impressions": {"path": "?", "format": "tsv", "header": True},
                "label": "click",
                "time": "ts",
                "split": {"by": "time", "eval": 0.2},
            },
            "features": {
                "numeric": ["price"],
                "categorical": [
                    {
                        "name": "user",
                        "dim": 4,
                        "min_count": 4,
                        "admission": 2,
                    }
                ],
            },
            "model": {"hidden": [8], "dropout": 0.0, "embedding_l2": 0.0},
            "optimizer": {"name": "lion", "learning_rate": 0.01},
            "train": {
                "batch_size": 32,
                "epochs": 1,
                "jit": False,
                "warm_start": "latest_blessed",
            },
            "evaluate": {"metrics": {"auc": {"min": 0.01}}},
            "serving_gate": "off",
            "push": {"to": str(folder / "models")},
        }
        (folder / "daily.yaml").write_text(yaml.safe_dump(config))

    def run(self, day: int, *settings: str) -> dict[str, Any]:
        """The summary of a run."""
        settings = (
            f"data.impressions.path={self.folder}/{day}.tsv",
            *settings,
        )
        _, out, console = lionctr(
            "run",
            "--json",
            str(self.folder / "daily.yaml"),
            *(word for setting in settings for word in ("--set", setting)),
        )
        found: dict[str, Any] = json.loads(out)
        return found | {"console": console}


def test_values_are_admitted_evicted_and_counted_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    told, moved = [], []
    fresh = ""
    for day, more in (
        (1, ()),
        (2, ()),
        # Neither pushed nor counted.
        (3, ("evaluate.metrics.auc.min=0.999",)),
        (3, ()),
        (3, ()),  # from the cache
    ):
        found = home.run(day, *more)
        status = "refused" if more else "done"
        assert found["status"] == status, found["console"]
        numbers = found["admission"]["user"]
        assert numbers.pop("day") == f"2024-03-0{day}"
        if "Transform         cached" not in found["console"]:
            fresh = found["console"]
        told.append(tuple(numbers.values()))
        moved.append(found["warm_start"]["features"])
    # known, admitted, new, waiting, evicted, capped, forgotten
    assert told == [
        (31, 30, 30, 1, 0, 0, 0),
        (41, 41, 11, 0, 0, 0, 0),  # two days have four sightings of `rare`
        *3 * [(31, 31, 0, 0, 10, 0, 0)],
    ]
    assert [one.get("user") for one in moved] == [
        None,
        {"kept": 30, "new": 11, "gone": 0},
        *3 * [{"kept": 31, "new": 0, "gone": 10}],
    ]
    assert "Transform         cached" in found["console"]
    assert "user: 31 known, 31 admitted (0 new)" in fresh
    page = home.folder / "runs/daily/runs" / found["run"] / "report.html"
    assert "Admission" in page.read_text("utf-8")
    (state,) = (
        folder
        for folder in tmp_path.glob("models/.training/daily/*")
        if ledger_file.read(f"{folder}/ledgers", "vocab_user").day == 19785
    )
    assert state.is_dir()
