"""Labels of the rows whose keys one worker has, and of one piece's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.arrow_masks import Mask
from components.click_log_gen.label_events.spilled import (
    EVENTS,
    ROWS,
    LabelSettings,
)
from components.click_log_gen.output import spill
from components.example_io.tf_example import encode_features
from models.config.labels import FURTHER, UNKNOWN

Ints = npt.NDArray[np.int64]
_BUILT = pa.schema([("row", pa.int64()), ("value", pa.int8())])
CREDITED, ORPHAN, OUTSIDE = range(3)
FATES = ("credited", "orphans", "outside")  # of an event


@dataclass(frozen=True)
class KeyPartition:
    """Keys of one label whose rows one worker labels."""

    number: int
    label: str
    partition: int


def partitions(job: LabelSettings) -> list[KeyPartition]:
    """All partitions of all labels."""
    return [
        KeyPartition(place * job.partitions + number, label, number)
        for place, label in enumerate(job.tasks)
        for number in range(job.partitions)
    ]


def build(part: KeyPartition, job: LabelSettings) -> dict[str, Any]:
    """Labels the rows of a partition; returns counts of the events.

    A row is not known while its window is open at the end of the log, whatever
    came in it: else the rows that are known would be those with events.

    Raises:
        InputError: the partition is too large.
    """
    label, task = part.label, job.tasks[part.label]
    too_large = (
        "partition {} of the events is too large for one piece of memory"
        f" ({{}}): one key of data.labels.{label} has too many rows"
    )
    rows, events = (
        spill.SpilledRows(paths, part.partition, schema, too_large)
        for paths, schema in (
            ([job.rows(label, n) for n in range(job.pieces)], ROWS),
            ([job.events(label, n) for n in range(job.chunks[label])], EVENTS),
        )
    )
    times = rows.column("time").to_numpy()
    positive = rows.column("positive").to_numpy(zero_copy_only=False)
    counts = positive if task.of else np.ones(len(times), np.bool_)
    keys, owners = _numbers(rows.column("key"), events.column("key"))
    hit, fates = credit(
        keys,
        times,
        counts,
        owners,
        events.column("time").to_numpy(),
        task.window_micros,
    )
    known = times + task.window_micros <= job.ends[label]
    values = np.where(known, hit, UNKNOWN).astype(np.int8)
    there = np.flatnonzero(values)
    numbers = rows.column("row").to_numpy()
    with spill.Writer(job.built(label, part.partition)) as writer:
        batch = pa.record_batch(
            [pa.array(numbers[there]), pa.array(values[there])], _BUILT
        )
        if len(there):
            writer.add(batch, rows.chunks[there])
    return {
        "chunk": part.number,
        "label": label,
        **{
            name: int((fates == number).sum())
            for number, name in enumerate(FATES)
        },
    }


def credit(
    keys: Ints,
    times: Ints,
    counts: Mask,
    owners: Ints,
    at: Ints,
    window: int,
) -> tuple[Mask, npt.NDArray[np.int8]]:
    """Rows that have an event, and the fate of each event.

    An event is of the last row of its key that counts, at its time or up to
    `window` before it. Rows of one key and time share it, so that no order of
    rows decides.

    Args:
        keys, times: of the rows, [N].
        counts: rows that may have an event, [N].
        owners, at: keys and times of the events, [M].
        window: in the unit of the times.

    Returns:
        bool [N], and indices into FATES, [M].
    """
    rows = np.flatnonzero(counts)
    rows = rows[np.lexsort((times[rows], keys[rows]))]
    kind = np.repeat([0, 1], [len(rows), len(at)])
    both = np.concatenate([keys[rows], owners])
    when = np.concatenate([times[rows], at])
    order = np.lexsort((kind, when, both))
    # How many rows come before each event: the last of them has it.
    before = np.empty(len(order), np.int64)
    before[order] = np.cumsum(kind[order] == 0)
    last = before[len(rows) :] - 1
    fates = np.full(len(at), OUTSIDE, np.int8)
    fates[~np.isin(owners, keys)] = ORPHAN
    found = last >= 0
    row = rows[last[found]]
    inside = (keys[row] == owners[found]) & (at[found] - times[row] <= window)
    where = np.flatnonzero(found)[inside]
    fates[where] = CREDITED
    hit = np.zeros(len(keys), np.bool_)
    if not len(where):
        return hit, fates
    new = np.append(
        True,
        (np.diff(keys[rows]) != 0) | (np.diff(times[rows]) != 0),
    )
    moment = np.cumsum(new)  # the same of rows of one key and time
    hit[rows[np.isin(moment, moment[last[where]])]] = True
    return hit, fates


def _numbers(*keys: pa.Array) -> list[Ints]:
    """A number for each key, the same for equal keys."""
    encoded = pa.concat_arrays(keys).dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    return np.split(numbers, np.cumsum([len(part) for part in keys])[:-1])


class Labels:
    """The labels of one piece's rows."""

    def __init__(self, job: LabelSettings, piece: int) -> None:
        self._found = {}
        for label in job.tasks:
            paths = [job.built(label, n) for n in range(job.partitions)]
            rows = spill.SpilledRows(paths, piece, _BUILT)
            numbers = rows.column("row").to_numpy()
            order = np.argsort(numbers)
            values = rows.column("value").to_numpy()
            self._found[label] = numbers[order], values[order]

    def of(self, begin: int, count: int) -> list[pa.BinaryArray]:
        """Encoded features of rows of the piece, from `begin` on."""
        columns = {}
        for label, (numbers, values) in self._found.items():
            inside = slice(*np.searchsorted(numbers, [begin, begin + count]))
            column = np.zeros(count, np.int64)
            column[numbers[inside] - begin] = values[inside]
            columns[FURTHER + label] = pa.array(column)
        return [encode_features(columns)]
