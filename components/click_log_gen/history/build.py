"""Histories of the users of one partition, spilled for the rows' pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen.history import windows
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.output import spill
from components.example_io.tf_example import (
    Items,
    encode_features,
    encode_lists,
    join,
)

_MEMBERS = 1 << 20  # of histories that are encoded at once
_SCHEMA = pa.schema([("row", pa.int64()), ("features", pa.binary())])


@dataclass(frozen=True)
class UserPartition:
    """Users of one sequence whose histories one worker makes.

    partition: their number. sequence: its number in the config.
    """

    number: int
    sequence: int
    partition: int


def partitions(job: HistorySettings) -> list[UserPartition]:
    """All partitions of all sequences."""
    count = job.partitions
    return [
        UserPartition(sequence * count + number, sequence, number)
        for sequence in range(len(job.sequences))
        for number in range(count)
    ]


def build(
    part: UserPartition, job: HistorySettings, counts: Sequence[int]
) -> dict[str, Any]:
    """Makes the histories of a partition.

    Args:
        part: the users.
        job: the settings.
        counts: rows of each piece.

    Raises:
        InputError: the partition is too large.
    """
    sequence = job.sequences[part.sequence]
    paths = [job.path(part.sequence, piece) for piece in range(job.pieces)]
    rows = spill.SpilledRows(
        paths,
        part.partition,
        job.event_schema(part.sequence),
        "partition {} of the histories is too large for one piece of memory"
        f" ({{}}): one value of {sequence.of!r} has too many rows",
    )
    users = rows.column("key").dictionary_encode().indices.to_numpy()
    users = users.astype(np.int64)
    times = rows.column("time").to_numpy()
    found = rows.column("item")
    chosen = np.flatnonzero(found.is_valid())
    taken = pa.array(chosen)
    at = rows.column("at").to_numpy()[chosen]
    content = {"item": found.take(taken), "time": pa.array(times[chosen])}
    for name in job.schema(part.sequence).names[2:]:
        content[name] = rows.column(name).take(taken)
    order = windows.order(users[chosen], at, list(content.values()))
    owners, at = users[chosen][order], at[order]
    shown = times[chosen][order]
    content = {n: a.take(pa.array(order)) for n, a in content.items()}
    items = {sequence.column: Items(content["item"])}
    gaps = []
    for place, (column, side) in enumerate(sequence.columns.items()):
        if job.kind(side) == "gap":
            gaps.append(column)
        else:
            items[column] = Items(content[f"side{place}"])
    first, end = windows.find(users, times, owners, at, sequence.max_len)
    blocks = np.cumsum([0, *(-(-count // job.block) for count in counts)])
    numbers = rows.column("row").to_numpy()
    seen = np.flatnonzero(end > first)
    where = blocks[rows.chunks] + numbers // job.block
    with spill.Writer(job.built(part.sequence, part.partition)) as writer:
        for some in _parts(seen, (end - first)[seen]):
            members, offsets = windows.members(first[some], end[some])
            features = encode_lists(items, members, offsets)
            if gaps:
                owner = np.repeat(times[some], np.diff(offsets))
                since = ((owner - shown[members]) / 1e6).astype(np.float32)
                own = dict.fromkeys(gaps, Items(pa.array(since)))
                every = np.arange(len(members))
                features = join(features, encode_lists(own, every, offsets))
            batch = pa.record_batch(
                [pa.array(numbers[some]), features], schema=_SCHEMA
            )
            writer.add(batch, where[some])
    filled = [sequence.column, *sequence.columns] if len(seen) else []
    return {"chunk": part.number, "out_of_range": {}, "filled": filled}


def _parts(rows: windows.Ints, counts: windows.Ints) -> list[windows.Ints]:
    """The rows, cut so that each part has about _MEMBERS members."""
    if not len(rows):
        return []
    group = np.cumsum(counts) // _MEMBERS
    return np.split(rows, np.flatnonzero(np.diff(group)) + 1)


class Histories:
    """The histories of one piece's rows, `block` of them at once."""

    def __init__(
        self, job: HistorySettings, piece: int, counts: Sequence[int]
    ) -> None:
        self._job = job
        self._read: tuple[int, list[spill.SpilledRows]] = (-1, [])
        self.block = job.block
        blocks = [-(-count // job.block) for count in counts]
        self._first = sum(blocks[:piece])
        self._empty = []
        for sequence in job.sequences:
            columns = {sequence.column: pa.nulls(1, pa.list_(pa.string()))}
            for column, side in sequence.columns.items():
                kind = pa.string() if side.items else pa.float32()
                columns[column] = pa.nulls(1, pa.list_(kind))
            self._empty.append(encode_features(columns)[0])

    def pieces(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Start and end of rows of one block, counted from row `first`."""
        edges = range(first - first % self.block, first + count, self.block)
        for edge in edges:
            yield max(edge - first, 0), min(edge + self.block - first, count)

    def of(self, begin: int, count: int) -> list[pa.BinaryArray]:
        """Encoded features of some rows of one block, for each sequence."""
        found = []
        for number, rows in enumerate(self._block(begin // self.block)):
            numbers = rows.column("row").to_numpy() - begin
            inside = (numbers >= 0) & (numbers < count)
            place = np.full(count, -1)
            place[numbers[inside]] = np.flatnonzero(inside)
            taken = pa.array(place, mask=place < 0)
            features = rows.column("features").take(taken)
            found.append(pc.fill_null(features, self._empty[number]))
        return found

    def _block(self, block: int) -> list[spill.SpilledRows]:
        """The histories of a block, for each sequence."""
        if self._read[0] != block:
            job = self._job
            paths = [
                [job.built(number, part) for part in range(job.partitions)]
                for number in range(len(job.sequences))
            ]
            where = self._first + block
            rows = [spill.SpilledRows(p, where, _SCHEMA) for p in paths]
            self._read = block, rows
        return self._read[1]
