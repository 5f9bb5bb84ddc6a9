"""Runs whose columns, folders and labels are not the usual ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load
from tests.e2e.attempts import lionctr
from tests.pipeline.small import make_config, write_log


def refuse(constant: str) -> Any:
    """RFC 8259 has no NaN."""
    raise AssertionError(f"{constant} is no JSON")


def run(config: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the summary, and what a person saw."""
    code, out, console = lionctr("run", str(config), "--json")
    return code, json.loads(out, parse_constant=refuse), console


def write_config(path: Path, **sections: Any) -> Path:
    """The small pipeline's config, written as a person would, in short."""
    config = make_config(path.parent, **sections).model_dump(mode="json")
    config["optimizer"] = {"name": "lion"}
    path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    return path


@pytest.mark.ci
def test_columns_in_other_scripts_and_folders_that_look_like_globs(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a [1]*"
    home.mkdir()
    log = home / "log.tsv"
    write_log(log, 800)
    text = log.read_text("utf-8").replace("\ttv\n", "\t电视\n")
    rows = [line for line in text.splitlines() if not line.endswith("电视")]
    one_label = [line for line in text.splitlines() if line.endswith("电视")]
    rows += [f"1{line[1:]}" for line in one_label]
    rows[0] = "click\t价格\tage\t站点\t设备"
    log.write_text("\n".join(rows) + "\n", "utf-8")
    config = write_config(
        tmp_path / "c.yaml",
        root=f"file://{home}/runs",
        features={"numeric": ["价格", "age"], "categorical": ["站点", "设备"]},
        push={"to": f"{home}/models"},
        evaluate={
            "metrics": {"example_count": {"min": 1}},
            "slices": [["设备"]],
        },
    )
    data = yaml.safe_load(config.read_text("utf-8"))
    data["data"]["impressions"]["path"] = str(tmp_path / "log.tsv")
    # Nothing is left to choose: config.yaml is what was asked for.
    data["optimizer"] = {"name": "lion", "learning_rate": 3e-3}
    config.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    log.rename(tmp_path / "log.tsv")

    code, summary, console = run(config)
    assert code == 0, console
    assert "metrics of the eval split" in console
    assert "not defined       metrics of 1 slice: " in console
    assert summary["slices"]["[设备=电视]"]["auc"] is None
    assert summary["slices"]["[设备=desk]"]["auc"] > 0
    (why,) = summary["undefined"].values()
    assert why.endswith("the slice 设备=电视 has no negative")
    (few,) = (one for one in summary["warnings"] if "fewer than 200" in one)
    assert f"    warning: {few}" in console

    folder = home / "runs" / "Small_ctr" / "runs" / summary["run"]
    resolved = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert resolved["optimizer"]["learning_rate"] > 0
    assert load(folder / "config.yaml").sha256() == summary["config_sha256"]
    assert summary["optimizer"] == resolved["optimizer"]
    for key in ("rejected", "schema", "tensorboard"):
        assert summary[key].startswith(f"{home}/runs/Small_ctr/artifacts/")
        assert Path(summary[key]).exists()

    model = Path(summary["pushed_model"])
    assert model.parent == home / "models" / "Small_ctr"
    manifest = json.loads((model / "assets.extra/manifest.json").read_text())
    assert manifest["inputs"] == {
        "价格": "f___",
        "age": "age",
        "站点": "f____2",
        "设备": "f____3",
    }

    code, again, console = run(config)
    assert code == 0, console
    assert again["pushed_model"] == summary["pushed_model"]
    assert console.count(" cached ") >= 8, console
    assert f"    warning: {few}" in console
    assert again["warnings"] == summary["warnings"]
    report = folder.with_name(again["run"]) / "report.html"
    assert f"Warning: {few}" in report.read_text("utf-8")


@pytest.mark.parametrize("label", [0, pytest.param(1, marks=pytest.mark.ci)])
def test_labels_of_one_class_are_told_before_ingest(
    tmp_path: Path, label: int
) -> None:
    write_log(tmp_path / "log.tsv", 50)
    lines = (tmp_path / "log.tsv").read_text("utf-8").splitlines()
    lines[1:] = [f"{label}{line[1:]}" for line in lines[1:]]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    config = write_config(tmp_path / "c.yaml", root=f"{tmp_path}/runs")
    code, summary, console = run(config)
    assert code == 2
    message = summary["message"]
    assert f"data.label: all labels of 50 rows are {label};" in message
    assert not summary["seconds"] and "ClickLogGen" not in console
