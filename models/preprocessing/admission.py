"""Sightings of values by day, and the vocabulary that they admit.

The ledger of a run holds what the next one has to know: it lies beside the
transform's graph, then beside the training's state. A vocabulary is

    {v: sightings of v in the last `days` >= `min_count`}
    | {v admitted by the run before: last seen less than `evict_after` days ago}

cut to the `max_size` commonest of the last `days`. Days end with the newest one
that was ever seen, so a run of older logs turns no clock back.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.preprocessing.vocabulary import Vocabulary, usable, write_lines

FOLDER = "ledgers"  # beside Transform's graph, and in a training's state
TALLIES = "tallies.json"  # table -> its `Tally`
SCHEMA = pa.schema(
    {"value": pa.binary(), "day": pa.int32(), "count": pa.int64()}
)
_MERGE_AT = 1 << 18  # rows of counts kept before they are merged
_DAY = b"day"
_PLAIN = CompressionTypes.UNCOMPRESSED


Days = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Ledger:
    """Sightings and admitted values of all runs so far.

    day: the newest day, since 1970; None: there was no run.
    counts: sightings by value and day, of the last days.
    admitted: values in the vocabulary, and the day when each was last seen.
    """

    day: int | None = None
    counts: pa.Table = field(default_factory=SCHEMA.empty_table)
    admitted: pa.Table = field(default_factory=SCHEMA.remove(2).empty_table)


@dataclass(frozen=True)
class Tally:
    """Numbers of values after a run.

    day: the newest one, ISO 8601. known: admitted or waiting. new: admitted by
    this run. waiting: seen in the last days, without a row. evicted: not seen
    any more. capped: would be admitted, but for `max_size`. forgotten: waited,
    but for the bound on those that do.
    """

    day: str | None
    known: int
    admitted: int
    new: int
    waiting: int
    evicted: int
    capped: int
    forgotten: int


def merged(tables: list[pa.Table]) -> pa.Table:
    """Sums the sightings of equal values on equal days."""
    return _grouped(tables, "sum")


def update(
    ledger: Ledger, seen: pa.Table, rule: Vocabulary
) -> tuple[Ledger, list[bytes], Tally]:
    """The ledger after a run, its vocabulary, and what came of the values.

    Of a day that the ledger knows already, the greater count of a value stays:
    a day that is read again counts once. Memory: each value of both a few
    times over.

    Args:
        ledger: of the run before.
        seen: of this run, of `SCHEMA`, as `merged` gives it. Empty values,
            which no vocabulary holds, tell which days there are.
        rule: with `admission`.
    """
    asked = rule.admission
    assert asked is not None
    newest = pc.max(seen["day"]).as_py()
    seen = seen.filter(usable(seen["value"]))
    day = max((d for d in (ledger.day, newest) if d is not None), default=None)
    if day is None:
        return ledger, [], _tally(None, *[np.zeros(0, bool)] * 6)
    counts = _grouped([ledger.counts, seen], "max")
    recent = counts.filter(pc.greater(counts["day"], day - asked.days))
    state = _per_value(counts, recent, ledger.admitted)
    count, last = (state[n].to_numpy() for n in ("count", "last"))
    was = state["was"].to_numpy()
    rows = (count >= rule.min_count) | (was & (day - last < asked.last))
    evicted = was & ~rows
    admitted = _first(rows, rule.max_size)  # the state is in order
    waiting = ~admitted & (count > 0)
    kept = _first(waiting, asked.waiting)
    following = Ledger(
        day,
        _of_values(recent, state["value"].filter(pa.array(admitted | kept))),
        state.filter(pa.array(admitted))
        .select(["value", "last"])
        .rename_columns(["value", "day"]),
    )
    tally = _tally(
        day, admitted, was, kept, evicted, rows & ~admitted, waiting & ~kept
    )
    # As TFT orders a vocabulary; a run that is repeated gives the same file.
    ordered = state.filter(pa.array(admitted)).sort_by(
        [("count", "descending"), ("value", "descending")]
    )
    return following, list(ordered["value"].to_pylist()), tally


def _tally(
    day: int | None,
    admitted: npt.NDArray[np.bool_],
    was: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.bool_],
    evicted: npt.NDArray[np.bool_],
    capped: npt.NDArray[np.bool_],
    forgotten: npt.NDArray[np.bool_],
) -> Tally:
    numbers = (
        admitted | kept, admitted, admitted & ~was, kept,
        evicted, capped, forgotten,
    )  # fmt: skip
    text = None if day is None else str(np.datetime64(day, "D"))
    return Tally(text, *(int(np.count_nonzero(n)) for n in numbers))


def _per_value(
    counts: pa.Table, recent: pa.Table, admitted: pa.Table
) -> pa.Table:
    """Each value's recent count, last day, and whether it has a row now.

    The commonest first; of equal ones those with a row, then in reverse order
    of the bytes.
    """
    found = pa.concat_tables(
        [
            _with(recent.drop(["day"]), last=_LONG_AGO, was=0),
            _with(counts.drop(["count"]), count=0, was=0),
            _with(admitted, count=0, was=1),
        ]
    )
    if not found.num_rows:
        return found.set_column(3, "was", found["was"].cast(pa.bool_()))
    grouped = found.group_by("value").aggregate(
        [("count", "sum"), ("last", "max"), ("was", "max")]
    )
    names = {"count_sum": "count", "last_max": "last", "was_max": "was"}
    state = grouped.rename_columns(
        [names.get(n, n) for n in grouped.column_names]
    ).select(["value", "count", "last", "was"])
    state = state.sort_by(
        [(n, "descending") for n in ("count", "was", "value")]
    )
    return state.set_column(3, "was", state["was"].cast(pa.bool_()))


_LONG_AGO = -(2**31)


def _with(table: pa.Table, **constants: int) -> pa.Table:
    columns = {
        ("last" if name == "day" else name): table[name]
        for name in table.column_names
    }
    for name, value in constants.items():
        numbers = np.full(table.num_rows, value, np.int64)
        columns[name] = pa.chunked_array([numbers])
    kinds = {"count": pa.int64(), "last": pa.int32(), "was": pa.int8()}
    return pa.table(
        {
            "value": columns["value"],
            **{name: columns[name].cast(kind) for name, kind in kinds.items()},
        }
    )


def _grouped(tables: list[pa.Table], how: str) -> pa.Table:
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    if not table.num_rows:
        return table  # Arrow would reserve gigabytes to group nothing
    grouped = table.group_by(["value", "day"]).aggregate([("count", how)])
    names = [
        "count" if n.startswith("count") else n for n in grouped.column_names
    ]
    return grouped.rename_columns(names).select(SCHEMA.names)


def _first(chosen: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.bool_]:
    """`chosen`, but not more than the first `most`."""
    return chosen & (np.cumsum(chosen) <= most)


def _of_values(counts: pa.Table, values: pa.ChunkedArray) -> pa.Table:
    return counts.filter(pc.is_in(counts["value"], values.combine_chunks()))


class Sightings:
    """The part of an analysis that finds an admitted vocabulary.

    Args:
        rule: with `admission`.
        ledgers: folder of those of the run before; "": there is none.
    """

    schema = SCHEMA

    def __init__(self, rule: Vocabulary, ledgers: str = "") -> None:
        self._rule = rule
        self._ledgers = ledgers
        self._merged = SCHEMA.empty_table()
        self._new: list[pa.Table] = []
        self._new_rows = 0

    def add(self, values: tuple[Any, Days, Days]) -> None:
        """Takes texts, bytes [N], the day of each, and those of all rows."""
        texts, days, there = values
        if isinstance(texts, np.ndarray):
            texts = pa.array(texts.reshape(-1), pa.binary())
        if isinstance(texts, pa.Array):
            texts = pa.chunked_array([texts])
        ones = np.ones(len(days), np.int64)
        columns = [texts, pa.array(days, pa.int32()), pa.array(ones)]
        there = np.unique(there)
        nothing = [[b""] * len(there), there, [0] * len(there)]
        tables = [pa.table(c, schema=SCHEMA) for c in (columns, nothing)]
        self.merge(merged(tables))

    def save(self) -> pa.Table:
        """A row for each value and day."""
        if self._new:
            self._merged = merged([self._merged, *self._new])
            self._new, self._new_rows = [], 0
        return self._merged

    def merge(self, saved: pa.Table) -> None:
        """Adds the sightings."""
        self._new.append(saved)
        self._new_rows += saved.num_rows
        # As much again each time, so that no row is merged often.
        if self._new_rows > max(_MERGE_AT, self._merged.num_rows):
            self.save()

    def write(self, folder: str) -> None:
        """The vocabulary, a line a value; the ledger and the tally beside."""
        name = self._rule.file_name
        before = read(self._ledgers, name) if self._ledgers else Ledger()
        ledger, values, tally = update(before, self.save(), self._rule)
        write_lines(values, os.path.join(folder, name))
        target = os.path.join(folder, FOLDER)
        _write(os.path.join(target, file_of(name)), _packed(ledger))
        text = json.dumps(asdict(tally)).encode()
        _write(os.path.join(target, f"{name}.json"), text)


def file_of(name: str) -> str:
    """File of the ledger of a vocabulary."""
    return f"{name}.arrow"


def read(folder: str, name: str) -> Ledger:
    """The ledger of a vocabulary; an empty one where there is no file."""
    path = os.path.join(folder, file_of(name))
    if not FileSystems.exists(path):
        return Ledger()
    with FileSystems.open(path, compression_type=_PLAIN) as stream:
        table = pa.ipc.open_stream(stream.read()).read_all()
    day = int(table.schema.metadata[_DAY])
    counted = table["count"].is_valid()
    return Ledger(
        None if day < 0 else day,
        table.filter(counted).replace_schema_metadata(),
        table.filter(pc.invert(counted))
        .select(["value", "day"])
        .replace_schema_metadata(),
    )


def carry(transform: str, state: str) -> dict[str, Any]:
    """Copies the ledgers beside a transform's graph to a training's state.

    Args:
        transform: folder of the transform.
        state: that of the state.

    Returns:
        Table -> its tally; none where no table has `admission`.
    """
    source, target = (os.path.join(f, FOLDER) for f in (transform, state))
    if tf.io.gfile.isdir(target):  # of a try before
        tf.io.gfile.rmtree(target)
    if not tf.io.gfile.isdir(source):
        return {}
    tf.io.gfile.makedirs(target)
    for name in tf.io.gfile.listdir(source):
        tf.io.gfile.copy(os.path.join(source, name), os.path.join(target, name))
    with tf.io.gfile.GFile(os.path.join(source, TALLIES)) as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def tally(folder: str, name: str) -> dict[str, Any]:
    """The tally beside a ledger."""
    path = os.path.join(folder, f"{name}.json")
    with FileSystems.open(path) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def _packed(ledger: Ledger) -> bytes:
    """Bytes of a ledger; an admitted value is a row without a count."""
    none = pa.nulls(ledger.admitted.num_rows, pa.int64())
    admitted = ledger.admitted.append_column(SCHEMA.field("count"), none)
    day = -1 if ledger.day is None else ledger.day
    table = pa.concat_tables([ledger.counts, admitted]).replace_schema_metadata(
        {_DAY: str(day).encode()}
    )
    data = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(data, table.schema, options=options) as writer:
        writer.write_table(table)
    return data.getvalue()


def _write(path: str, data: bytes) -> None:
    with FileSystems.create(path, compression_type=_PLAIN) as stream:
        stream.write(data)
