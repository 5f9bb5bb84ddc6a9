"""The section on the course of time: click rate and calibration by hour."""

from __future__ import annotations

from pipeline.report import charts
from pipeline.report.elements import Chart, Section, Table, interval, number
from pipeline.report.gather import RunData


def times(run: RunData) -> Section | None:
    """Calibration of each model by hour, of rows that have a time."""
    found = {
        model: curve["time"]
        for model, curve in (run.evaluation.get("curves") or {}).items()
        if (curve.get("time") or {}).get("spans")
    }
    if not found:
        return None
    rows = [
        [
            model, span["start"], number(span["rows"]),
            number(span["positives"]), number(span["prediction"]),
            number(span["label"]), interval(span["interval"]),
            number(span["calibration"]), interval(span["calibration_interval"]),
        ]
        for model, time in found.items()
        for span in time["spans"]
    ]  # fmt: skip
    head = [
        "model", "from (UTC)", "rows", "positives", "predicted", "observed",
        "interval", "calibration", "interval",
    ]  # fmt: skip
    hours = next(iter(found.values()))["hours"]
    by = "hour" if hours == 1 else f"{hours} hours"
    chart = Chart(
        f"Calibration by {by}", charts.calibration(found), Table(head, rows, 2)
    )
    note = (
        "Calibration is the sum of the predictions over that of the clicks: 1"
        " is right, above it the model says too much."
    )
    return Section("times", "Course of time", [note], charts=[chart])
