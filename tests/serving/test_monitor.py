"""Missing and unknown values of requests, counted on a sample."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from serving.monitor import Monitor


class Counts:
    """Looks so far: feature -> rows, missing, unknown."""

    def __init__(self) -> None:
        self.found: dict[str, list[int | None]] = {}

    def seen(
        self, feature: str, rows: int, missing: int, unknown: int | None
    ) -> None:
        self.found[feature] = [rows, missing, unknown]


class Version:
    """A loaded version, as far as the monitor asks."""

    def __init__(self, folder: Path) -> None:
        words = folder / "vocab"
        words.write_bytes("é\nblue\nred\n".encode())
        self.vocabularies = {
            "color": (words, None),
            "tags": (words, "|"),
            "gone": (folder / "gone", None),
        }


COLUMNS = {
    "x": np.float32([1, np.nan, np.inf, 0]),
    "n": np.array([1, -1, 0, 2]),
    "free": np.array(["a", "", b"", "b"], object),
    "color": np.array(["é", b"blue", "", "green"], object),
    "tags": np.array(["red|blue", "", "red|pink|x", "blue"], object),
    "gone": np.array(["a", "b", "c", ""], object),
}


def test_a_look_counts_rows(tmp_path: Path) -> None:
    counts = Counts()
    Monitor(counts).look(Version(tmp_path), COLUMNS)
    assert counts.found == {
        "x": [4, 2, None],
        "n": [4, 1, None],
        "free": [4, 2, None],
        "color": [4, 1, 1],
        "tags": [4, 1, 1],
        "gone": [4, 1, None],
    }


def test_looks_are_few_whatever_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, version = Monitor(Counts()), Version(tmp_path)
    looks: list[int] = []
    monkeypatch.setattr(monitor, "look", lambda *_: looks.append(1))
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        monitor.offer(version, COLUMNS)
    time.sleep(0.2)
    assert 1 <= len(looks) <= 2
