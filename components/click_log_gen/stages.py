"""The passes over the logs, joined or not, on whatever runs them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from components.click_log_gen import checks, conversion
from components.click_log_gen.batch import ConversionSettings
from components.click_log_gen.columns import feature_check, labels
from components.click_log_gen.columns.rows import ColumnForm
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files import log_paths
from components.click_log_gen.files.chunks import Chunk
from components.click_log_gen.formats import log_format
from components.click_log_gen.formats.plan import plan as plan_chunks
from components.click_log_gen.history import build
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.join import matching, merge, partition
from components.click_log_gen.label_events import build as label_build
from components.click_log_gen.label_events import spilled
from components.click_log_gen.label_events.spilled import (
    EventChunk,
    LabelSettings,
)
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.splitting import split
from models.config.event_time import TimeColumn
from models.config.sequences import SequenceFeature
from models.errors import InputError

PARTITION_BYTES = 32 << 20  # of text in a partition
_USERS_BYTES = 128 << 20  # of text whose users make a partition
_PACKED = 6  # times larger than its file a log is that is not plain text
_MOST_PARTITIONS = 4096
_CLOCK, _HOURS = 20, 3  # different times of day, in different hours
_HOUR = (1 << 60) - 1  # the bits of an hour's minutes
_EPOCH = datetime.datetime(1970, 1, 1)


class Each(Protocol):
    """Calls a function on each piece of work, anywhere, in any order."""

    def __call__(
        self, pieces: Sequence[Any], label: str, work: Any, **arguments: Any
    ) -> list[dict[str, Any]]:
        """The results, by the number of their piece."""


@dataclass(frozen=True)
class Outcome:
    """counts: as they are published. absent: log -> columns never filled."""

    counts: dict[str, Any]
    absent: dict[str, list[str]]


@dataclass(frozen=True)
class Places:
    """folders: split name, or "rejected" -> where its files go.

    work: a folder for what is not kept.
    """

    folders: Mapping[str, str]
    work: str


def ingest(
    data: DataConfig,
    columns: Mapping[str, Sequence[Any]],
    places: Places,
    each: Each,
    ranges: Mapping[str, int] | None = None,
    sequences: Sequence[SequenceFeature] = (),
    train_times: bool = False,
    days: Mapping[str, int] = MappingProxyType({}),
) -> Outcome:
    """Reads, joins, labels, splits and writes.

    Args:
        columns: of the examples -> values of a `ColumnForm`.
        ranges: integer column -> its values are from 0 to below.
        sequences: those that are made from the log.
        train_times: the rows of train carry their times too.
        days: file -> the day of its rows, since 1970, where rows have no time
            of their own.

    Raises:
        InputError: no file, a file that cannot be read, a missing column.
    """
    plan = plan_chunks(data.impressions)
    if not plan:
        raise InputError(
            f"{', '.join(data.impressions.path)}: every file is empty"
        )
    ranges = ranges or {}
    made = _made(sequences)
    forms = {
        name: ColumnForm(*form)
        for name, form in columns.items()
        if name not in made
    }
    if data.clicks is not None:
        return _joined(
            data, forms, places, each, plan, ranges, sequences, train_times
        )
    histories = None
    size = _text_bytes(data.impressions, plan, "data.impressions.path")
    if sequences:
        histories = _settings(data, sequences, places, len(plan), size)
    label_events, happened = _label_events(data, places, each, len(plan), size)
    counted: list[dict[str, Any]] = []
    if data.split.by == "order":
        counted = each(plan, "Count", split.count, data=data)
    job = ConversionSettings(
        data,
        forms,
        places.folders,
        places.work,
        len(plan),
        split.find_cut(counted, data.split),
        split.first_rows(part["count"] for part in counted),
        ranges,
        histories=histories,
        label_events=label_events,
        train_times=train_times,
        days=days,
    )
    labelled: list[dict[str, Any]] = []
    built: list[dict[str, Any]] = []
    routed: list[dict[str, Any]] = []
    columnar = log_format.of(data.impressions).columnar
    spills = histories is not None or label_events is not None
    if spills or (data.reads_time and not columnar):
        parts = each(plan, "Read", conversion.spill_chunk, job=job)
        if data.reads_time:
            job = _with_times(job, parts)
        if histories is not None:
            job = dataclasses.replace(job, counts=[p["rows"] for p in parts])
            built = _built(histories, job.counts, each)
        if label_events is not None:
            labelled = _labelled(label_events, each)
        routed = each(plan, "Route", conversion.route_chunk, job=job)
    else:
        if data.reads_time:
            surveys = each(
                plan, "Survey", split.survey, data=data, folder=places.work
            )
            job = _with_times(job, surveys)
        parts = each(plan, "Convert", conversion.convert_chunk, job=job)
    absent = _absent([(data.impressions, parts), *_of_logs(data, happened)])
    tally = _total([*parts, *routed])
    _check_clock(tally, data.time, "data.time")
    counts = {
        **_counts(tally, data.split.names),
        **_labels(tally, data),
        **_events(data, happened, labelled),
        **feature_check.total([*parts, *built], [*forms, *made]),
    }
    return Outcome(counts, absent)


def _with_times(
    job: ConversionSettings, surveys: Sequence[Mapping[str, Any]]
) -> ConversionSettings:
    """`job`, with what the times of all rows decide."""
    cut = job.cut
    if job.data.split.by == "time":
        cut = split.find_cut(surveys, job.data.split)
    newest = max(
        (part["high"] for part in surveys if "high" in part), default=0
    )
    return dataclasses.replace(job, cut=cut, newest=newest)


def _settings(
    data: DataConfig,
    sequences: Sequence[SequenceFeature],
    places: Places,
    pieces: int,
    size: int,
) -> HistorySettings | None:
    """Settings of the histories; None: there are none.

    Args:
        pieces: of the rows.
        size: bytes of text in the logs.
    """
    if not sequences:
        return None
    if data.time is None:
        raise InputError(
            "features.sequences: `from: impressions` needs data.time, the"
            " column of event time"
        )
    number = min(1 + size // _USERS_BYTES, _MOST_PARTITIONS)
    return HistorySettings(
        tuple(sequences), data.time.column, places.work, pieces, number
    )


def _built(
    histories: HistorySettings, counts: Sequence[int], each: Each
) -> list[dict[str, Any]]:
    """Makes the histories of all users; `counts` are the rows of the pieces."""
    parts = build.partitions(histories)
    return each(
        parts, "Histories", build.build, job=histories, counts=list(counts)
    )


def _joined(
    data: DataConfig,
    columns: Mapping[str, ColumnForm],
    places: Places,
    each: Each,
    shown: list[Chunk],
    ranges: Mapping[str, int],
    sequences: Sequence[SequenceFeature],
    train_times: bool,
) -> Outcome:
    assert data.clicks is not None
    made = _made(sequences)
    clicked = plan_chunks(data.clicks, "data.clicks.path")
    plan = shown + [
        dataclasses.replace(chunk, number=len(shown) + chunk.number)
        for chunk in clicked
    ]
    size = _text_bytes(data.impressions, shown, "data.impressions.path")
    size += _text_bytes(data.clicks, clicked, "data.clicks.path")
    number = min(1 + size // PARTITION_BYTES, _MOST_PARTITIONS)
    number = data.clicks.partitions or number
    label_events, happened = _label_events(data, places, each, number, size)
    spread = partition.PartitionSettings(
        data,
        columns,
        places.folders,
        places.work,
        len(shown),
        len(plan),
        number,
        ranges,
        _settings(data, sequences, places, number, size),
        label_events,
        train_times,
    )
    parts = each(plan, "Partition", partition.partition_chunk, job=spread)
    ours, theirs = parts[: len(shown)], parts[len(shown) :]
    _check_clock(_total(ours), data.time, "data.time")
    _check_clock(_total(theirs), data.click_time, "data.clicks.time")
    job = merge.JoinSettings(
        spread,
        [chunk.path for chunk in plan],
        split.first_rows(part["counts"].get("read", 0) for part in ours),
        _end(data, ours, theirs),
        newest=max(
            (p["times"]["all"][1] for p in ours if p["times"]), default=0
        ),
    )
    partitions = [merge.Partition(n) for n in range(number)]
    if data.split.by != "hash":
        surveys = each(partitions, "Survey", merge.survey, job=job)
        job = dataclasses.replace(job, cut=split.find_cut(surveys, data.split))
    built: list[dict[str, Any]] = []
    labelled: list[dict[str, Any]] = []
    if spread.histories is not None or label_events is not None:
        found = each(partitions, "Spill", merge.spill_events, job=job)
        job = dataclasses.replace(job, counts=[p["rows"] for p in found])
    if spread.histories is not None:
        built = _built(spread.histories, job.counts, each)
    if label_events is not None:
        labelled = _labelled(label_events, each)
    joined = each(partitions, "Join", merge.join_partition, job=job)
    impressions = _total([*ours, *(part["impressions"] for part in joined)])
    clicks = _total([*theirs, *(part["clicks"] for part in joined)])
    names = [name for name, _ in matching.CLICK_OUTCOMES if name != "rejected"]
    counts = {
        **_counts(impressions, data.split.names),
        **_labels(impressions, data),
        **_events(data, happened, labelled),
        **feature_check.total([*ours, *built], [*columns, *made]),
        "held_back": impressions.counts["held_back"],
        "duplicates": impressions.counts["duplicates"],
        "clicks": {
            **{n: clicks.counts[n] for n in ("read", "rejected", *names)},
            "reasons": dict(clicks.reasons.most_common()),
            "examples": clicks.examples,
            "times": _iso(clicks.times.get("all")),
        },
    }
    logs = [(data.impressions, ours), (data.clicks, theirs)]
    absent = _absent([*logs, *_of_logs(data, happened)])
    return Outcome(counts, absent)


def _made(sequences: Sequence[SequenceFeature]) -> list[str]:
    """Columns of the examples that no log has."""
    return [name for s in sequences for name in (s.column, *s.columns)]


def _check_clock(tally: RowCounts, time: TimeColumn | None, field: str) -> None:
    """Stops where all seconds read as a calendar's minutes."""
    if time is None or time.format is not None or tally.clock < 0:
        return
    low = min((first for first, _ in tally.times.values()), default=0)
    hours = sum(bool(tally.clock >> 100 * n & _HOUR) for n in range(24))
    # Not a few rows, nor rows of a minute or two, which may be so by chance:
    # 40 of 100 seconds read as no minute.
    if tally.clock.bit_count() >= _CLOCK and hours >= _HOURS:
        raise InputError(
            f"column {time.column}: all times read as minutes of a calendar,"
            f" such as {low // 10**6}; give {field}.format:"
            ' "%y%m%d%H%M", or seconds if they count from 1970'
        )


