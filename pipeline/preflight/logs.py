"""Checks of the raw logs before a run: files that are there, and columns."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from components.click_log_gen.columns import labels
from components.click_log_gen.columns.rows import Rows, Verdicts
from components.click_log_gen.config.labels import LabelRule
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import HEAD_BYTES, Chunk
from components.click_log_gen.formats import log_format
from models.config.paths import is_local, literal
from models.errors import InputError
from pipeline.config import PipelineConfig
from pipeline.config_messages import nearest

_PLACEHOLDER = re.compile(r"\{[A-Z]+\}")
_HIVE = re.compile(r"([^/=]+)=[^/]*/")
_ROWS = 100_000  # that may be of one class before the check gives up
Columns = dict[str, str]  # name -> the setting that reads it, or its kind


def problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    """Field and message: patterns without a file, columns that are not there.

    What cannot be told from a file's first bytes is left to the ingest.
    """
    for name, log in config.data.logs.items():
        missing = list(_missing(log))
        for number, pattern in missing:
            field = f"data.{name}.path"
            if len(log.path) > 1:
                field += f".{number}"
            yield field, f"no file matches {pattern!r}"
        if not missing:
            field = f"data.{name}.path"
            found = list(_columns(config, log, field, _wanted(config, name)))
            yield from found
            if name == "impressions" and not found:
                yield from _rows(config, field)


def files(log: LogFiles) -> list[str]:
    """The files on this machine, in order; those of all days."""
    return [
        path
        for pattern in log.path
        if is_local(pattern)
        for path in _matches(pattern)
    ]


def _missing(log: LogFiles) -> Iterator[tuple[int, str]]:
    for number, pattern in enumerate(log.path):
        if is_local(pattern) and not _matches(pattern):
            yield number, pattern


def _matches(pattern: str) -> list[str]:
    if os.path.lexists(pattern):
        return [pattern]
    wide = _as_glob(_PLACEHOLDER.sub("*", pattern))
    return sorted(glob.glob(wide, recursive=True, include_hidden=True))  # noqa: PTH207


def _as_glob(pattern: str) -> str:
    """`pattern`, in which names that exist as they are written are literal."""
    parts = pattern.split("/")
    return "/".join(
        literal(part) if os.path.lexists("/".join(parts[: n + 1])) else part
        for n, part in enumerate(parts)
    )


def _columns(
    config: PipelineConfig, log: LogFiles, field: str, wanted: Columns
) -> Iterator[tuple[str, str]]:
    spans = config.data.spans
    if spans is not None and spans.until is not None:
        return  # the columns of another day may count
    known = files(log)
    if not known:
        return
    # A folder stands for its files; the ingest leaves out empty ones.
    inside = [path for name in known for path in _inside(name)]
    if not inside:
        return
    path = inside[-1] if spans is not None else inside[0]
    chosen = log_format.of(log)
    try:
        with Path(path).open("rb") as stream:
            chosen.codec(stream.read(HEAD_BYTES), path)
    except InputError as error:
        yield field, f"{path}: {error}"
        return
    except OSError:
        return
    names = chosen.peek(path, log)
    if names is None and chosen.names_columns:
        try:
            names = list(chosen.names(_first_chunk(path, log), log)) or None
        except InputError as error:
            yield field, f"{path}: {error}"
            return
    if names is None:
        return
    if log.header and log.columns is None and wanted.keys().isdisjoint(names):
        yield (
            field.replace("path", "header"),
            (
                f"received true; the first line of {path} names none of the"
                f" {len(wanted)} columns that the config reads: {names!r:.300}."
                f" If it is a row, give the names instead: columns: [...]"
            ),
        )
        return
    names = [*names, *map(unquote, _HIVE.findall(path))]
    there = f". Its columns: {', '.join(names):.2000}"
    for name, setting in wanted.items():
        if name not in names:
            yield (
                setting,
                f"no column {name!r}{nearest(name, names)} in {path}{there}",
            )
            there = ""


def _inside(path: str) -> list[str]:
    """A file that holds something, or those of a folder."""
    found = [Path(path)]
    if Path(path).is_dir():
        below = sorted(Path(path).rglob("*"))
        found = [p for p in below if p.name[0] not in "._"]
    return [str(p) for p in found if p.is_file() and p.stat().st_size]


def _rows(config: PipelineConfig, field: str) -> Iterator[tuple[str, str]]:
    """A log without a row or of one class; a first file that is damaged.

    Reads until a row of each class is found, and not much more than _ROWS.
    """
    log = config.data.impressions
    if not all(map(is_local, log.path)):
        return
    count, classes, reason = 0, set[int](), ""
    for path in (path for name in files(log) for path in _inside(name)):
        wanted = _label(config, path)
        try:
            for rows in _read(path, log, wanted):
                count += rows.count + len(rows.rejected)
                if wanted:
                    found, refused = _classes(config, rows)
                    classes |= found
                    reason = reason or refused
                if len(classes) > 1 or count > (_ROWS if wanted else 0):
                    return
        except InputError as error:
            if not count:
                yield field, f"{path}: {error}"
            return
        except Exception:  # of a format of the user's own: the ingest says it
            return
    if not count:
        yield field, f"no rows in any file of {', '.join(log.path)}"
    elif classes:
        yield (
            _label_field(config),
            (
                f"all labels of {count:,} rows are {classes.pop()}; accepted: a"
                " log with rows of both classes"
            ),
        )
    elif reason:
        yield (
            _label_field(config),
            f"no label in any of {count:,} rows; {reason}",
        )


def _label_field(config: PipelineConfig) -> str:
    return next(iter(config.data.label_columns.values()), "data.label")


def _label(config: PipelineConfig, path: str) -> Columns:
    """The label's column, as it is read, if it is in the impressions' file."""
    data = config.data
    name = data.label_column
    if data.clicks is not None or data.label is None or name is None:
        return {}
    if name in map(unquote, _HIVE.findall(path)):
        return {}
    return {name: labels.kind(data.label)}


def _classes(config: PipelineConfig, rows: Rows) -> tuple[set[int], str]:
    """Labels among the rows; the first reason against a row without one."""
    data = config.data
    assert data.label_column is not None
    verdicts = Verdicts.none(rows.count)
    found = labels.label(
        rows.columns[data.label_column],
        rows.column(data.label_column, data.impressions.null_values),
        data.label if isinstance(data.label, LabelRule) else None,
        verdicts,
    )
    usable = found.filter(pa.array(verdicts.good)).unique()
    return set(usable.to_pylist()), next(iter(verdicts.reasons.values()), "")


def _read(path: str, log: LogFiles, columns: Columns) -> Iterator[Rows]:
    chosen = log_format.of(log)
    chunk = _first_chunk(path, log)
    pieces = [(0, -1)]
    if not chunk.codec:
        pieces = list(chosen.split(path, chunk.stamp[0]))
    for start, end in pieces:
        piece = dataclasses.replace(chunk, start=start, end=end)
        yield from chosen.read(piece, log, columns)


def _first_chunk(path: str, log: LogFiles) -> Chunk:
    """The whole file, as one chunk."""
    with Path(path).open("rb") as stream:
        codec = log_format.of(log).codec(stream.read(HEAD_BYTES), path)
    size = Path(path).stat().st_size
    return Chunk(0, path, 0, -1, codec, (size, 0.0), path)


def _wanted(config: PipelineConfig, log: str) -> Columns:
    """Columns of a log that the config reads."""
    if log == "impressions":
        return _shown(config)
    if log == "clicks":
        return _clicked(config)
    columns: Columns = {}
    for name, task in config.data.event_labels.items():
        source = config.data.events[str(task.from_)]
        if log == f"events.{task.from_}":
            columns |= dict.fromkeys(task.key, f"data.labels.{name}.key")
            time = source.time or config.data.time
            columns[_name(time)] = f"data.{log}.time"
    return columns


def _shown(config: PipelineConfig) -> Columns:
    data, uses = config.data, config.uses()
    group = config.evaluate.group
    compared = config.group
    columns = {
        **dict.fromkeys(data.split.key, "data.split.key"),
        **dict.fromkeys(data.negatives.key, "data.negatives.key"),
        **dict.fromkeys(config.columns(), "evaluate.slices"),
        **({} if compared is None else {compared: "train.loss.group"}),
        **({} if group is None else {group: "evaluate.group"}),
        **uses,
    }
    for name in config.features.made_columns():
        del columns[name]
    weight = data.weight
    if weight is not None and weight.source and not data.weight_of_click:
        columns[weight.source] = f"data.weight.{weight.field()}"
    if data.time is not None:
        columns[_name(data.time)] = "data.time"
    if data.clicks is not None:
        for name in data.clicks.shown_key:
            columns[name] = "data.clicks.impression_key"
    for name, task in data.event_labels.items():
        setting = f"data.labels.{name}.impression_key"
        columns |= dict.fromkeys(task.shown_key, setting)
    columns |= data.label_columns
    return columns


def _clicked(config: PipelineConfig) -> Columns:
    data = config.data
    assert data.clicks is not None
    columns = {name: f"data.clicks.carry.{name}" for name in data.clicks.carry}
    columns |= dict.fromkeys(data.clicks.key, "data.clicks.key")
    columns[_name(data.click_time)] = "data.clicks.time"
    if data.label_column is not None:
        columns[data.label_column] = "data.label"
    return columns


def _name(column: Any) -> str:
    return str(getattr(column, "column", column))
