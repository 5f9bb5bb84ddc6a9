"""Second pass of the join: a partition's rows to examples and rejected rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen import conversion
from components.click_log_gen.columns.rows import Rejected
from components.click_log_gen.columns.weights import Weights, by_time
from components.click_log_gen.history import events
from components.click_log_gen.history.build import Histories
from components.click_log_gen.join import matching
from components.click_log_gen.join import partition as partitions
from components.click_log_gen.label_events import spilled
from components.click_log_gen.label_events.build import Labels
from components.click_log_gen.output import spill
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.click_log_gen.splitting import quantile, split
from components.example_io.tf_example import encode_features, wrap
from models.config.training import LABEL, WEIGHT

_ROWS = 1 << 15  # examples that are made at once
_ARROW = {"float": pa.float32(), "int": pa.int64(), "string": pa.string()}


@dataclass(frozen=True)
class Partition:
    """Some of the keys, joined by one worker."""

    number: int


@dataclass(frozen=True)
class JoinSettings:
    """All that a worker needs besides the partition.

    paths: of each chunk's file. first_rows: rows before each of the
    impressions' chunks. end: of the click log, newest: time of the newest
    impression, both in microseconds. counts: examples of each partition, if
    there are histories.
    """

    partitioning: partitions.PartitionSettings
    paths: Sequence[str]
    first_rows: Sequence[int]
    end: int
    cut: split.Cut = split.NO_CUT
    newest: int = 0
    counts: Sequence[int] = ()


def survey(partition: Partition, job: JoinSettings) -> dict[str, Any]:
    """The times, or the numbers, of the impressions that become examples."""
    joined = _Joined(partition, job)
    values = joined.order[joined.kept]
    name = f"values-{partition.number:05d}"
    path = os.path.join(job.partitioning.work, name)
    return {"chunk": partition.number, **quantile.write(path, values)}


def spill_events(partition: Partition, job: JoinSettings) -> dict[str, Any]:
    """Spills what the examples tell of users and labels; returns their count.

    For histories, by the users, and for labels from events, by their keys.
    """
    joined = _Joined(partition, job)
    histories = job.partitioning.histories
    label_events = job.partitioning.label_events
    with ExitStack() as stack:
        users = labelled = None
        if histories is not None:
            users = events.Writer(histories, partition.number)
            stack.enter_context(users)
        if label_events is not None:
            labelled = spilled.Writer(label_events, partition.number)
            stack.enter_context(labelled)
        for start in range(0, len(joined.kept), _ROWS):
            rows = joined.kept[start : start + _ROWS]
            times, positive = joined.times[rows], joined.positive(rows)
            clicked_at = joined.clicked_at(rows)
            if users is not None:
                history = joined.history(rows)
                users.add(history, times, positive, clicked_at)
            if labelled is not None:
                keys = joined.label_keys(rows)
                labelled.add(keys, times, positive, clicked_at)
    return {"chunk": partition.number, "rows": len(joined.kept)}


def join_partition(partition: Partition, job: JoinSettings) -> dict[str, Any]:
    """Joins one partition; returns the counts of both logs.

    Raises:
        InputError: the partition is too large.
    """
    joined = _Joined(partition, job)
    fates = joined.match
    shown = _tally(fates.impressions, matching.IMPRESSION_OUTCOMES)
    clicked = _tally(fates.clicks, matching.CLICK_OUTCOMES)
    settings, histories = job.partitioning.histories, None
    if settings is not None:
        histories = Histories(settings, partition.number, job.counts)
    labels = None
    if job.partitioning.label_events is not None:
        labels = Labels(job.partitioning.label_events, partition.number)
    shown.counts["rejected"] = sum(
        shown.counts[name] for name in ("duplicates", "spoiled")
    )
    with Shards(
        job.partitioning.folders,
        partition.number,
        job.partitioning.partitions,
        "join-",
    ) as shards:
        size = _ROWS if histories is None else histories.block
        for start in range(0, len(joined.kept), size):
            rows = joined.kept[start : start + size]
            found = joined.weigh(rows)
            more = histories.of(start, len(rows)) if histories else []
            if labels is not None:
                more += labels.of(start, len(rows))
            records, positive = joined.records(rows, found, more)
            sides = joined.sides(rows)
            conversion.write(
                shards,
                shown,
                job.partitioning.data.split.names,
                records,
                positive,
                sides,
                joined.sampled[rows],
                joined.times[rows],
                found,
                job.partitioning.train_times,
                job.partitioning.data.further_labels,
            )
        for tally, rejected in zip(
            (shown, clicked), joined.rejected(), strict=True
        ):
            shards.reject(rejected)
            tally.explain(rejected)
    return {
        "chunk": partition.number,
        "impressions": shown.to_json(),
        "clicks": clicked.to_json(),
    }


def _tally(
    fates: matching.Fates, names: Sequence[tuple[str, str]]
) -> RowCounts:
    counts = np.bincount(fates, minlength=len(names)).tolist()
    tally = RowCounts()
    for (name, _), count in zip(names, counts, strict=True):
        # The others are counted where they are written.
        if name not in ("kept", "rejected"):
            tally.counts[name] = count
    return tally


class _Joined:
    """The joined rows of a partition.

    kept: the impressions that become examples, in the order of the files.
    """

    def __init__(self, partition: Partition, job: JoinSettings) -> None:
        work = job.partitioning.work
        paths = [
            partitions.path(work, n) for n in range(job.partitioning.chunks)
        ]
        shown = job.partitioning.shown
        self._job = job
        self._impressions = spill.SpilledRows(
            paths[:shown],
            partition.number,
            job.partitioning.impression_schema,
        )
        self._clicks = spill.SpilledRows(
            paths[shown:], partition.number, job.partitioning.click_schema
        )
        self.match = matching.match(
            self._impressions,
            self._clicks,
            job.partitioning.clicks.window_micros,
            job.end,
        )
        self.kept = np.flatnonzero(self.match.impressions == matching.KEPT)

    @cached_property
    def _features(self) -> tuple[pa.BinaryArray, pa.BinaryArray]:
        name = "features"
        return self._impressions.column(name), self._clicks.column(name)

    @cached_property
    def _labels(self) -> pa.Array:
        return self._clicks.column("label")

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Order that cuts train and eval: the time or the row's number."""
        if self._job.partitioning.data.split.by == "time":
            return self.times
        before = np.array(self._job.first_rows, np.int64)
        ordinals = self._impressions.column("ordinal").to_numpy()
        return np.asarray(before[self._impressions.chunks] + ordinals)

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """When the impressions were shown."""
        found: npt.NDArray[np.int64] = self._impressions.column(
            "time"
        ).to_numpy()
        return found

    @cached_property
    def sampled(self) -> npt.NDArray[np.bool_]:
        """Which impressions are trained on if they are negative."""
        found: npt.NDArray[np.bool_] = self._impressions.column(
            "sampled"
        ).to_numpy(zero_copy_only=False)
        return found

    def _click(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """The click of each impression, null where there is none."""
        click = pa.array(self.match.click[rows])
        return pc.if_else(pc.less(click, 0), None, click)

    @cached_property
    def _weights(self) -> pa.Array:
        log = self._impressions
        if self._job.partitioning.data.weight_of_click:
            log = self._clicks
        return log.column("weight")

    def weigh(self, rows: npt.NDArray[np.int64]) -> Weights | None:
        """How much some impressions count; None: alike."""
        data = self._job.partitioning.data
        if data.weight is None:
            return None
        if data.weight.by_time:
            newest = self._job.newest
            return by_time(self.times[rows], newest, data.weight)
        which = self._click(rows) if data.weight_of_click else pa.array(rows)
        found = self._weights.take(which).fill_null(data.weight.default or 1)
        return np.asarray(found.to_numpy())

    def records(
        self,
        rows: npt.NDArray[np.int64],
        found: Weights | None,
        more: Sequence[pa.BinaryArray],
    ) -> tuple[pa.BinaryArray, npt.NDArray[np.bool_]]:
        """Examples of some impressions, and whether their label is 1.

        Args:
            rows: the impressions.
            found: their weights.
            more: features besides those of the logs.
        """
        click = self._click(rows)
        shown, clicked = self._features
        weight = []
        if found is not None:
            weight = [encode_features({WEIGHT: pa.array(found)})]
        records = wrap(
            shown.take(pa.array(rows)),
            pc.fill_null(clicked.take(click), self._nothing()),
            *weight,
            *more,
        )
        return records, self.positive(rows)

    def positive(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Labels of some impressions: true where it is 1."""
        label = pc.fill_null(self._labels.take(self._click(rows)), 0)
        return np.asarray(label.to_numpy() == 1)

    def clicked_at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When some impressions were clicked; else when they were shown."""
        times = self._clicks.column("time").take(self._click(rows))
        shown = pa.array(self.times[rows])
        return np.asarray(pc.coalesce(times, shown).to_numpy())

    def history(self, rows: npt.NDArray[np.int64]) -> list[events.Columns]:
        """Columns of some impressions for each sequence, see `events.read`."""
        settings = self._job.partitioning.histories
        assert settings is not None
        return [
            {
                name: self._impressions.column(
                    partitions.history_column(number, name)
                ).take(pa.array(rows))
                for name in settings.schema(number).names
            }
            for number in range(len(settings.sequences))
        ]

    def label_keys(
        self, rows: npt.NDArray[np.int64]
    ) -> dict[str, pa.BinaryArray]:
        """Label that is from events -> key of some impressions."""
        return {
            label: self._impressions.column(
                partitions.label_key_column(label)
            ).take(pa.array(rows))
            for label in self._job.partitioning.data.event_labels
        }

    def _nothing(self) -> bytes:
        """Label and carried columns of an impression without a click."""
        carry = self._job.partitioning.clicks.carry
        columns = {name: pa.nulls(1, _ARROW[k]) for name, k in carry.items()}
        columns[LABEL] = pa.array([0])
        nothing: bytes = encode_features(columns)[0].as_py()
        return nothing

    def sides(self, rows: npt.NDArray[np.int64]) -> split.Sides:
        """Which side the examples of some impressions fall on."""
        by = self._job.partitioning.data.split
        if by.by != "hash":
            return self._job.cut.sides(self.order[rows])
        sides: split.Sides = self._impressions.column("side").to_numpy()[rows]
        return sides

    def rejected(self) -> tuple[list[Rejected], list[Rejected]]:
        """The rows of both logs that are not in the examples, in order."""
        paths, shown = self._job.paths, self._job.partitioning.shown
        return (
            _rejected(
                self._impressions,
                paths[:shown],
                self.match.impressions,
                matching.IMPRESSION_OUTCOMES,
            ),
            _rejected(
                self._clicks,
                paths[shown:],
                self.match.clicks,
                matching.CLICK_OUTCOMES,
            ),
        )


def _rejected(
    log: spill.SpilledRows,
    paths: Sequence[str],
    fates: matching.Fates,
    names: Sequence[tuple[str, str]],
) -> list[Rejected]:
    silent = [number for number, (_, why) in enumerate(names) if not why]
    rows = np.flatnonzero(~np.isin(fates, silent))
    if not len(rows):
        return []
    where, row = (
        log.column(name).take(pa.array(rows)).to_pylist()
        for name in ("where", "row")
    )
    chunks, found = log.chunks[rows], fates[rows]
    return [
        Rejected(paths[chunk], place, names[fate][1], data)
        for chunk, place, fate, data in zip(
            chunks, where, found, row, strict=True
        )
    ]
