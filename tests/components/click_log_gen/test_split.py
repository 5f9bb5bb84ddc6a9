"""Train and eval: the share that goes over, and what stays together."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.config.sections import Split
from components.click_log_gen.splitting import quantile, split
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    convert_log,
    cut_into,
    fresh_folder,
    log_of,
    write_log,
)

AT = SECONDS | {"column": "at"}
ID = {"id": ("string", None)}
KEYED = {"id": ("string", None), "user": ("string", None)}


def ids(rows: list[Row]) -> list[str]:
    return [row["id"] for row in rows]


def cut(
    folder: Path,
    files: list[list[Row]],
    by: Row,
    format: str = "csv",
    **kw: Any,
) -> Output:
    """Converts the rows of several files, cut into small chunks."""
    paths = [
        write_log(folder / f"{i}.{format}", format, rows)
        for i, rows in enumerate(files)
        if rows
    ]
    kw.setdefault("columns", ID)
    log = log_of([str(path) for path in paths], format)
    with cut_into(100, 30):
        return convert_log(folder / "out", log, split_by=by, **kw)


def in_files(rows: list[Row], sizes: list[int]) -> list[list[Row]]:
    files, at = [], 0
    for size in [*sizes, len(rows)]:
        files.append(rows[at : at + size])
        at += size
    return files


SIZES = st.lists(st.integers(0, 10), max_size=3)
SHARE = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9])


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    sizes=SIZES,
    share=SHARE,
)
def test_by_time_the_latest_share_goes_to_eval_and_ties_stay_together(
    times: list[int], sizes: list[int], share: float
) -> None:
    rows = [{"id": f"r{i}", "click": 0, "t": t} for i, t in enumerate(times)]
    by = {"by": "time", "eval": share}
    with fresh_folder() as folder:
        output = cut(folder, in_files(rows, sizes), by, time=SECONDS)
    wanted = len(rows) - max(1, round(share * len(rows)))
    border = sorted(times)[wanted]
    assert sorted(ids(output.eval)) == sorted(
        row["id"] for row in rows if row["t"] >= border
    )
    assert sorted(ids(output.kept)) == sorted(row["id"] for row in rows)


def test_by_time_the_share_is_exact_where_times_differ(tmp_path: Path) -> None:
    times = random.Random(1).sample(range(10**9, 10**9 + 10**6), 1000)
    rows = [{"id": f"r{i}", "click": 0, "t": t} for i, t in enumerate(times)]
    by = {"by": "time", "eval": 0.1}
    output = cut(tmp_path, in_files(rows, [300, 1]), by, time=SECONDS)
    assert len(output.eval) == 100


def test_rows_without_a_time_are_rejected_and_do_not_move_the_cut(
    tmp_path: Path,
) -> None:
    rows = [{"id": f"r{t}", "click": 0, "t": t or ""} for t in range(11)]
    by = {"by": "time", "eval": 0.2}
    output = cut(tmp_path, [rows], by, time=SECONDS)
    assert ids(output.eval) == ["r9", "r10"]
    assert output.reasons == ["column t: no time"]


def test_a_time_may_also_be_a_feature(tmp_path: Path) -> None:
    rows = [{"id": f"r{t}", "click": 0, "t": 10.0 + t} for t in range(10)]
    for kind in ("float", "string"):
        for format in ("csv", "jsonl", "parquet", "tfrecord"):
            output = cut(
                tmp_path / kind / format,
                [rows],
                {"by": "time", "eval": 0.2},
                format,
                columns=ID | {"t": (kind, None)},
                time=SECONDS,
            )
            assert ids(output.eval) == ["r8", "r9"]


def test_many_times_are_cut_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantile, "EDGES", 7)
    times = list(range(0, 6000, 3))
    random.Random(2).shuffle(times)
    rows = [{"id": f"r{t}", "click": 0, "t": t} for t in times]
    path = write_log(tmp_path / "log", "csv", rows)
    with cut_into(10_000, 1000):
        output = convert_log(
            tmp_path / "out",
            log_of(path, "csv"),
            ID,
            split_by={"by": "time", "eval": 0.25},
            time=SECONDS,
        )
    assert sorted(ids(output.eval)) == sorted(
        f"r{t}" for t in times if t >= 4500
    )


NUMBERS = st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62))


@settings(max_examples=200, deadline=None)
@given(
    files=st.lists(st.lists(NUMBERS, max_size=8), min_size=1, max_size=4),
    edges=st.sampled_from([2, 7, 100]),
)
def test_the_nth_number_is_that_of_the_sorted_ones(
    files: list[list[int]], edges: int
) -> None:
    wanted = sorted(number for numbers in files for number in numbers)
    with (
        fresh_folder() as folder,
        mock.patch.object(quantile, "EDGES", edges),
    ):
        written = [
            quantile.write(str(folder / f"{i}"), np.array(numbers, np.int64))
            for i, numbers in enumerate(files)
        ]
        for rank, number in enumerate(wanted):
            assert quantile.nth(written, rank) == number


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 40), sizes=SIZES, share=SHARE)
def test_by_order_the_last_rows_of_the_last_file_go_to_eval(
    count: int, sizes: list[int], share: float
) -> None:
    rows = [{"id": f"r{i}", "click": 0} for i in range(count)]
    with fresh_folder() as folder:
        output = cut(
            folder, in_files(rows, sizes), {"by": "order", "eval": share}
        )
    train = count - max(1, round(share * count))
    assert ids(output.train) == [f"r{i}" for i in range(train)]
    assert ids(output.eval) == [f"r{i}" for i in range(train, count)]


def test_by_order_rejected_rows_have_their_place(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "click": 7 if i % 3 else 0} for i in range(12)]
    by = {"by": "order", "eval": 0.5}
    output = cut(tmp_path, in_files(rows, [5]), by)
    assert (ids(output.train), ids(output.eval)) == (["r0", "r3"], ["r6", "r9"])


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "tfrecord"])
def test_by_hash_all_rows_of_a_key_stay_together_in_any_order(
    tmp_path: Path, format: str
) -> None:
    random_ = random.Random(3)
    rows = [
        {"id": f"r{i}", "click": 0, "user": f"u{random_.randrange(60)}"}
        for i in range(400)
    ]
    by = {"by": "hash", "eval": 0.3, "key": "user"}
    output = cut(tmp_path / "one", [rows], by, format, columns=KEYED)
    sides = defaultdict(set)
    for side, part in (("train", output.train), ("eval", output.eval)):
        for row in part:
            sides[row["user"]].add(side)
    assert {len(found) for found in sides.values()} == {1}
    assert 0.1 < len(output.eval) / 400 < 0.5
    random_.shuffle(rows)
    files = in_files(rows, [7, 200])
    other = cut(tmp_path / "two", files, by, format, columns=KEYED)
    assert sorted(ids(other.eval)) == sorted(ids(output.eval))


def test_a_key_is_the_same_user_in_every_format(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "click": 0, "user": i % 50} for i in range(100)]
    found = [
        sorted(
            ids(
                cut(
                    tmp_path / format,
                    [rows],
                    {"by": "hash", "eval": 0.4, "key": "user"},
                    format,
                ).eval
            )
        )
        for format in ("csv", "tsv", "jsonl", "parquet", "tfrecord")
    ]
    assert all(one == found[0] for one in found)


def test_a_key_that_is_a_number_to_the_model_is_still_one_user(
    tmp_path: Path,
) -> None:
    # As a number 7 and 7.0 are one; a block that mixes them reads as text.
    rows = [
        {"id": f"r{i}", "click": 0, "user": user}
        for i, user in enumerate([*range(40), *map(float, range(40))])
    ]
    output = cut(
        tmp_path,
        [rows],
        {"by": "hash", "eval": 0.5, "key": "user"},
        "jsonl",
        columns=ID | {"user": ("float", None)},
    )
    with cut_into(10**6, 10**6):
        whole = convert_log(
            tmp_path / "whole",
            log_of(tmp_path / "0.jsonl", "jsonl"),
            ID | {"user": ("float", None)},
            split_by={"by": "hash", "eval": 0.5, "key": "user"},
        )
    assert sorted(ids(whole.eval)) == sorted(ids(output.eval))


def test_a_row_without_a_key_is_rejected(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "click": 0, "user": None},
        {"id": "b", "click": 0, "user": 1},
    ]
    by = {"by": "hash", "eval": 0.5, "key": "user"}
    output = cut(tmp_path, [rows], by)
    assert output.reasons == ["column user: no value to split by"]
    assert ids(output.kept) == ["b"]


def test_by_hash_without_a_key_equal_rows_stay_together(tmp_path: Path) -> None:
    rows = [{"id": f"r{i % 300}", "click": 0} for i in range(600)]
    by = {"by": "hash", "eval": 0.1}
    output = cut(tmp_path / "one", [rows], by)
    train, eval_ = set(ids(output.train)), set(ids(output.eval))
    assert not train & eval_
    assert len(train | eval_) == 300
    assert 15 <= len(eval_) <= 50
    random.Random(4).shuffle(rows)
    other = cut(tmp_path / "two", in_files(rows, [10, 50]), by)
    assert set(ids(other.eval)) == eval_


def test_by_hash_without_a_key_labels_are_not_told_apart(
    tmp_path: Path,
) -> None:
    rows = [{"id": f"r{i // 2}", "click": i % 2} for i in range(600)]
    output = cut(tmp_path, [rows], {"by": "hash", "eval": 0.3})
    for side in (output.train, output.eval):
        labels = Counter(row["id"] for row in side)
        assert labels and set(labels.values()) == {2}


def test_a_larger_share_only_adds_to_eval() -> None:
    import pyarrow as pa

    keys = pa.array([f"u{i}" for i in range(2000)])
    before = split.hash_sides(keys, Split(eval=0.1))
    for share in (0.2, 0.5, 0.999):
        after = split.hash_sides(keys, Split(eval=share))
        assert (after >= before).all()
        assert abs(after.mean() - share) < 0.03
        before = after


def test_a_test_split_takes_the_last_rows_and_eval_those_before(
    tmp_path: Path,
) -> None:
    rows = [{"id": f"r{i}", "click": 0, "at": 1000 + i} for i in range(20)]
    for by in ("time", "order"):
        output = cut(
            tmp_path / by,
            in_files(rows, [3, 11]),
            {"by": by, "eval": 0.1, "test": 0.2},
            time=AT if by == "time" else None,
        )
        parts = (output.train, output.eval, output.test)
        names = [f"r{i}" for i in range(20)]
        expected = [names[:14], names[14:16], names[16:]]
        assert [sorted(ids(part)) for part in parts] == [
            sorted(part) for part in expected
        ]
        assert [output.counts[n] for n in ("train", "eval", "test")] == [
            14,
            2,
            4,
        ]


def test_by_hash_eval_does_not_change_when_a_test_split_is_added() -> None:
    import pyarrow as pa

    keys = pa.array([f"u{i}" for i in range(3000)])
    without = split.hash_sides(keys, Split(eval=0.2))
    sides = split.hash_sides(keys, Split(eval=0.2, test=0.3))
    assert ((sides == 1) == (without == 1)).all()
    assert abs((sides == 2).mean() - 0.3) < 0.03


def test_a_gap_keeps_what_came_just_before_a_later_split_out(
    tmp_path: Path,
) -> None:
    rows = [{"id": f"r{i}", "click": 0, "at": 1000 + 60 * i} for i in range(20)]
    by = {"by": "time", "eval": 0.1, "test": 0.2, "gap": "2m"}
    output = cut(tmp_path, in_files(rows, [9]), by, time=AT)
    # Eval begins with r14, test with r16; two minutes are two rows.
    assert ids(output.train) == [f"r{i}" for i in range(12)]
    assert ids(output.eval) == []
    assert ids(output.test) == [f"r{i}" for i in range(16, 20)]
    assert (output.counts["gap"], output.counts["kept"]) == (4, 16)


def test_several_columns_are_one_key(tmp_path: Path) -> None:
    rows = [
        {"id": f"{u}-{d}-{n}", "click": 0, "user": u, "day": d}
        for u in ("a", "ab", "b")
        for d in ("b", "bc", "c")
        for n in range(2)
    ]
    by = {"by": "hash", "eval": 0.5, "key": ["user", "day"]}
    output = cut(tmp_path, [rows], by)
    train = {name.rsplit("-", 1)[0] for name in ids(output.train)}
    eval_ = {name.rsplit("-", 1)[0] for name in ids(output.eval)}
    assert not train & eval_
    assert len(train | eval_) == 9
    users = [{pair.split("-")[0] for pair in part} for part in (train, eval_)]
    assert users[0] & users[1]  # a user alone is not the key


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"eval": 0.5, "test": 0.5}, "leave nothing to train"),
        ({"by": "order", "gap": "1h"}, "for `by: time`"),
        ({"by": "time", "gap": "soon"}, "accepted: a number and a unit"),
        ({"by": "order", "key": "user"}, "for `by: hash`"),
    ],
)
def test_mistakes_in_the_section_are_named(section: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split.model_validate(section)
