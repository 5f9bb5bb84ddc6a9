"""Reasons for which a run stops between two components."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import InputError
from pipeline.console import Console
from pipeline.runners.local import _Run
from tests.pipeline.small import make_config


def check(
    folder: Path, train: int, eval: int, bought: int = 1, **sections: Any
) -> None:
    """Looks at counts with so many positives, of 9 rows in each split."""
    buys = {"positives": bought, "negatives": 2, "unknown": 1}
    counts = {
        "labels": {"buy": {**buys, "splits": {"train": buys, "eval": buys}}},
        "train": 9,
        "eval": 9,
        "positives": {"train": train, "eval": eval},
    }
    (folder / "counts.json").write_text(json.dumps(counts), "utf-8")
    config = make_config(folder, **sections)
    run = _Run(config, folder, folder, Console(io.StringIO()))
    run._outputs.uris["ClickLogGen"] = {"rejected": str(folder)}
    run._check_objective()


def test_a_search_by_auc_needs_both_labels(tmp_path: Path) -> None:
    tune: dict[str, Any] = {"model.dropout": {"linear": [0, 0.5]}}
    check(tmp_path, 1, 0, tune=tune)
    tune["objective"] = "auc"
    check(tmp_path, 1, 1, tune=tune)
    with pytest.raises(InputError, match=r"tune\.objective: received 'auc'"):
        check(tmp_path, 1, 0, tune=tune)


@pytest.mark.parametrize("output", ["cvr", "ctcvr"])
def test_a_search_by_an_output_needs_both_classes_of_its_label(
    tmp_path: Path, output: str
) -> None:
    tune: dict[str, Any] = {
        "model.dropout": {"linear": [0, 0.5]},
        "objective": "auc",
        "output": output,
    }
    log = {"path": "log.tsv", "format": "tsv", "header": True}
    labels = {"click": "click", "buy": {"column": "buy", "of": "click"}}
    sections = {
        "data": {"impressions": log, "labels": labels},
        "model": {"name": "esmm"},
        "tune": tune,
    }
    check(tmp_path, 1, 1, **sections)
    words = rf"all \d rows of the eval split where {output} counts have the"
    with pytest.raises(InputError, match=words):
        check(tmp_path, 1, 1, bought=0, **sections)
