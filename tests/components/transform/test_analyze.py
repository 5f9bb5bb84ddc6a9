"""The analysis of daily logs: each file is looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import apache_beam as beam

from components.transform import analyze
from components.transform.cache import Cache
from models.config import Features
from tests.components.click_log_gen.ingest import write_log
from tests.components.transform.test_executor import SMALL, SMALL_SPEC, rows

FEATURES = Features.model_validate(SMALL)


def fit(
    folder: Path, days: Sequence[int], cache: Cache | None
) -> tuple[int, dict[str, bytes]]:
    """How many files were looked at, and what was found."""
    files = [
        str(write_log(folder / f"data-{i}", "tfrecord", rows(30 + day)))
        for i, day in enumerate(days)
    ]
    found = folder / "found"
    found.mkdir()
    with (
        mock.patch.object(analyze, "look", wraps=analyze.look) as look,
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        _ = (
            pipeline
            | beam.Create(files)
            | analyze.Analyze(FEATURES, SMALL_SPEC, str(found), cache)
        )
    return look.call_count, {p.name: p.read_bytes() for p in found.iterdir()}


def test_files_of_earlier_runs_are_not_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    cache = Cache(str(tmp_path / "cache"), "1")
    count, _ = fit(tmp_path / "first", (0, 1, 2), cache)
    assert count == 3
    # Under other names; a file that is there twice counts twice.
    count, known = fit(tmp_path / "second", (1, 2, 3, 1), cache)
    assert count == 1
    count, anew = fit(tmp_path / "third", (3, 1, 1, 2), None)
    assert count == 4
    assert known == anew
    other = Cache(str(tmp_path / "cache"), "2")
    count, _ = fit(tmp_path / "fourth", (0,), other)
    assert count == 1
