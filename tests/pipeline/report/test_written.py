"""A run and its report: written at the end, whatever the end is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.report import page


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config whose log is not there."""
    path = tmp_path / "ads.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "ads",
                "root": str(tmp_path / "runs"),
                "data": {
                    "impressions": {
                        "path": str(tmp_path / "absent.tsv"),
                        "format": "tsv",
                        "header": True,
                    },
                    "label": "click",
                },
                "features": {"categorical": ["ad"]},
                "push": {"to": str(tmp_path / "models")},
            }
        )
    )
    return path


def folder_of(config: Path) -> Path:
    (folder,) = (config.parent / "runs/ads/runs").iterdir()
    return folder


def test_a_run_that_ends_early_leaves_its_report(config: Path) -> None:
    assert main(["run", str(config)]) == 2
    folder = folder_of(config)
    text = (folder / page.REPORT).read_text()
    assert "absent.tsv" in text and "nothing was pushed" in text
    summary = json.loads((folder / "summary.json").read_text())
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("data", "features", "model", "optimizer", "train", "evaluate"):
        assert summary[name] == kept[name]
    assert main(["check", str(folder / "config.yaml")]) == 2  # no log, still


def test_a_failed_run_of_an_older_version_has_a_report(tmp_path: Path) -> None:
    """Its summary does not say which artifacts it made."""
    run = tmp_path / "ads/runs/20260101-000000"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: ads\n")
    (run / "summary.json").write_text('{"status": "failed", "name": "ads"}')
    assert main(["report", str(run)]) == 0
    assert (run / page.REPORT).is_file()


def test_a_report_that_fails_costs_nothing_else(
    config: Path, monkeypatch: Any, capfd: Any
) -> None:
    def fails(folder: Path) -> Path:
        raise RuntimeError("no font")

    monkeypatch.setattr(page, "write", fails)
    assert main(["run", str(config)]) == 2
    folder = folder_of(config)
    assert (folder / "summary.json").exists()
    assert "no report: no font" in (folder / "log.txt").read_text()
    assert "no font" not in capfd.readouterr().err
