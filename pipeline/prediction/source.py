"""Source of a scoring: a version of a model, and how its log is read."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from components import model_store
from components.click_log_gen.columns.rows import ColumnForm
from components.click_log_gen.config.log_files import PLACEHOLDERS, LogFiles
from components.click_log_gen.config.sections import Spans
from components.click_log_gen.files import spans
from models.config.event_time import TimeColumn
from models.config.labels import CTR, labels_of, outputs
from models.config.training import Features
from models.errors import InputError
from pipeline.config import PipelineConfig

LOGS = "LOGS"  # the argument, as errors call it


@dataclass(frozen=True)
class Source:
    """A version and its log.

    model: the version's folder. identity: its export.
    ranges: integer column -> its values are from 0 to below.
    max_rejected: greatest share of rejected rows.
    beam: Beam's options, of the config.
    time: how the column of kind `time` is written, where there is one.
    made: columns of histories that ingest made from the training log.
    outputs: columns of the predictions.
    """

    model: str
    identity: str
    log: LogFiles
    features: Mapping[str, ColumnForm]
    ranges: Mapping[str, int]
    max_rejected: float
    beam: tuple[str, ...] = ()
    time: TimeColumn | None = None
    made: tuple[str, ...] = ()
    outputs: tuple[str, ...] = (CTR,)


def find(
    model: str,
    logs: Sequence[str],
    config: PipelineConfig | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Source:
    """A version, and `logs` as its config reads them.

    Args:
        model: the folder of the version.
        logs: files, folders or globs, as in `data.impressions.path`.
        config: says how the log is read; None: the version does.
        since: first day, or number, of logs with a placeholder.
        until: last one; None: the newest there is.

    Raises:
        InputError: there is no such log, or the version does not say how its
            log is read.
    """
    about = model_store.about(model)
    try:
        features = Features.model_validate(about["config"]["features"])
    except (KeyError, TypeError, ValidationError):
        raise InputError(
            f"{model}: its manifest has no `config.features`. Accepted: a"
            " version that `lionctr run` pushed"
        ) from None
    if config is not None:
        log = config.data.impressions.model_dump()
        max_rejected = config.data.max_rejected
    else:
        log, max_rejected = _reading(model, about)
    try:
        files = LogFiles.model_validate({**log, "path": tuple(logs)})
    except ValidationError as error:
        raise InputError(f"{LOGS}: {error.errors()[0]['msg']}") from None
    kinds = features.served_kinds()
    ranges = features.ranges()
    lists, weighted = features.lists(), features.weighted()
    sizes, beside = features.sizes(), features.sequence_of()
    return Source(
        os.path.abspath(model),  # noqa: PTH100 (workers may start elsewhere)
        str(about.get("export_id", "")),
        _with_spans(files, since, until),
        {
            name: ColumnForm(
                kind,
                lists.get(name),
                weighted.get(name),
                sizes.get(name, 0),
                beside.get(name),
            )
            for name, kind in kinds.items()
        },
        {name: ranges[name] for name in ranges.keys() & kinds.keys()},
        max_rejected,
        config.runner.beam if config is not None else (),
        features.time.source if features.time is not None else None,
        tuple(features.made_columns()),
        tuple(output.name for output in outputs(labels_of(about["config"]))),
    )


def _reading(
    path: str, about: Mapping[str, Any]
) -> tuple[dict[str, Any], float]:
    """Settings of the log and `data.max_rejected`, as the Pusher wrote them."""
    try:
        reading = about["reading"]
        return dict(reading["log"]), float(reading["max_rejected"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: its manifest does not say how its log is read; an older"
            " lion-ctr pushed it. Give --config CONFIG"
        ) from None


def _with_spans(
    log: LogFiles, since: str | None, until: str | None
) -> LogFiles:
    """`log` with the files of its days, where its paths have placeholders."""
    asked = {
        "since": _bound("--since", since),
        "until": _bound("--until", until),
    }
    if not any(part in path for path in log.path for part in PLACEHOLDERS):
        if since or until:
            raise InputError(
                f"--since and --until: received {since or until!r}; {LOGS} has"
                f" none of {', '.join(PLACEHOLDERS)}: {', '.join(log.path)}"
            )
        return log
    last = 1 if since is None else None
    try:
        chosen = Spans.model_validate({**asked, "last": last})
        return spans.resolve(log, chosen, LOGS)[0]
    except ValidationError as error:
        raise InputError(
            f"--since, --until: {error.errors()[0]['msg']}"
        ) from None


def _bound(option: str, text: str | None) -> datetime.date | int | None:
    if text is None:
        return None
    try:
        return (
            int(text) if text.isdigit() else datetime.date.fromisoformat(text)
        )
    except ValueError:
        raise InputError(
            f"{option}: received {text!r}; accepted: a day, such as 2026-11-22,"
            " or a number"
        ) from None
