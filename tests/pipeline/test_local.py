"""Surroundings of a run: its folder, its lock."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pipeline.runners import run_folder


class _Clock(datetime.datetime):
    """A clock that is put back an hour with every look."""

    hour_ = 12

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Clock:
        cls.hour_ -= 1
        return cls(2026, 11, 27, cls.hour_, tzinfo=tz)


def test_runs_keep_their_order_when_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder.datetime, "datetime", _Clock)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes").mkdir()
    names = [run_folder.new_folder(tmp_path / "runs").name for _ in range(12)]
    assert names == sorted(names)
    assert len(set(names)) == 12
