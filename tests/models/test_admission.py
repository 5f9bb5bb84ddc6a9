"""Admission and eviction against the sightings of all days, one by one."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.config.admission import Admission
from models.preprocessing import admission, counted_times, ledger_file
from models.preprocessing.admission import Ledger, update
from models.preprocessing.sightings import Sightings, TimedValues
from models.preprocessing.vocabulary import EMPTY_VOCABULARY, Vocabulary

Run = dict[int, dict[bytes, int]]  # day -> value -> sightings


def rule(
    count: int, days: int, last: int, most: int = 1000, waiting: int = 1000
) -> Vocabulary:
    asked = Admission(days=days, evict_after=last, waiting=waiting)
    return Vocabulary("vocabulary", count, most, asked)


def table(run: Run, known: Collection[int] = ()) -> pa.Table:
    """Sightings of a run; those of the days in `known` are not fresh."""
    rows = [(v, d, n) for d, seen in run.items() for v, n in seen.items()]
    rows += [(b"", day, 1) for day in run]
    rows = [(*row, 0 if row[1] in known else row[2]) for row in rows]
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    return pa.table([list(c) for c in columns], schema=admission.SEEN)


class Reference:
    """All sightings of all days are kept, and counted anew each time."""

    def __init__(self) -> None:
        self.seen: dict[int, Counter[bytes]] = {}
        self.rows: dict[bytes, int] = {}  # with a row -> last seen
        self.today = -1

    def run(
        self, run: Run, asked: Vocabulary
    ) -> tuple[list[bytes], set[bytes]]:
        """The vocabulary, and what was evicted."""
        how = asked.admission
        assert how is not None
        for day, found in run.items():
            known = self.seen.setdefault(day, Counter())
            for value, count in found.items():
                known[value] = max(known[value], count)
            self.today = max(self.today, day)
        window = range(self.today - how.days + 1, self.today + 1)
        total: Counter[bytes] = Counter()
        for day in window:
            total.update(self.seen.get(day, {}))
        last = {
            v: max(d for d, seen in self.seen.items() if v in seen)
            for v in {*total, *self.rows}
        }
        stay = {
            v
            for v in self.rows
            if self.today - last[v] < (how.evict_after or 0)
        }
        enough = {v for v, n in total.items() if n >= asked.min_count}
        order = sorted(
            stay | enough, key=lambda v: (total[v], v in self.rows, v)
        )[::-1]
        evicted = self.rows.keys() - stay - enough
        self.rows = {v: last[v] for v in order[: asked.max_size]}
        return (
            sorted(self.rows, key=lambda v: (total[v], v))[::-1],
            set(evicted),
        )


values = st.sampled_from([b"a", b"b", b"c", b"d", b"\xff", b"z z"])
days = st.integers(0, 14)
runs = st.lists(
    st.dictionaries(
        days, st.dictionaries(values, st.integers(1, 4)), max_size=4
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(runs, st.integers(1, 6), st.integers(1, 4), st.integers(0, 5),
       st.integers(1, 5))  # fmt: skip
@example([{0: {b"a": 2}}, {1: {}}, {1: {b"a": 1}}], 2, 1, 0, 5)
def test_the_ledger_gives_what_all_sightings_give(
    runs: list[Run], count: int, days: int, more: int, most: int
) -> None:
    asked = rule(count, days, days + more, most)
    reference, ledger = Reference(), Ledger()
    for run in runs:
        seen = table(run, reference.seen)
        ledger, found, tally = update(ledger, seen, asked)
        expected, evicted = reference.run(run, asked)
        assert found == expected
        assert tally.evicted == len(evicted)
        assert tally.admitted == len(found) == ledger.admitted.num_rows
        # A run that is done again changes nothing.
        again, same, after = update(ledger, table(run, run), asked)
        assert same == found and after.new == 0 and after.evicted == 0
        assert again.counts.sort_by("value").num_rows == ledger.counts.num_rows


def test_values_come_stay_and_go() -> None:
    asked = rule(3, days=2, last=3)
    ledger = Ledger()
    course = []
    for day in range(7):
        seen = {0: {b"ad": 2}, 1: {b"ad": 1}, 3: {b"ad": 1}}.get(day, {})
        run = {day: {b"other": 5, **seen}}
        ledger, found, tally = update(ledger, table(run), asked)
        course.append((b"ad" in found, tally.new, tally.waiting, tally.evicted))
    assert course == [
        (False, 1, 1, 0),  # two sightings wait
        (True, 1, 0, 0),
        (True, 0, 0, 0),  # below three in two days, and yet it stays
        (True, 0, 0, 0),
        (True, 0, 0, 0),
        (True, 0, 0, 0),
        (False, 0, 0, 1),  # three days after the last sighting
    ]


def test_the_cap_keeps_the_commonest_and_the_rest_waits() -> None:
    asked = rule(2, days=3, last=3, most=2)
    run = {5: {b"a": 9, b"b": 2, b"c": 3, b"d": 1}}
    ledger, found, tally = update(Ledger(), table(run), asked)
    assert found == [b"a", b"c"]
    assert (tally.capped, tally.waiting, tally.known) == (1, 2, 4)
    # A value with a row keeps it among equal ones.
    _, found, tally = update(ledger, table({6: {b"b": 1}}), asked)
    assert found == [b"a", b"c"] and tally.capped == 1
    _, found, _ = update(ledger, table({6: {b"b": 2}}), asked)
    assert found == [b"a", b"b"]


def test_memory_is_bounded_and_what_is_forgotten_is_counted() -> None:
    asked = rule(10, days=7, last=30, waiting=100)
    ledger = Ledger()
    for day in range(30):
        run = {
            day: {
                b"steady": 4,
                **{b"%d-%d" % (day, i): 1 + (i < 5) for i in range(400)},
            }
        }
        ledger, _, tally = update(ledger, table(run), asked)
        assert ledger.counts.num_rows <= 7 + 100 * 7
        assert tally.waiting <= 100 and tally.forgotten >= 300
    # A steady value gets there, however many others wait.
    assert ledger.admitted["value"].to_pylist() == [b"steady"]


def test_no_line_of_a_vocabulary_is_broken(tmp_path: Path) -> None:
    run = {0: {b"": 9, b"a\nb": 9, b"a\r": 9, b"ok": 9}}
    _, found, tally = update(Ledger(), table(run), rule(1, 1, 1))
    assert found == [b"ok"] and tally.known == 1


def test_the_file_of_a_ledger_is_read_again(tmp_path: Path) -> None:
    asked = rule(2, days=2, last=4, most=3)
    before = tmp_path / "none"
    ledger = Ledger()
    rng = np.random.default_rng(1)
    for day in range(5):
        folder = tmp_path / str(day)
        (folder / ledger_file.FOLDER).mkdir(parents=True)
        part = Sightings(asked, str(before))
        texts = rng.choice([b"a", b"b", b"c", b"d", b""], 20)
        at = 86_400 * day + np.sort(rng.integers(0, 86_400, 20))
        for some in np.array_split(np.arange(20), 3):
            part.add(rows_at(texts[some], at[some]))
        ledger, found, tally = update(
            ledger,
            part.save().replace_schema_metadata(),
            asked,
            counted_times.by_hour(at),
        )
        part.write(str(folder))
        lines = (folder / "vocabulary").read_bytes().split()
        assert lines == found
        before = folder / ledger_file.FOLDER
        kept = ledger_file.read(str(before), "vocabulary")
        assert kept.day == ledger.day == day
        assert kept.times.tolist() == ledger.times.tolist()
        for one, other in (
            (kept.counts, ledger.counts),
            (kept.admitted, ledger.admitted),
        ):
            assert one.schema == other.schema
            assert rows_of(one) == rows_of(other)
        told = ledger_file.tally(str(before), "vocabulary")
        assert told["admitted"] == tally.admitted == len(lines)
        assert told["day"] == f"1970-01-0{day + 1}"


def rows_at(texts: Any, seconds: Any) -> TimedValues:
    """Rows with a text each."""
    days = (seconds // 86_400).astype(np.int32)
    texts = np.array(texts, object)
    return TimedValues(texts, np.arange(len(texts)), days, seconds)


def rows_of(found: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in found.to_pylist())


def test_nothing_seen_is_an_empty_vocabulary(tmp_path: Path) -> None:
    (tmp_path / ledger_file.FOLDER).mkdir()
    Sightings(rule(1, 1, 1)).write(str(tmp_path))
    lines = (tmp_path / "vocabulary").read_bytes()
    assert lines == EMPTY_VOCABULARY + b"\n"
    kept = ledger_file.read(str(tmp_path / ledger_file.FOLDER), "vocabulary")
    assert kept.day is None and not kept.admitted.num_rows


# Rows of two days: a time, and the value that was seen then.
LOG_TIMES = np.cumsum(np.random.default_rng(2).integers(1, 4000, 80))
LOG_TEXTS = np.random.default_rng(3).choice([b"a", b"b", b"c"], 80)
windows = st.lists(
    st.tuples(st.integers(0, 79), st.integers(1, 80)).map(sorted),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(windows, st.integers(1, 7))
@example([[0, 30], [30, 60], [0, 60]], 3)
@example([[0, 40], [20, 60], [60, 80], [10, 70]], 1)
def test_each_row_counts_once_however_the_windows_of_runs_lie(
    windows: list[list[int]], size: int
) -> None:
    asked = rule(1, days=90, last=90)
    counted: set[int] = set()
    with tempfile.TemporaryDirectory() as home:
        before = ""
        for number, (first, after) in enumerate(windows):
            if first == after:
                continue
            folder = Path(home, str(number))
            (folder / ledger_file.FOLDER).mkdir(parents=True)
            whole = np.arange(first, after)
            total = Sightings(asked, before)
            for some in np.array_split(whole, size):
                part = Sightings(asked, before)  # a file
                part.add(rows_at(LOG_TEXTS[some], LOG_TIMES[some]))
                total.merge(part.save())
            total.write(str(folder))
            before = str(folder / ledger_file.FOLDER)
            counted |= set(whole.tolist())
            truth = Counter(
                (LOG_TEXTS[row], int(LOG_TIMES[row] // 86_400))
                for row in counted
            )
            found = ledger_file.read(before, "vocabulary").counts
            assert rows_of(found) == sorted(
                (value, day, n) for (value, day), n in truth.items()
            )


def test_rows_that_come_late_count_where_their_day_is_read_whole() -> None:
    asked = rule(1, days=7, last=7)
    ledger, _, _ = update(Ledger(), table({3: {b"a": 5}}), asked)
    # Alone they may be those that are counted already.
    late, _, _ = update(ledger, table({3: {b"a": 2}}, known=[3]), asked)
    assert late.counts["count"].to_pylist() == [5]
    whole, _, _ = update(late, table({3: {b"a": 7}}, known=[3]), asked)
    assert whole.counts["count"].to_pylist() == [7]


def test_a_few_rows_of_a_wrong_clock_drop_no_value() -> None:
    asked = rule(1, days=2, last=3)
    ledger, _, _ = update(Ledger(), table({100: {b"a": 2000}}), asked)
    seen = table({101: {b"a": 1999}, 9000: {b"b": 1}})
    rows = pa.array([1999, 1, 1999, 1])
    seen = seen.set_column(2, "count", rows).set_column(3, "fresh", rows)
    ledger, found, tally = update(ledger, seen, asked)
    assert (ledger.day, found, tally.evicted) == (101, [b"a"], 0)
    # A day of its own that a thousandth of the rows is of is one.
    ledger, found, tally = update(ledger, table({9000: {b"b": 1}}), asked)
    assert (ledger.day, found, tally.evicted) == (9000, [b"b"], 1)


@pytest.mark.parametrize(
    ("late", "day"),
    [
        ({9000: 9}, 101),  # one in a hundred, far from all other rows
        ({9000: 5, 9500: 4}, 101),
        ({9000: 10}, 9000),
        ({102: 9}, 102),  # just past midnight
        ({103: 9}, 101),
        ({101 - 7000: 9}, 101),
    ],
)
def test_a_wrong_clock_leaves_the_window_to_the_others(
    late: dict[int, int], day: int
) -> None:
    asked = rule(1, days=2, last=3)
    ledger, _, _ = update(Ledger(), table({100: {b"a": 1}}), asked)
    rows = {101: 1000 - sum(late.values()), **late}
    columns = [[b""] * len(rows), [*rows], [*rows.values()], [*rows.values()]]
    seen = pa.table(columns, schema=admission.SEEN)
    ledger, _, tally = update(ledger, seen, asked)
    assert (ledger.day, tally.evicted) == (day, int(day > 103))
    # Runs of the days that are over then count nothing, and say so.
    _, _, after = update(ledger, table({102: {b"c": 1}}), asked)
    assert after.outside == int(day > 103)


def test_days_that_go_backwards_turn_no_clock_back() -> None:
    asked = rule(2, days=2, last=3)
    ledger, _, _ = update(Ledger(), table({9: {b"a": 2}}), asked)
    ledger, found, tally = update(ledger, table({8: {b"b": 2}}), asked)
    assert (ledger.day, sorted(found)) == (9, [b"a", b"b"])
    ledger, found, tally = update(ledger, table({2: {b"c": 9}}), asked)
    assert (ledger.day, sorted(found)) == (9, [b"a", b"b"])
    assert tally.known == 2
    # A day without a row of the training split is as if there was no run.
    again, same, after = update(ledger, table({}), asked)
    assert same == found and (after.new, after.evicted) == (0, 0)
    assert again.counts.num_rows == ledger.counts.num_rows


@pytest.mark.parametrize(
    ("count", "days", "admitted"),
    [(3, 2, True), (5, 2, False), (3, 1, False), (4, 9, True)],
)
def test_the_rule_may_change_between_runs(
    count: int, days: int, admitted: bool
) -> None:
    ledger, _, _ = update(Ledger(), table({3: {b"a": 2}}), rule(3, 2, 2))
    seen = table({4: {b"a": 2}})
    _, found, tally = update(ledger, seen, rule(count, days, days))
    assert (found == [b"a"]) == admitted == (not tally.waiting)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:-40] + b"\x00" + data[-39:],
        lambda data: b"PK\x03\x04" + data,
        lambda data: b"[1]\n" + data,
        lambda data: data.replace(b"ledger-1", b"ledger-9"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_no_ledger(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    asked = rule(1, 1, 1)
    ledger, _, tally = update(Ledger(), table({0: {b"a": 3}}), asked)
    ledger_file.write(str(tmp_path), "v", ledger, tally)
    file = Path(ledger_file.path_of(str(tmp_path), "v"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ledger_file.DamagedError):
        ledger_file.read(str(tmp_path), "v")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (True, "accepted: days, such as 7"),
        ("7d", "accepted: days, such as 7"),
        (0, "greater than or equal to 1"),
        ({"days": 7, "evict_after": 3}, "accepted: 7 or more"),
    ],
)
def test_wrong_settings_are_told(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Admission.model_validate(given)
