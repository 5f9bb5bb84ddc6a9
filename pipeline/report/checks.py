"""The section on data: drift, skew, and features that tell the label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components import data_checks
from pipeline.report.elements import Section, Table, number
from pipeline.report.gather import RunData


def checks(run: RunData) -> Section | None:
    """Distances of each feature, and what each alone tells of the label."""
    found = run.checks
    tables = [
        _distances(one)
        for one in (found.get("drift") or {}).get("comparisons", ())
        if one["features"]
    ]
    leaks = found.get("leaks") or {}
    if leaks.get("features"):
        tables.append(_alone(leaks))
    notes = data_checks.lines(found)
    if not found:
        notes = _refused(run.summary)
    return Section("data", "Data", notes, tables) if notes or tables else None


def _distances(one: Mapping[str, Any]) -> Table:
    entries = sorted(
        one["features"].items(),
        key=lambda item: -item[1]["distance"] / item[1]["threshold"],
    )
    rows = [
        [
            name,
            "yes" if name in one["drifted"] else "",
            entry["measure"],
            ", ".join(data_checks.moves(entry)),
            number(entry["distance"]),
            number(entry["threshold"]),
        ]
        for name, entry in entries
    ]
    head = ["feature", "far", "measure", "moved most", "distance", "threshold"]
    caption = f"Train split against {one['against']}"
    return Table(head, rows, 4, caption)


def _alone(leaks: Mapping[str, Any]) -> Table:
    entries = sorted(
        leaks["features"].items(), key=lambda item: -(item[1]["auc"] or 0.0)
    )
    rows = [
        [name, "yes" if name in leaks["found"] else "", one["by"],
         number(one["auc"])]
        for name, one in entries
    ]  # fmt: skip
    head = ["feature", "tells the label", "by", "AUC alone"]
    caption = "AUC of each feature alone, on the train split"
    return Table(head, rows, 3, caption)


def _refused(summary: Mapping[str, Any]) -> list[str]:
    """Findings of a run that stopped for them: its artifact is gone."""
    drift = (summary.get("drift") or {}).get("found", ())
    leaks = (summary.get("leaks") or {}).get("found", ())
    return [
        *(data_checks.leak(one["feature"], one) for one in leaks),
        *(
            data_checks.described(one["feature"], one, one["against"])
            for one in drift
        ),
    ]
