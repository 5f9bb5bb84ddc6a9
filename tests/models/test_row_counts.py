"""Readers of examples notice files that were added or lost."""

from __future__ import annotations

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
