"""The index page of runs: links to reports, metrics over the days."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.pipeline.report.test_page import HOSTILE, Page


def add(home: Path, day: int, logloss: float | None, **more: Any) -> None:
    folder = home / f"runs/2024010{day}-020000"
    folder.mkdir(parents=True)
    found = {"logloss": logloss, "auc": 0.7}
    measured = {
        name: {"interval": value and [value - 0.01, value + 0.02]}
        for name, value in found.items()
    }
    summary = {
        "status": "done",
        "model": {"name": "wide_deep"},
        "optimizer": {"name": "lion"},
        "metrics": found,
        "evaluation": {"metrics": measured},
        "pushed_model": f"models/{day}",
        **more,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "report.html").write_text("a report")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    groups = {"groups": [{"name": "lion"}, {"name": "ftrl"}, {"name": "lion"}]}
    ads = tmp_path / "ads & more"
    add(ads, 1, 0.41)
    add(ads, 2, 0.42, optimizer=groups)
    add(ads, 3, None, status="refused", pushed_model=None)
    add(ads, 4, 0.43, status=HOSTILE)
    (ads / "runs/20240105-020000").mkdir()  # was killed
    add(tmp_path / "video", 1, 0.5)
    return tmp_path


def made(capsys: Any, root: Path, *words: str) -> tuple[Path, Page]:
    assert main(["runs", *words, "--html", "--root", str(root)]) == 0
    path = Path(capsys.readouterr().out.strip())
    return path, Page(path.read_text("utf-8"), path.parent)


def test_a_pipelines_runs_stand_in_one_page(root: Path, capsys: Any) -> None:
    path, page = made(capsys, root, "ads & more")
    assert path == root / "ads & more/index.html"
    assert page.links.count("runs/20240101-020000/report.html") == 1
    assert sum(link.endswith("report.html") for link in page.links) == 4
    for text in (
        "0.41000", "0.40000 to 0.43000", "lion, ftrl", "refused",
        "unfinished", "optimizer.groups.ftrl.name", "2024-01-02 02:00:00",
        HOSTILE,
    ):  # fmt: skip
        assert text in page.text, text
    assert "script" not in page.seen
    assert page.seen.count("svg") == 2  # auc, logloss
    assert page.text.rindex("20240105-0") < page.text.rindex("20240101-0")


def test_all_pipelines_have_a_part(root: Path, capsys: Any) -> None:
    path, page = made(capsys, root)
    assert path == root / "index.html"
    assert "ads%20%26%20more/runs/20240101-020000/report.html" in page.links
    assert "video/runs/20240101-020000/report.html" in page.links
    assert page.seen.count("svg") == 4


def test_the_table_has_the_order_that_is_asked_for(
    root: Path, capsys: Any
) -> None:
    _, page = made(capsys, root, "ads & more", "--sort", "logloss")
    assert page.text.rindex("20240101-0") < page.text.rindex("20240105-0")


def test_runs_without_metrics_have_no_chart(
    tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "ads/runs/20240101-000000").mkdir(parents=True)
    _, page = made(capsys, tmp_path, "ads")
    assert "svg" not in page.seen and "1 runs" in page.text


def test_outputs_of_several_labels_have_their_metrics(
    tmp_path: Path, capsys: Any
) -> None:
    for day, value in ((1, 0.6), (2, 0.7)):
        entry = {"value": value, "interval": [value - 0.02, value + 0.03]}
        add(
            tmp_path / "shop",
            day,
            0.4,
            metrics={"auc": 0.7, "cvr.auc": value, "cvr.brier": 0.1},
            evaluation={
                "metrics": {},
                "outputs": {"cvr": {"metrics": {"auc": entry}}},
            },
        )
    _, page = made(capsys, tmp_path, "shop")
    assert "cvr.auc" in page.text and "0.58000 to 0.63000" in page.text
    assert "cvr.brier" not in page.text
    words = ["--root", str(tmp_path), "shop", "--sort", "cvr.auc", "--json"]
    assert main(["runs", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["metrics"]["cvr.auc"] for row in rows] == [0.7, 0.6]
