"""Which negatives are trained on."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

ROWS = [
    {"id": f"r{i}", "user": f"u{i % 90}", "click": int(i % 5 == 0)}
    for i in range(1000)
]
COLUMNS = {"id": ("string", None), "user": ("string", None)}


def sampled(
    folder: Path, rows: list[Row], cuts: int = 1, **negatives: Any
) -> Output:
    size = -(-len(rows) // cuts)
    paths = [
        str(write_log(folder / f"{n}.csv", "csv", rows[n * size :][:size]))
        for n in range(cuts)
    ]
    return convert_log(
        folder / "out",
        log_of(paths, "csv"),
        COLUMNS,
        split_by={"by": "hash", "eval": 0.3, "key": "id"},
        negatives=negatives,
    )


def names(rows: list[Row], label: int) -> set[str]:
    return {row["id"] for row in rows if row["label"] == label}


def test_only_negatives_of_train_are_left_out(tmp_path: Path) -> None:
    whole = sampled(tmp_path / "whole", ROWS)
    output = sampled(tmp_path / "part", ROWS, keep=0.25)
    assert names(output.train, 1) == names(whole.train, 1)
    for label in (0, 1):
        assert names(output.eval, label) == names(whole.eval, label)
    before, after = names(whole.train, 0), names(output.train, 0)
    assert after < before
    assert abs(len(after) / len(before) - 0.25) < 0.06
    counts = output.counts
    assert counts["sampled_out"] == len(before) - len(after)
    assert counts["read"] == counts["kept"] + counts["sampled_out"] == 1000
    assert counts["train"] == len(output.train)


def test_the_choice_depends_on_the_row_alone(tmp_path: Path) -> None:
    output = sampled(tmp_path / "one", ROWS, keep=0.5)
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    other = sampled(tmp_path / "two", shuffled, cuts=4, keep=0.5)
    assert names(other.train, 0) == names(output.train, 0)
    again = sampled(tmp_path / "three", ROWS, keep=0.5, seed=2)
    assert names(again.train, 0) != names(output.train, 0)


def test_more_kept_means_the_same_and_others(tmp_path: Path) -> None:
    fewer = sampled(tmp_path / "one", ROWS, keep=0.3)
    more = sampled(tmp_path / "two", ROWS, keep=0.6)
    assert names(fewer.train, 0) < names(more.train, 0)


def test_a_key_keeps_or_leaves_out_all_its_negatives(tmp_path: Path) -> None:
    output = sampled(tmp_path, ROWS, keep=0.5, key="user")
    users = {row["user"] for row in output.train if not row["label"]}
    assert 20 < len(users) < 70
    evaluated = {row["id"] for row in output.eval}
    expected = {
        row["id"]
        for row in ROWS
        if row["user"] in users
        and not row["click"]
        and row["id"] not in evaluated
    }
    assert names(output.train, 0) == expected


def test_of_equal_negatives_a_share_is_kept(tmp_path: Path) -> None:
    rows = [{"ad": f"a{i % 5}", "click": int(i % 4 == 0)} for i in range(4000)]
    kept = []
    for name in ("one", "two"):
        log = write_log(tmp_path / f"{name}.csv", "csv", rows)
        output = convert_log(
            tmp_path / name,
            log_of(log, "csv"),
            {"ad": ("string", None)},
            split_by={"by": "order", "eval": 0.1},
            negatives={"keep": 0.25},
        )
        counts = Counter(r["ad"] for r in output.train if not r["label"])
        assert sorted(counts) == [f"a{i}" for i in range(5)]
        assert all(90 < count < 190 for count in counts.values())  # of 540
        kept.append(counts)
        rows[:3600] = random.Random(1).sample(rows[:3600], 3600)
    assert kept[0] == kept[1]


@pytest.mark.parametrize("keep", [0, 1.5, -1])
def test_a_share_out_of_range_is_refused(tmp_path: Path, keep: float) -> None:
    with pytest.raises(ValueError, match=r"negatives\.keep"):
        sampled(tmp_path, ROWS, keep=keep)
