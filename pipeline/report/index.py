"""`index.html` of a pipeline's runs: links to reports, metrics over days."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from models import valid_json
from pipeline.report import charts
from pipeline.report.elements import (
    Chart,
    Link,
    Section,
    Table,
    interval,
    number,
)
from pipeline.report.page import put, render

INDEX = "index.html"
_SHOWN = ("auc", "logloss", "normalized_entropy", "calibration", "gauc")
_OF_OUTPUTS = (".auc", ".logloss", ".calibration")  # cvr.auc


def write(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Writes the page into `folder`; returns its path.

    Args:
        rows: of `run_store.rows`, in the order to show.
        folder: from which the links lead to the reports.

    Raises:
        OSError: the page cannot be written.
    """
    names = sorted({row["pipeline"] for row in rows})
    sections = [
        _pipeline(
            f"pipeline-{place}",
            name,
            [row for row in rows if row["pipeline"] == name],
            folder,
        )
        for place, name in enumerate(names)
    ]
    title = f"Runs of {', '.join(names)}" if names else "No runs"
    return put(folder / INDEX, render(title=title, sections=sections))


def _pipeline(
    key: str, name: str, rows: Sequence[dict[str, Any]], folder: Path
) -> Section:
    known = {
        metric
        for row in rows
        for metric, value in row["metrics"].items()
        if value is not None
    }
    of_outputs = [m for m in sorted(known) if m.endswith(_OF_OUTPUTS)]
    metrics = [m for m in (*_SHOWN, *of_outputs) if m in known]
    head = ["run", "when (UTC)", "status", "model", "optimizer", "pushed"]
    head += ["differs from the run before"]
    texts = len(head)
    for metric in metrics:
        head += [metric, "interval"]
    lines = [_line(row, metrics, folder) for row in rows]
    return Section(
        key,
        name,
        [f"{len(rows):,} runs. Intervals are of the run's own test rows."],
        [Table(head, lines, texts)],
        [_course(f"{key}-{metric}", metric, rows) for metric in metrics],
    )


def _line(
    row: dict[str, Any], metrics: Sequence[str], folder: Path
) -> list[str | Link]:
    report = Path(row["report"])
    first: str | Link = row["run"]
    if report.is_file():
        first = Link(row["run"], quote(os.path.relpath(report, folder)))
    changed = [f"{one['path']} {_text(one['after'])}" for one in row["changes"]]
    cells: list[str | Link] = [
        first, row["when"], row["status"], row["model"] or "",
        row["optimizer"] or "", Path(row["pushed_model"] or "").name,
        ", ".join(changed),
    ]  # fmt: skip
    for metric in metrics:
        cells.append(number(row["metrics"].get(metric)))
        cells.append(interval(row["intervals"].get(metric)))
    return cells


def _text(value: Any) -> str:
    return value if isinstance(value, str) else valid_json.dumps(value)


def _course(name: str, metric: str, rows: Sequence[dict[str, Any]]) -> Chart:
    points = sorted(
        (row["when"], row["run"], row)
        for row in rows
        if row["metrics"].get(metric) is not None and row["when"]
    )
    known = [row for _, _, row in points]
    values = [float(row["metrics"][metric]) for row in known]
    ends = [row["intervals"].get(metric) for row in known]
    svg = charts.course(
        [datetime.datetime.fromisoformat(row["when"]) for row in known],
        values,
        ends,
        [bool(row["pushed_model"]) for row in known],
        metric,
        name,
    )
    table = Table(
        ["run", "when (UTC)", metric, "interval"],
        [
            [row["run"], row["when"], number(value), interval(both)]
            for row, value, both in zip(known, values, ends, strict=True)
        ],
        2,
    )
    return Chart(f"{metric} over the days", svg, table)
