"""The join of a click log, against one of plain dicts over the same rows."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands.generate import generate
from tests.components.click_log_gen.ingest import (
    FORMATS,
    SECONDS,
    Row,
    bytes_of,
    convert_log,
    fresh_folder,
    log_of,
    write_log,
)
from tests.components.click_log_gen.join_truth import (
    COLUMNS,
    HELD_BACK,
    ORPHAN,
    check,
    examples,
    join,
    joined,
    logs,
)

KEYS = st.sampled_from([None, "a", "b", "b", "c", "d", "e", "f"])
TIMES = st.one_of(st.integers(0, 40), st.none(), st.sampled_from([7, 20]))
IMPRESSIONS = st.builds(
    lambda id, t, tag, price: {"id": id, "t": t, "tag": tag, "price": price},
    KEYS,
    TIMES,
    st.sampled_from(["p", "q", "r"]),
    st.sampled_from([1.5, 1.5, 1.5, "x"]),
)
CLICKS = st.builds(
    lambda id, t, dwell: {"id": id, "t": t, "dwell": dwell},
    KEYS,
    TIMES,
    st.sampled_from([None, 1, 2, 3, "x"]),
)


def files_of(
    rows: list[Row], count: int, random_: random.Random
) -> list[list[Row]]:
    """The rows in some files, in any order; a header needs a row at least."""
    rows = random_.sample(rows, len(rows))
    size = -(-len(rows) // count)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@settings(max_examples=40, deadline=None)
@given(
    shown=st.lists(IMPRESSIONS, min_size=1, max_size=14),
    clicked=st.lists(CLICKS, min_size=1, max_size=14),
    seed=st.integers(0, 99),
    partitions=st.integers(1, 5),
)
def test_the_join_is_that_of_plain_dicts_in_any_files_and_order(
    shown: list[Row], clicked: list[Row], seed: int, partitions: int
) -> None:
    random_ = random.Random(seed)
    truth = join(shown, clicked)
    outputs = []
    for count in (1, 3):
        with fresh_folder() as folder:
            outputs.append(
                joined(
                    folder,
                    files_of(shown, count, random_),
                    files_of(clicked, count, random_),
                    partitions=partitions if count == 1 else None,
                )
            )
            check(outputs[-1], truth)
    assert sorted(map(str, outputs[0].eval)) == sorted(
        map(str, outputs[1].eval)
    )


@settings(max_examples=20, deadline=None)
@given(
    shown=st.lists(IMPRESSIONS, min_size=4, max_size=20),
    clicked=st.lists(CLICKS, min_size=2, max_size=14),
    by=st.sampled_from(["time", "order"]),
    share=st.sampled_from([0.01, 0.3, 0.9]),
)
def test_the_last_share_of_the_joined_rows_goes_to_eval(
    shown: list[Row], clicked: list[Row], by: str, share: float
) -> None:
    for number, row in enumerate(shown):
        row["tag"] = f"n{number:02}"
    truth = join(shown, clicked)
    split = {"by": by, "eval": share}
    with fresh_folder() as folder:
        halves = [shown[:3], shown[3:]]
        output = joined(folder, halves, [clicked], split, partitions=3)
        check(output, truth)
    # Rows are named by their number.
    place = -1 if by == "time" else 0
    marks = sorted(row[place] for row in truth.kept)
    if not marks:
        return
    border = marks[len(marks) - max(1, round(share * len(marks)))]
    late = sorted(row[0] for row in truth.kept if row[place] >= border)
    assert sorted(row["tag"] for row in output.eval) == late


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_joins_alike(tmp_path: Path, format: str) -> None:
    shown, clicked = logs(80)
    output = joined(tmp_path, [shown], [clicked], format=format, partitions=3)
    truth = join(shown, clicked)
    assert examples(output) == sorted([r[:4] for r in truth.kept], key=str)
    assert Counter(output.reasons) == sum(
        (Counter({why: n}) for (why, _), n in truth.rejected.items()),
        Counter(),
    )
    keys = Counter(
        re.search(rb"[io]\d+", bytes_of(row))[0].decode()
        for row in output.rejected
    )
    wanted: Counter[str] = Counter()
    for (_, row), count in truth.rejected.items():
        wanted[row.split(",")[0]] += count
    assert keys == wanted


def test_keys_of_several_columns_and_of_other_names(tmp_path: Path) -> None:
    shown = [
        {"user": u, "ad": a, "t": t, "tag": u + a, "price": 1.0}
        for t, (u, a) in enumerate([("a", "bc"), ("ab", "c"), ("a", "b")])
    ]
    write_log(tmp_path / "shown.csv", "csv", shown)
    rows = [
        {"who": "ab", "what": "c", "t": 3},
        {"who": "-", "what": "", "t": 9},
        {"who": "x", "what": "x", "t": 99},
    ]
    write_log(tmp_path / "clicked.csv", "csv", rows)
    output = convert_log(
        tmp_path / "out",
        log_of(tmp_path / "shown.csv", "csv"),
        {"ad": ("string", None)},
        None,
        time=SECONDS,
        clicks={
            **log_of(tmp_path / "clicked.csv", "csv"),
            "key": ["who", "what"],
            "impression_key": ["user", "ad"],
        }
        | {"window": "1m"},
    )
    labels = {row["ad"]: row["label"] for row in output.kept}
    assert labels == {"bc": 0, "c": 1, "b": 0}
    assert output.reasons == ["column what: no key to join by", ORPHAN]


@pytest.mark.parametrize(
    ("until", "held_back"),
    [(None, 11), ("1970-01-01T00:00:30Z", 79), ("1970-01-02", 0)],
)
def test_impressions_without_their_whole_window_are_held_back(
    tmp_path: Path, until: str | None, held_back: int
) -> None:
    shown = logs(100)[0][:100]
    clicked = [{"id": f"i{i}", "t": i, "dwell": 1} for i in range(99)]
    output = joined(tmp_path, [shown], [clicked], until=until)
    assert output.counts["held_back"] == held_back
    assert output.counts["rejected"] == 0
    assert Counter(output.reasons)[HELD_BACK] == held_back
    assert len(output.kept) == 100 - held_back


def test_generated_logs_join_to_the_label_that_was_drawn(
    tmp_path: Path,
) -> None:
    generated = generate(3000, tmp_path / "logs", format="csv")
    log = log_of(tmp_path / "logs/impressions.csv", "csv")
    columns = {"impression_id": ("string", None)}
    clicks = {
        **log_of(tmp_path / "logs/clicks.csv", "csv"),
        "carry": {"dwell_seconds": "float"},
    }
    outputs = [
        convert_log(tmp_path / name, log, columns, time="timestamp", **more)
        for name, more in (
            ("drawn", {"label": "click"}),
            ("joined", {"label": None, "clicks": clicks}),
        )
    ]
    drawn, found = (
        {
            row["impression_id"]: row["label"]
            for row in output.kept
            if not row["impression_id"].startswith("broken")
        }
        for output in outputs
    )
    assert len(drawn) >= len(found) > 2900
    assert found.items() <= drawn.items()
    counts = outputs[1].counts["clicks"]
    assert counts["read"] == generated.clicks
    assert counts["orphans"] == generated.orphans
    assert counts["late"] == generated.late_clicks
    dwelt = [row["dwell_seconds"] for row in outputs[1].kept if row["label"]]
    assert all(row is None or row > 0 for row in dwelt)
    assert sum(row is not None for row in dwelt) > 0.9 * len(dwelt) > 50


def test_by_hash_of_a_key_rows_go_where_they_go_without_a_join(
    tmp_path: Path,
) -> None:
    shown, clicked = logs(100)
    by = {"by": "hash", "eval": 0.4, "key": "tag"}
    output = joined(tmp_path, [shown], [clicked], by)
    plain = convert_log(
        tmp_path / "plain",
        log_of(tmp_path / "shown0.csv", "csv"),
        COLUMNS,
        {"column": "price", "at_least": 9},
        by,
    )
    wanted = {row["tag"] for row in plain.eval}
    assert len(output.kept) > 80
    for rows, side in ((output.eval, True), (output.train, False)):
        assert {row["tag"] in wanted for row in rows} == {side}
