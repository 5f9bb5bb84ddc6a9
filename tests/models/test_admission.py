"""Admission and eviction against the sightings of all days, one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.config.admission import Admission
from models.preprocessing import admission
from models.preprocessing.admission import Ledger, Sightings, update
from models.preprocessing.vocabulary import EMPTY_VOCABULARY, Vocabulary

Run = dict[int, dict[bytes, int]]  # day -> value -> sightings


def rule(
    count: int, days: int, last: int, most: int = 1000, waiting: int = 1000
) -> Vocabulary:
    asked = Admission(days=days, evict_after=last, waiting=waiting)
    return Vocabulary("vocabulary", count, most, asked)


def table(run: Run) -> pa.Table:
    rows = [(v, d, n) for d, seen in run.items() for v, n in seen.items()]
    rows += [(b"", day, 0) for day in run]
    columns = zip(*rows, strict=True) if rows else [[]] * 3
    return pa.table([list(c) for c in columns], schema=admission.SCHEMA)


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
        ledger, found, tally = update(ledger, table(run), asked)
        expected, evicted = reference.run(run, asked)
        assert found == expected
        assert tally.evicted == len(evicted)
        assert tally.admitted == len(found) == ledger.admitted.num_rows
        # A run that is done again changes nothing.
        again, same, after = update(ledger, table(run), asked)
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
        (folder / admission.FOLDER).mkdir(parents=True)
        part = Sightings(asked, str(before))
        texts = rng.choice([b"a", b"b", b"c", b"d", b""], 20).astype(object)
        for some in np.array_split(texts, 3):
            whole = np.full(len(some), day, np.int32)
            part.add((some, whole, whole))
        ledger, found, tally = update(ledger, part.save(), asked)
        part.write(str(folder))
        lines = (folder / "vocabulary").read_bytes().split()
        assert lines == found
        before = folder / admission.FOLDER
        kept = admission.read(str(before), "vocabulary")
        assert kept.day == ledger.day == day
        for one, other in (
            (kept.counts, ledger.counts),
            (kept.admitted, ledger.admitted),
        ):
            assert one.schema == other.schema
            assert rows_of(one) == rows_of(other)
        told = admission.tally(str(before), "vocabulary")
        assert told["admitted"] == tally.admitted == len(lines)
        assert told["day"] == f"1970-01-0{day + 1}"


def rows_of(found: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in found.to_pylist())


def test_nothing_seen_is_an_empty_vocabulary(tmp_path: Path) -> None:
    (tmp_path / admission.FOLDER).mkdir()
    Sightings(rule(1, 1, 1)).write(str(tmp_path))
    lines = (tmp_path / "vocabulary").read_bytes()
    assert lines == EMPTY_VOCABULARY + b"\n"
    kept = admission.read(str(tmp_path / admission.FOLDER), "vocabulary")
    assert kept.day is None and not kept.admitted.num_rows


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