def _end(
    data: DataConfig,
    impressions: Sequence[Mapping[str, Any]],
    clicks: Sequence[Mapping[str, Any]],
) -> int:
    """When the click log ends: as told, else at its latest click.

    A log without a click ends with the impressions.
    """
    assert data.clicks is not None
    if data.clicks_until is not None:
        return data.clicks_until
    for parts in (clicks, impressions):
        times = [p["times"]["all"] for p in parts if p["times"]]
        if times:
            return int(max(last for _, last in times))
    return 0


def _text_bytes(log: LogFiles, plan: Sequence[Chunk], field: str) -> int:
    """About how much text the log is."""
    plain = {chunk.path for chunk in plan if not chunk.whole}
    if not log_format.of(log).is_text:
        plain = set()
    return sum(
        size * (1 if path in plain else _PACKED)
        for path, size, _ in log_paths.find(log.path, field)
    )


def _total(parts: Sequence[Mapping[str, Any]]) -> RowCounts:
    tally = RowCounts()
    for part in parts:
        tally.add(part)
    return tally


def _counts(tally: RowCounts, splits: Sequence[str]) -> dict[str, Any]:
    names = ("read", "kept", "rejected", "sampled_out", "gap", *splits)
    return {
        **{name: tally.counts[name] for name in names},
        "positives": {s: tally.counts[f"positives_{s}"] for s in splits},
        **({"weights": _weights(tally, splits)} if tally.weights else {}),
        "reasons": dict(tally.reasons.most_common()),
        "examples": tally.examples,
        "times": {
            name: _iso(tally.times[name])
            for name in splits
            if name in tally.times
        },
    }


