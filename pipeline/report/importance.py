"""Section of a report: importance of features, unseen ids, collisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import charts
from pipeline.report.elements import (
    Chart,
    Section,
    Table,
    interval,
    number,
    share,
)
from pipeline.report.gather import RunData

_BARS = 30  # features in the chart


def importance(run: RunData) -> Section | None:
    """Features by importance, unseen ids and collisions, if asked for."""
    found = run.evaluation.get("importance")
    if not found:
        return None
    times = "once" if found["repeats"] == 1 else f"{found['repeats']} times"
    notes = [
        (
            f"{found['rows']:,} of {found['of']:,} rows of the"
            f" {run.evaluation['split']} split, drawn at random. Importance:"
            f" how much logloss rises and AUC falls when the feature's values"
            f" are dealt to other rows, {times}. Crosses are made anew of the"
            f" dealt values."
        ),
        (
            f"An id is unseen if none of the {found['train_rows']:,} training"
            f" rows has it. Cold rows have an unseen id."
        ),
    ]
    constants = run.constants()
    if constants:
        served = [f"{name} ({value})" for name, value in constants.items()]
        notes.append(
            "Seen in training only, so that requests are the same without them"
            f" and they have no importance: {', '.join(served)}."
        )
    tables = [_features(found["features"]), *_of_outputs(found["features"])]
    if len(tables) > 1:
        notes.append(
            "The first table, the chart and the metrics of cold rows are of"
            " the output ctr. A table of another output looks at the rows"
            " where its label counts."
        )
    if found["ids"]:
        tables.append(_ids(found["ids"]))
    if found["collisions"]:
        rows = [
            [one["name"]]
            + [number(one[key]) for key in ("buckets", "used", "values")]
            + [number(one["shared"]), share(_part(one))]
            for one in found["collisions"]
        ]
        head = ["hashed", "buckets", "used", "distinct values", "that share"]
        tables.append(Table([*head, "a bucket"], rows))
    return Section("importance", "Importance", notes, tables, _chart(found))


def by_feature(run: RunData) -> dict[str, list[str]]:
    """Feature -> importance, interval, unseen and out-of-vocabulary share."""
    found = run.evaluation.get("importance") or {}
    ids = {one["name"]: one for one in found.get("ids", ())}
    return {
        one["name"]: [
            number(one["logloss"]["value"]),
            interval(one["logloss"]["interval"]),
            share(ids.get(one["name"], {}).get("unseen")),
            share(ids.get(one["name"], {}).get("out_of_vocabulary")),
        ]
        for one in found.get("features", ())
    }


def _of_outputs(found: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table of each output after the first."""
    names = found[0].get("outputs", {}) if found else {}
    return [
        _features(
            [{**one, **one["outputs"][name]} for one in found],
            f"feature, for {name}",
        )
        for name in names
    ]


def _features(
    found: Sequence[Mapping[str, Any]], first: str = "feature"
) -> Table:
    rows = [
        [
            one["name"],
            ", ".join(one["crosses"]),
            *(
                cell
                for metric in ("logloss", "auc")
                for cell in (
                    number(one[metric]["value"]),
                    interval(one[metric]["interval"]),
                )
            ),
        ]
        for one in found
    ]
    head = [first, "with its crosses", "logloss rises by", "interval"]
    return Table([*head, "auc changes by", "interval"], rows, 2)


def _ids(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for one in found:
        row = [one["name"], one["encode"], share(one["unseen"])]
        row += [share(one["out_of_vocabulary"]), number(one["cold"]["rows"])]
        for metric in ("logloss", "calibration", "auc"):
            for part in ("cold", "rest"):
                entry = one[part]["metrics"][metric]
                row.append(number(entry["value"]))
                if metric == "logloss":
                    row.append(interval(entry["interval"]))
        rows.append(row)
    head = ["ids", "encode", "unseen", "out of vocabulary", "cold rows"]
    head += ["logloss, cold", "interval", "logloss, rest", "interval"]
    for metric in ("calibration", "auc"):
        head += [f"{metric}, cold", f"{metric}, rest"]
    return Table(head, rows, 2)


def _part(one: Mapping[str, Any]) -> float | None:
    return one["shared"] / one["values"] if one["values"] else None


def _chart(found: Mapping[str, Any]) -> list[Chart]:
    known = [
        (one["name"], one["logloss"]["value"], one["logloss"]["interval"])
        for one in found["features"]
        if one["logloss"]["value"] is not None
    ]
    if not known:
        return []
    table = Table(
        ["feature", "logloss rises by", "interval"],
        [[name, number(v), interval(ends)] for name, v, ends in known],
    )
    caption = "Importance"
    if len(known) > _BARS:
        caption += f", the first {_BARS} of {len(known)} features"
    return [Chart(caption, charts.importance(known[:_BARS]), table)]
