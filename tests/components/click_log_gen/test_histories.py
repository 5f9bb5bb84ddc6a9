"""Histories from the log, against a look at all rows for each row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.history import windows
from models.errors import InputError
from tests.components.click_log_gen.history_truth import (
    COLUMNS,
    NAMES,
    SEQUENCE,
    histories,
    made,
    random_rows,
    small_parts,
    without,
)
from tests.components.click_log_gen.ingest import (
    FORMATS,
    SECONDS,
    Output,
    Row,
    convert_log,
    fresh_folder,
    log_of,
    write_log,
)

ROW = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["u", "u", "v", None]),
        "item": st.sampled_from(["a", "b", "c", None]),
        "kind": st.sampled_from(["x", "y", None]),
        "price": st.sampled_from([0.5, 2.0, None]),
        "t": st.sampled_from([0, 1, 2, 3, 5, 8, 13]),
        "click": st.sampled_from([0, 1, 1]),
    }
)
SPLITS: list[Row] = [
    {"by": "hash", "eval": 0.4},
    {"by": "hash", "eval": 0.4, "key": "row"},
    {"by": "time", "eval": 0.4},
    {"by": "order", "eval": 0.4},
]


def ingest(
    folder: Path,
    files: list[list[Row]],
    format: str = "csv",
    suffix: str = "",
    sequences: list[Row] | None = None,
    **more: Any,
) -> Output:
    paths = [
        str(write_log(folder / f"log{i}.{format}{suffix}", format, rows))
        for i, rows in enumerate(files)
    ]
    more = {"time": SECONDS, "split_by": SPLITS[0]} | more
    return convert_log(
        folder / "out",
        log_of(paths, format),
        more.pop("columns", COLUMNS),
        sequences=[SEQUENCE] if sequences is None else sequences,
        **more,
    )


def shuffled(rows: list[Row], files: int, seed: int) -> list[list[Row]]:
    """The rows in some files, in any order."""
    rows = random.Random(seed).sample(rows, len(rows))
    return [rows[i::files] for i in range(min(files, len(rows)))]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=12),
    seed=st.integers(0, 99),
    files=st.integers(1, 3),
    clicked=st.booleans(),
    most=st.sampled_from([1, 2, 50]),
    split=st.sampled_from(SPLITS),
)
def test_each_row_has_what_its_user_did_before_its_time(
    rows: list[Row],
    seed: int,
    files: int,
    clicked: bool,
    most: int,
    split: Row,
) -> None:
    names = rows[0]  # Hypothesis may order each row's names anew.
    rows = [
        {"row": f"r{i}", **{name: row[name] for name in names}}
        for i, row in enumerate(rows)
    ]
    sequence = SEQUENCE | {"clicked": clicked, "max_len": most}
    with fresh_folder() as folder, small_parts(100, 3, 150):
        output = ingest(
            folder,
            shuffled(rows, files, seed),
            sequences=[sequence],
            split_by=split,
        )
    assert not output.rejected
    assert made(output) == histories(rows, clicked, most)


def test_neither_a_rows_own_click_nor_a_tied_one_gets_in(
    tmp_path: Path,
) -> None:
    rows = [
        {"user": "u", "item": f"i{i}", "t": t, "click": click}
        for i, (t, click) in enumerate(
            [(5, 1), (5, 1), (5, 0), (6, 1), (6, 1), (7, 0), (4, 1)]
        )
    ]
    rows = [
        {"row": f"r{i}", "kind": "", "price": "", **row}
        for i, row in enumerate(rows)
    ]
    output = ingest(tmp_path, shuffled(rows, 2, 1))
    found = {name: lists[0] for name, lists in made(output).items()}
    assert found == {
        "r6": (),
        **dict.fromkeys(("r0", "r1", "r2"), ("i6",)),
        **dict.fromkeys(("r3", "r4"), ("i6", "i0", "i1")),
        "r5": ("i1", "i3", "i4"),
    }


def test_histories_tell_no_label_where_clicks_are_chance(
    tmp_path: Path,
) -> None:
    """With one item each, a leak of the label would be the history itself."""
    draw = np.random.default_rng(3)
    rows = [
        {
            "row": f"r{i}",
            "user": f"u{draw.integers(40)}",
            "item": f"i{i}",
            "kind": f"{i}",
            "price": 1.0,
            "t": int(draw.integers(50)),
            "click": int(draw.integers(2)),
        }
        for i in range(2000)
    ]
    by_item = {row["item"]: row for row in rows}
    named = {row["row"]: row for row in rows}
    output = ingest(tmp_path, shuffled(rows, 3, 2))
    lengths = []
    for name, (items, _, _, gaps) in made(output).items():
        row = named[name]
        assert all(by_item[item]["t"] < row["t"] for item in items)
        assert all(by_item[item]["click"] for item in items)
        assert all(by_item[item]["user"] == row["user"] for item in items)
        assert all(gap > 0 for gap in gaps)
        lengths.append(len(items))
    labels = [named[name]["click"] for name in made(output)]
    assert np.mean(lengths) > 2
    assert abs(np.corrcoef(lengths, labels)[0, 1]) < 0.1


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_histories(
    tmp_path: Path, format: str
) -> None:
    rows = random_rows(60, 5)
    with small_parts(400, 8, 400):
        output = ingest(tmp_path, shuffled(rows, 2, 3), format)
    assert made(output) == histories(rows)


def test_packed_files_of_several_blocks_give_the_same(tmp_path: Path) -> None:
    rows = random_rows(300, 6)
    with small_parts(3000, 64, 2500):
        output = ingest(tmp_path, shuffled(rows, 3, 4), "csv", ".gz")
    assert made(output) == histories(rows)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_histories_move_no_row_and_are_of_all_rows(
    tmp_path: Path, split: Row
) -> None:
    rows = random_rows(300, 7)
    settings: Row = {"split_by": split, "negatives": {"keep": 0.4}}
    settings |= {"weight": {"half_life": "1m"}}
    files = shuffled(rows, 2, 5)
    plain = ingest(tmp_path / "plain", files, sequences=[], **settings)
    with small_parts(3000, 64, 2500):
        output = ingest(tmp_path / "made", files, **settings)
    for name in ("train", "eval"):
        some = [without(row) for row in getattr(output, name)]
        assert some == getattr(plain, name)
    truth = histories(rows)
    found = made(output)
    assert found == {name: truth[name] for name in found}
    assert 0 < output.counts["sampled_out"] == plain.counts["sampled_out"]
    assert output.counts == plain.counts


def test_the_same_logs_give_the_same_bytes_in_any_order_of_rows(
    tmp_path: Path,
) -> None:
    rows = random_rows(200, 8)
    outputs = []
    for number in (1, 2):
        with small_parts(3000, 64, 2500):
            outputs.append(ingest(tmp_path / f"{number}", [rows]).files())
    assert outputs[0] == outputs[1]
    other = ingest(tmp_path / "3", shuffled(rows, 1, 9))
    assert made(other) == histories(rows)


def test_rejected_rows_count_as_before_and_are_in_no_history(
    tmp_path: Path,
) -> None:
    rows: list[Row] = random_rows(120, 9)
    rows[10]["t"] = "never"
    rows[20]["click"] = 7
    rows[30]["size"] = "large"
    rows = [{"size": 1.5, **row} for row in rows]
    columns = COLUMNS | {"size": ("float", None)}
    files = [rows[:50], rows[50:]]
    plain = ingest(tmp_path / "plain", files, sequences=[], columns=columns)
    output = ingest(tmp_path / "made", files, columns=columns)
    good = [row for i, row in enumerate(rows) if i not in (10, 20, 30)]
    assert made(output) == histories(good)
    # Without a history, a time that is no feature is not read.
    assert sorted(output.reasons) == sorted(
        [*plain.reasons, "column t: not in data.time.format, 'seconds'"]
    )
    assert output.counts["read"] == plain.counts["read"] == 120
    assert output.counts["rejected"] == 3


def test_a_value_that_a_request_could_not_say_is_rejected(
    tmp_path: Path,
) -> None:
    rows = random_rows(40, 10, kind="x")
    rows[5]["item"] = "a|b"
    rows[6]["kind"] = "x|y"
    output = ingest(tmp_path, [rows])
    assert output.reasons == [
        f"column {name}: a value with the separator '|' in it; give the"
        " sequence another `separator`"
        for name in ("item", "kind")
    ]
    assert made(output) == histories(rows[:5] + rows[7:])


@pytest.mark.parametrize("by", ["hash", "time", "order"])
def test_joined_clicks_enter_a_history_when_they_happen(
    tmp_path: Path, by: str
) -> None:
    rows = [row | {"at": row["t"]} for row in random_rows(250, 14, click=0)]
    draw = random.Random(2)
    clicks: list[Row] = []
    for row in draw.sample(rows, 150):
        delays = [draw.randrange(20) for _ in range(draw.choice([1, 2]))]
        row |= {"click": 1, "at": row["t"] + min(delays)}
        clicks += [{"row": row["row"], "t": row["t"] + d} for d in delays]
    # A repeated impression: a duplicate, and in no history.
    again = [row | {"t": row["t"] + 1, "item": "z"} for row in rows[:9]]
    shown = [
        {name: row[name] for name in row if name not in ("click", "at")}
        for row in rows + again
    ]
    log = write_log(tmp_path / "clicks.csv", "csv", clicks)
    seen = {**SEQUENCE, "clicked": False, "name": "seen", "sides": []}
    with small_parts(2000, 20, 2500):
        output = ingest(
            tmp_path,
            shuffled(shown, 2, 3),
            sequences=[SEQUENCE, seen],
            label=None,
            split_by={"by": by, "eval": 0.3},
            negatives={"keep": 0.5},
            clicks={
                **log_of(log, "csv"),
                "key": "row",
                "window": "1m",
                "until": "1971-01-01",
                "partitions": 4,
            },
        )
    assert output.counts["duplicates"] == 9
    assert output.counts["sampled_out"] > 0
    truth = histories(rows)
    found = made(output)
    assert found == {name: truth[name] for name in found}
    plain = histories([row | {"at": row["t"]} for row in rows], False)
    assert made(output, ["seen"]) == {n: plain[n][:1] for n in found}


def test_two_histories_have_users_of_their_own(tmp_path: Path) -> None:
    rows = random_rows(150, 11)
    for number, row in enumerate(rows):
        row["device"] = f"d{number % 7}"
    device = {"from": "impressions", "of": "device", "items": "item"}
    device |= {"clicked": False, "max_len": 50, "name": "seen"}
    with small_parts(2000, 50, 1500):
        output = ingest(
            tmp_path, shuffled(rows, 2, 1), sequences=[SEQUENCE, device]
        )
    assert made(output) == histories(rows)
    others = [row | {"user": row["device"]} for row in rows]
    truth = histories(others, False, 50)
    assert made(output, ["seen"]) == {n: h[:1] for n, h in truth.items()}


def test_keys_and_items_are_one_text_for_one_value(tmp_path: Path) -> None:
    """A number is the same item as a number with a point."""
    rows = [
        {"row": f"r{i}", "user": user, "item": item, "t": i, "click": 1}
        for i, (user, item) in enumerate(
            [("12345678901234567891", 7), ("12345678901234567890", 8)] * 3
        )
    ]
    sequence = {**SEQUENCE, "sides": []}
    output = ingest(tmp_path, [rows], sequences=[sequence])
    found = made(output, NAMES[:1])
    assert found["r4"] == (("7", "7"),)
    assert found["r5"] == (("8", "8"),)


def test_a_log_without_any_event_has_a_warning(tmp_path: Path) -> None:
    rows = random_rows(40, 12, user=None)
    output = ingest(tmp_path, [rows])
    assert set(made(output).values()) == {((), (), (), ())}
    assert set(NAMES) <= set(output.counts["empty_columns"])


def test_histories_without_a_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs data\.time"):
        ingest(tmp_path, [random_rows(20, 13)], time=None)


def test_times_at_the_edges_of_64_bits_keep_their_order() -> None:
    far = 9 * 10**18
    users = np.array([0, 0, 1, 1])
    times = np.array([-far, far, far, -far])
    owners, moments = np.array([0, 0, 1]), np.array([-far, far - 1, -far])
    first, end = windows.find(users, times, owners, moments, 5)
    assert list(zip(first.tolist(), end.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (2, 3),
        (2, 2),
    ]
