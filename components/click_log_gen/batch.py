"""Some rows of a log, typed, labelled and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from components.arrow_masks import Mask
from components.click_log_gen.columns import labels, weights
from components.click_log_gen.columns.event_time import (
    Times,
    event_time,
    reading,
    text_of,
)
from components.click_log_gen.columns.rows import (
    Column,
    ColumnForm,
    Rejected,
    Rows,
    Verdicts,
    refuse_unequal,
    typed,
)
from components.click_log_gen.columns.weights import Weights
from components.click_log_gen.config.labels import LabelRule
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.encoded_rows import EncodedRows
from components.click_log_gen.files.chunks import Chunk
from components.click_log_gen.history import events
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.label_events.spilled import (
    LabelSettings,
    row_keys,
)
from components.click_log_gen.splitting import split
from components.example_io.tf_example import encode_features, join, wrap
from models.config.labels import FURTHER
from models.config.training import LABEL

_DAY = 86_400 * 10**6  # microseconds


@dataclass(frozen=True)
class ConversionSettings:
    """All that a worker needs besides the chunk.

    work: folder of what is not kept.
    """

    data: DataConfig
    columns: Mapping[str, ColumnForm]
    folders: Mapping[str, str]
    work: str
    chunks: int
    cut: split.Cut = split.NO_CUT
    first_rows: tuple[int, ...] = ()  # chunk number -> rows before it
    ranges: Mapping[str, int] = field(default_factory=dict)  # integers below
    newest: int = 0  # time of the newest row, for weights by age
    histories: HistorySettings | None = None
    counts: Sequence[int] = ()  # good rows of each chunk, with histories
    label_events: LabelSettings | None = None
    train_times: bool = False  # the rows of train carry theirs too
    days: Mapping[str, int] = field(default_factory=dict)  # of files, as time

    @property
    def wanted(self) -> dict[str, str]:
        """Columns to read -> what they will be read as."""
        data = self.data
        wanted = {name: form.reads for name, form in self.columns.items()}
        assert data.label is not None and data.label_column is not None
        wanted.setdefault(data.label_column, labels.kind(data.label))
        for task in data.column_labels.values():
            wanted.setdefault(str(task.column), labels.kind(task.rule))
        if data.weight is not None and data.weight.source is not None:
            wanted.setdefault(data.weight.source, "float")
        if self.keeps_times and data.time is not None:
            time = data.time.column
            wanted[time] = reading(wanted.get(time))
        for name in (*data.split.key, *data.negatives.key):
            # As text, whatever else the column is, so that none is rounded.
            wanted[name] = "string"
        if self.label_events is not None:
            assert data.time is not None
            time = data.time.column
            wanted[time] = reading(wanted.get(time))
            for task in data.event_labels.values():
                wanted |= dict.fromkeys(task.shown_key, "string")
        if self.histories is not None:
            wanted = events.wanted(self.histories, wanted)
        return wanted

    @property
    def keeps_times(self) -> bool:
        """True if encoded rows have their times."""
        return self.data.reads_time or self.train_times


class Batch:
    """Some rows on their way to tf.Examples.

    encoded: the good rows. columns: the features of these. event_times:
    of all rows that have one, refused ones included. history: what the good
    rows tell of their users, for each sequence that is made, and moments: when
    they happened. label_keys: label that is from events -> key of the good
    rows.
    """

    def __init__(
        self, rows: Rows, chunk: Chunk, job: ConversionSettings
    ) -> None:
        self._rows = rows
        self._chunk = chunk
        self._job = job
        self._verdicts = Verdicts.none(rows.count)
        self.event_times: Times = np.zeros(0, np.int64)
        data = job.data
        columns = {
            name: typed(
                rows.columns[name],
                form.kind,
                self._column(name, form),
                self._verdicts,
            )
            for name, form in job.columns.items()
            if form.kind != "time"
        }
        refuse_unequal(columns, job.columns, self._verdicts)
        assert data.label is not None and data.label_column is not None
        features = tuple(job.columns)
        columns[LABEL] = labels.label(
            rows.columns[data.label_column],
            self._column(data.label_column),
            data.label if isinstance(data.label, LabelRule) else None,
            self._verdicts,
        )
        for name, task in data.column_labels.items():
            columns[FURTHER + name] = labels.further(
                rows.columns[str(task.column)],
                self._column(str(task.column)),
                task.rule if isinstance(task.rule, LabelRule) else None,
                None if task.of is None else columns[LABEL],
                self._verdicts,
            )
        times = self._times()
        for name, form in job.columns.items():
            if form.kind == "time" and times is not None:
                columns[name] = text_of(times)
        history: list[dict[str, pa.Array]] = []
        if job.histories is not None:
            nulls = data.impressions.null_values
            history = events.read(rows, nulls, job.histories, self._verdicts)
        label_keys: dict[str, pa.Array] = {}
        if job.label_events is not None:
            label_keys = row_keys(
                rows,
                data.event_labels,
                data.impressions.null_values,
                self._verdicts,
            )
        sides = self._sides()
        weighed = self._weights()
        keys = self._keys(data.negatives.key)
        good = self._verdicts.good
        if not good.all():
            chosen = pa.array(good)
            columns = {n: array.filter(chosen) for n, array in columns.items()}
            history = [
                {name: one[name].filter(chosen) for name in one}
                for one in history
            ]
            label_keys = {n: a.filter(chosen) for n, a in label_keys.items()}
        self.label_keys = label_keys
        self.history = history
        self.moments = None if times is None else times[good]
        self.columns = {name: columns[name] for name in features}
        positive: Mask = columns[LABEL].to_numpy() == 1
        if data.split.by == "hash" and sides is None:
            # Without the label: else an ad's clicks would go one way and what
            # else it had another.
            alone = [LABEL, *(FURTHER + name for name in data.column_labels)]
            label = encode_features({name: columns.pop(name) for name in alone})
            encoded = encode_features(columns) if columns else label
            sides = split.hash_sides(encoded, data.split)
            if columns:
                encoded = join(encoded, label)
        else:
            encoded = encode_features(columns)
            sides = None if sides is None else sides[good]
        if keys is not None:
            keys = keys.filter(pa.array(good))
        elif data.negatives.keep < 1.0:
            keys = split.told_apart(wrap(encoded))
        else:
            keys = encoded
        self.encoded = EncodedRows(
            encoded,
            positive,
            split.kept(keys, data.negatives),
            self._kept_times(times, good),
            sides,
            None if weighed is None else weighed[good],
        )

    def rejected(self) -> list[Rejected]:
        """The rows that are not in `encoded`, in order."""
        return self._rows.refused(self._chunk.path, self._verdicts.reasons)

    def _column(self, name: str, form: ColumnForm | None = None) -> Column:
        nulls = self._job.data.impressions.null_values
        return self._rows.column(name, nulls, form)

    def _sides(self) -> split.Sides | None:
        """Where rows go; None: the time or the example's features tell."""
        data, rows = self._job.data, self._rows
        if data.split.by == "order":
            before = self._job.first_rows[self._chunk.number]
            return self._job.cut.sides(rows.ordinal + before)
        if not data.split.key:
            return None
        return split.key_sides(
            self._columns(data.split.key), data.split, self._verdicts
        )

    def _times(self) -> Times | None:
        data = self._job.data
        forms = self._job.columns.values()
        wanted = any(form.kind == "time" for form in forms)
        wanted |= self._job.histories is not None
        wanted |= self._job.label_events is not None
        wanted |= self._job.keeps_times and data.time is not None
        if not wanted:
            return None
        assert data.time is not None
        verdicts = Verdicts.none(self._rows.count)
        times = event_time(
            self._rows.columns[data.time.column],
            self._column(data.time.column),
            verdicts,
            data.time,
        )
        self.event_times = times[verdicts.good]
        self._verdicts.add(verdicts)
        return times

    def _kept_times(self, times: Times | None, good: Mask) -> Times | None:
        """Times of the good rows: their own, or that of the file's day."""
        if not self._job.keeps_times:
            return None
        if times is not None:
            return times[good]
        day = self._job.days[self._chunk.path]
        return np.full(int(good.sum()), day * _DAY, np.int64)

    def _weights(self) -> Weights | None:
        config = self._job.data.weight
        if config is None or config.source is None:
            return None
        return weights.weights(
            self._rows.columns[config.source],
            self._column(config.source),
            config,
            self._verdicts,
        )

    def _keys(self, names: Sequence[str]) -> pa.BinaryArray | None:
        if not names:
            return None
        return split.keys_of(self._columns(names), self._verdicts)

    def _columns(self, names: Sequence[str]) -> list[tuple[pa.Array, Column]]:
        return [(self._rows.columns[n], self._column(n)) for n in names]
