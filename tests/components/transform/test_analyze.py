"""The analysis of daily logs: each file is looked at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from components.transform import analyze, cache
from models.config.training import Features
from pipeline.beam import threads
from tests.components.click_log_gen.ingest import write_log
from tests.components.transform.test_executor import SMALL, SMALL_SPEC, rows

FEATURES = Features.model_validate(SMALL)
DAY = 86_400


def fit(
    folder: Path,
    days: Sequence[int],
    kept: Path | None,
    version: str = "1",
    options: Sequence[str] = (),
) -> tuple[int, dict[str, bytes]]:
    """How many files were looked at, and what was found."""
    files = [
        str(write_log(folder / f"data-{i}", "tfrecord", rows(30 + day)))
        for i, day in enumerate(days)
    ]
    found, entries = folder / "found", folder / "entries"
    found.mkdir()
    entries.mkdir()
    with (
        mock.patch.object(analyze, "look", wraps=analyze.look) as look,
        beam.Pipeline(
            "FnApiRunner", PipelineOptions(list(options))
        ) as pipeline,
    ):
        _ = (
            pipeline
            | beam.Create(files)
            | analyze.Analyze(
                FEATURES,
                SMALL_SPEC,
                str(found),
                str(entries),
                None if kept is None else str(kept),
                version,
            )
        )
    return look.call_count, {p.name: p.read_bytes() for p in found.iterdir()}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder of a cache."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def test_files_of_earlier_runs_are_not_looked_at_again(
    tmp_path: Path, kept: Path
) -> None:
    count, _ = fit(tmp_path / "first", (0, 1, 2), kept)
    assert count == 3
    # Under other names; a file that is there twice counts twice.
    count, known = fit(tmp_path / "second", (1, 2, 3, 1), kept)
    assert count in (1, 2)  # the same one twice, before either was known
    count, anew = fit(tmp_path / "third", (3, 1, 1, 2), None)
    assert count == 4
    assert known == anew
    count, _ = fit(tmp_path / "fourth", (0,), kept, "2")
    assert count == 1


def test_files_order_and_threads_change_nothing(tmp_path: Path) -> None:
    _, first = fit(tmp_path / "first", range(6), None)
    options = threads(())
    assert options
    _, other = fit(tmp_path / "other", range(5, -1, -1), None, options=options)
    assert first == other
    assert len(first) == 3


def cut(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:-200])


def flip(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    data[len(data) // 3] ^= 0xFF
    entry.write_bytes(data)


def other(entry: Path) -> None:
    """An entry of other features."""
    found = [cache.read(str(entry), index) for index in (1, 0, 2)]
    cache.put(str(entry.parent), entry.name, [found[2], found[0], found[1]])


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        other,
        lambda entry: entry.write_bytes(b""),
        lambda entry: entry.write_bytes(b"cposix\nsystem\n(S'true'\ntR."),
        lambda entry: (entry.unlink(), entry.mkdir()),
    ],
)
def test_a_damaged_entry_is_found_anew_with_a_warning(
    tmp_path: Path,
    kept: Path,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, expected = fit(tmp_path / "first", (0, 1), kept)
    entry = sorted(kept.iterdir())[0]
    damage(entry)
    count, found = fit(tmp_path / "second", (0, 1), kept)
    assert count == 1
    assert found == expected
    assert entry.name in caplog.text
    if not entry.is_dir():
        count, _ = fit(tmp_path / "third", (0, 1), kept)
        assert count == 0


def test_a_run_does_without_a_cache_that_cannot_be_written(
    tmp_path: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count, found = fit(tmp_path / "first", (0, 1), kept / "absent")
    assert count == 2
    assert "cannot keep" in caplog.text
    _, expected = fit(tmp_path / "second", (0, 1), None)
    assert found == expected


def used(folder: Path, days: float, size: int = 10) -> Path:
    """An entry as it is `days` after its last use."""
    name = f"{len(list(folder.iterdir())):064x}.zip"
    entry = folder / name
    entry.write_bytes(b"x" * size)
    then = time.time() - days * DAY
    os.utime(entry, (then, then))
    return entry


def test_entries_are_removed_when_unused_for_long(kept: Path) -> None:
    old, young = used(kept, 31), used(kept, 29)
    unfinished = used(kept, 40)
    unfinished.rename(kept / f"{unfinished.name}.{0:032x}")
    pickled = used(kept, 40)  # by an earlier version
    pickled.rename(pickled.with_suffix(""))
    mine = kept / "notes.txt"
    mine.write_text("mine")
    os.utime(mine, (0, 0))
    cache.clean(str(kept))
    assert sorted(kept.iterdir()) == sorted([young, mine])
    assert not old.exists()


def test_the_longest_unused_are_removed_when_there_is_too_much(
    kept: Path,
) -> None:
    entries = [used(kept, days) for days in (5, 3, 4, 0.5)]
    cache.clean(str(kept), most=25)
    assert sorted(kept.iterdir()) == [entries[1], entries[3]]
    # Another run may be using what was used today.
    cache.clean(str(kept), most=5)
    assert list(kept.iterdir()) == [entries[3]]


def test_an_entry_that_is_used_stays(tmp_path: Path, kept: Path) -> None:
    fit(tmp_path / "first", (0,), kept)
    (entry,) = kept.iterdir()
    then = time.time() - 29 * DAY
    os.utime(entry, (then, then))
    count, _ = fit(tmp_path / "second", (0,), kept)
    assert count == 0
    (entry,) = kept.iterdir()
    assert time.time() - entry.stat().st_mtime < DAY
