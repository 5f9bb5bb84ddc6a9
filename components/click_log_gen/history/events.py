"""Events of histories: what a row adds to its user's history, by the user."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import Mask, mask, nulled
from components.click_log_gen.columns.event_time import Times, reading
from components.click_log_gen.columns.rows import Rows, Verdicts
from components.click_log_gen.output import spill
from components.click_log_gen.splitting import split
from models.config.sequences import SequenceFeature, Side

VALUES = 1 << 22  # of the histories in a block of rows
LEAST = 1 << 10  # rows of a block
Columns = Mapping[str, pa.Array]


@dataclass(frozen=True)
class HistorySettings:
    """All that a worker needs besides its piece of work.

    sequences: of the config, those that are made from the log.
    time: column of event time.
    work: folder for what is not kept.
    pieces: of the rows: chunks, or partitions of the join.
    partitions: of the users.
    """

    sequences: tuple[SequenceFeature, ...]
    time: str
    work: str
    pieces: int
    partitions: int

    @property
    def block(self) -> int:
        """Rows that are completed at once."""
        lists = [(s.max_len, 1 + len(s.sides)) for s in self.sequences]
        return max(LEAST, VALUES // sum(size * count for size, count in lists))

    def schema(self, number: int) -> pa.Schema:
        """Columns read for a sequence: key, item, sides by number."""
        fields = [("key", pa.binary()), ("item", pa.string())]
        for place, side in enumerate(self.sequences[number].sides):
            if self.kind(side) != "gap":
                kind = pa.string() if side.items else pa.float32()
                fields.append((f"side{place}", kind))
        return pa.schema(fields)

    def kind(self, side: Side) -> str:
        """Kind of a side: string, float or gap, the time since the event."""
        if side.items is None and side.of == self.time:
            return "gap"
        return "string" if side.items else "float"

    def event_schema(self, number: int) -> pa.Schema:
        """Columns spilled for a sequence.

        row: its number in its piece. time: its own. at: when its item became
        part of the history. item: null if it is no event.
        """
        times = [(name, pa.int64()) for name in ("row", "time", "at")]
        return pa.schema([*times, *self.schema(number)])

    def path(self, number: int, piece: int) -> str:
        """Where a piece's events of a sequence are spilled."""
        return os.path.join(self.work, f"events-{number:02d}-{piece:05d}")

    def built(self, number: int, partition: int) -> str:
        """Where the histories of a partition of users are spilled."""
        return os.path.join(self.work, f"built-{number:02d}-{partition:05d}")


def wanted(job: HistorySettings, known: dict[str, str]) -> dict[str, str]:
    """`known`, columns to read, with those of the histories."""
    found = dict(known)
    for sequence in job.sequences:
        found.setdefault(sequence.items, "string")
        for side in sequence.sides:
            found.setdefault(side.of, "string" if side.items else "float")
    for sequence in job.sequences:
        # As text, whatever else the column is, so that none is rounded.
        found[sequence.of] = "string"
    found[job.time] = reading(known.get(job.time))
    return found


def read(
    rows: Rows,
    null_values: tuple[str, ...],
    job: HistorySettings,
    verdicts: Verdicts,
) -> list[dict[str, pa.Array]]:
    """Columns of `schema` of each sequence, for all rows.

    Rows whose values no history can hold are refused.
    """
    found = []
    for number, sequence in enumerate(job.sequences):

        def text(name: str, separator: str = sequence.separator) -> pa.Array:
            column = rows.column(name, null_values)
            array = column.text(rows.columns[name], verdicts)
            inside = mask(pc.match_substring(array, separator))
            verdicts.refuse(
                inside,
                f"column {name}: a value with the separator {separator!r} in"
                " it; give the sequence another `separator`",
            )
            return array

        key = rows.column(sequence.of, null_values)
        columns = {
            "key": split.keys_of([(rows.columns[sequence.of], key)], verdicts),
            "item": text(sequence.items),
        }
        for place, side in enumerate(sequence.sides):
            if job.kind(side) == "string":
                columns[f"side{place}"] = pc.fill_null(text(side.of), "")
            elif job.kind(side) == "float":
                column = rows.column(side.of, null_values)
                array = column.float32(rows.columns[side.of], verdicts)
                columns[f"side{place}"] = pc.fill_null(array, 0.0)
        found.append({n: columns[n] for n in job.schema(number).names})
    return found


class Writer:
    """Spills the rows of one piece by their users, for each sequence."""

    def __init__(self, job: HistorySettings, piece: int) -> None:
        self._job = job
        self._piece = piece
        self._stack = ExitStack()
        self._rows = 0

    def __enter__(self) -> Writer:
        self._writers = [
            self._stack.enter_context(
                spill.Writer(self._job.path(number, self._piece))
            )
            for number in range(len(self._job.sequences))
        ]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    @property
    def rows(self) -> int:
        """How many rows were added; the next one has this number."""
        return self._rows

    def add(
        self,
        found: Sequence[Columns],
        times: Times,
        positive: Mask,
        clicked_at: Times | None = None,
    ) -> None:
        """Adds the next rows of the piece.

        Args:
            found: of `read`, of these rows.
            times: when they were shown.
            positive: whether they were clicked.
            clicked_at: when, if a click log says so.
        """
        numbers = self._rows + np.arange(len(times))
        self._rows += len(times)
        for number, columns in enumerate(found):
            sequence = self._job.sequences[number]
            at, item = times, columns["item"]
            if sequence.clicked:
                item = nulled(item, ~positive)
                at = times if clicked_at is None else clicked_at
            schema = self._job.event_schema(number)
            own = {"row": numbers, "time": times, "at": at}
            arrays = {name: pa.array(value) for name, value in own.items()}
            arrays = {**columns, **arrays, "item": item}
            batch = pa.record_batch([arrays[n] for n in schema.names], schema)
            # Who has no key has no history, and is in none.
            known = mask(pc.greater(pc.binary_length(columns["key"]), 0))
            if not known.all():
                batch = batch.filter(pa.array(known))
            self._writers[number].add(
                batch, _partition(batch.column("key"), self._job.partitions)
            )


def _partition(keys: pa.Array, count: int) -> npt.NDArray[np.int64]:
    """Partition of each key; the keys of users come many times."""
    encoded = keys.dictionary_encode()
    found = split.buckets(encoded.dictionary, count)
    return found[encoded.indices.to_numpy()]
