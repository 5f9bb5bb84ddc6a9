"""Readers of examples notice files that were added or lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import FailedError
from models.input_pipeline import row_counts


def test_readers_compare_their_rows_with_those_that_were_written(
    tmp_path: Path,
) -> None:
    one, two = f"{tmp_path}/1", f"{tmp_path}/2"
    for folder in (one, two):
        Path(folder).mkdir()
        row_counts.write(folder, {"train": 30, "eval": 4})
    patterns = [f"{one}/Split-train/*", f"{two}/Split-train/*"]
    row_counts.check("Trainer", patterns, 60)
    row_counts.check("Evaluator", [f"{one}/Split-eval/*"], 4)
    with pytest.raises(FailedError) as error:
        row_counts.check("Trainer", patterns, 90)
    assert "Trainer" in str(error.value)
    assert "hold 90 rows, but ingest wrote 60" in str(error.value)
    assert one in str(error.value)


def test_examples_of_others_are_read_without_counts(tmp_path: Path) -> None:
    row_counts.check("Trainer", [f"{tmp_path}/Split-train/*"], 7)
    row_counts.write(str(tmp_path), {"train": 1})
    row_counts.check("Trainer", [f"{tmp_path}/Split-other/*"], 7)


def test_sums_of_weights_are_those_of_all_artifacts(tmp_path: Path) -> None:
    patterns = []
    for name in ("1", "2"):
        folder = tmp_path / name
        folder.mkdir()
        patterns.append(f"{folder}/Split-train/*")
        with pytest.raises(FailedError, match=r"weights\.json is missing"):
            row_counts.weights(patterns, "train")
        sums = {"train": {"rows": 5.5, "positives": 1.5}}
        (folder / row_counts.WEIGHTS).write_text(json.dumps(sums))
    assert row_counts.weights(patterns, "train") == (8.0, 3.0)
    row_counts.copy_weights(str(tmp_path), str(tmp_path / "1"))  # none there
    (tmp_path / "3").mkdir()
    row_counts.copy_weights(str(tmp_path / "1"), str(tmp_path / "3"))
    found = row_counts.weights([f"{tmp_path}/3/Split-train/*"], "train")
    assert found == (4.0, 1.5)
