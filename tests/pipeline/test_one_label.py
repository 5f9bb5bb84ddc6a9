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


def check(folder: Path, train: int, eval: int, **sections: Any) -> None:
    """Looks at counts with so many positives, of 9 rows in each split."""
    counts = {
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