def _label_events(
    data: DataConfig, places: Places, each: Each, rows: int, size: int
) -> tuple[LabelSettings | None, list[dict[str, Any]]]:
    """Spills the events that labels are from; None: there are no such labels.

    Args:
        data: the config section.
        places: where files go.
        each: calls a function on each piece.
        rows: pieces of the rows.
        size: bytes of text in the other logs.

    Raises:
        InputError: a log has no event, or one that cannot be read.
    """
    if not data.event_labels:
        return None, []
    chunks: dict[str, int] = {}
    pieces: list[EventChunk] = []
    for label, task in data.event_labels.items():
        field = f"data.events.{task.from_}.path"
        log = data.events[str(task.from_)]
        found = plan_chunks(log, field)
        size += _text_bytes(log, found, field)
        chunks[label] = len(found)
        pieces += [
            EventChunk(len(pieces) + chunk.number, label, chunk)
            for chunk in found
        ]
    settings = LabelSettings(
        data,
        places.folders["rejected"],
        places.work,
        rows,
        chunks,
        min(1 + size // PARTITION_BYTES, _MOST_PARTITIONS),
    )
    parts = each(pieces, "Events", spilled.spill_events, job=settings)
    ends = {}
    for label, task in data.event_labels.items():
        own = [part for part in parts if part["label"] == label]
        tally = _total(own)
        _check_clock(
            tally, settings.time(label), f"data.events.{task.from_}.time"
        )
        last = [part["times"]["all"][1] for part in own if part["times"]]
        if not last:
            checks.check_rejected(
                {**tally.counts, **tally.to_json()},
                data.max_rejected,
                f"events of the label {label}",
            )
            read = tally.counts["read"]
            refused = f" ({read:,} were rejected)" if read else ""
            raise InputError(
                f"{', '.join(settings.log(label).path)}: no event in any file"
                f"{refused}, so that data.labels.{label} is known of no row"
            )
        until = data.events_until(str(task.from_))
        ends[label] = max(last) if until is None else until
    return dataclasses.replace(settings, ends=ends), parts


def _labelled(job: LabelSettings, each: Each) -> list[dict[str, Any]]:
    """Labels the rows of all keys."""
    pieces = label_build.partitions(job)
    return each(pieces, "Labels", label_build.build, job=job)


def _of_logs(
    data: DataConfig, happened: Sequence[Mapping[str, Any]]
) -> list[tuple[LogFiles, list[Mapping[str, Any]]]]:
    """Each log of events, and what was counted in it."""
    return [
        (
            data.events[str(task.from_)],
            [part for part in happened if part["label"] == label],
        )
        for label, task in data.event_labels.items()
    ]


def _labels(tally: RowCounts, data: DataConfig) -> dict[str, Any]:
    """Label after the first -> its counts, of the rows where it counts."""
    counts = {}
    for name in data.further_labels:
        of_splits = {
            split: {
                what: tally.counts[labels.count_name(name, split, what)]
                for what in labels.VALUES
            }
            for split in data.split.names
        }
        whole = {
            what: sum(one[what] for one in of_splits.values())
            for what in labels.VALUES
        }
        counts[name] = {**whole, "splits": of_splits}
    return {"labels": counts} if counts else {}


def _events(
    data: DataConfig,
    parts: Sequence[Mapping[str, Any]],
    labelled: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Label that is from events -> counts of these."""
    counts = {}
    for name in data.event_labels:
        tally = _total([part for part in parts if part["label"] == name])
        counts[name] = {
            **{what: tally.counts[what] for what in ("read", "rejected")},
            **{
                fate: sum(p[fate] for p in labelled if p["label"] == name)
                for fate in label_build.FATES
            },
            "reasons": dict(tally.reasons.most_common()),
            "examples": tally.examples,
            "times": _iso(tally.times.get("all")),
        }
    return {"events": counts} if counts else {}


def _weights(
    tally: RowCounts, splits: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Split -> sums of the weights of its rows, and of its positives."""
    return {
        name: {"rows": sum(sums), "positives": sums[True]}
        for name, sums in tally.weights.items()
        if name in splits
    }


def _iso(span: tuple[int, int] | None) -> dict[str, str] | None:
    """First and last as ISO 8601 in UTC."""
    if span is None:
        return None
    first, last = (
        (_EPOCH + datetime.timedelta(microseconds=micros)).isoformat() + "Z"
        for micros in span
    )
    return {"first": first, "last": last}


def _absent(
    logs: Sequence[tuple[LogFiles, Sequence[Mapping[str, Any]]]],
) -> dict[str, list[str]]:
    """Columns without a value in logs that need not name their columns."""
    found = {}
    for log, parts in logs:
        read = sum(part["counts"].get("read", 0) for part in parts)
        if read and not log_format.of(log).names_columns:
            absent = set.intersection(*(set(part["absent"]) for part in parts))
            if absent:
                found[", ".join(log.path)] = sorted(absent)
    return found
