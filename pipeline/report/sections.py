"""Sections of a report: what is known of a run, as tables and charts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.report import charts
from pipeline.report.checks import checks
from pipeline.report.elements import Chart, Section, Table, interval, number
from pipeline.report.gather import RunData
from pipeline.report.importance import by_feature, importance
from pipeline.report.times import times

_SLICES = 300  # shown, the most harmful
_OPEN = 20  # trials that a reader sees unfolded
_BINS = 50  # rows of a curve's table
_OF_SEGMENTS = ("logloss", "auc", "calibration", "expected_calibration_error")


def metrics(run: RunData) -> Section | None:
    """Candidate, baseline and constant, with intervals."""
    found = run.evaluation
    if not found:
        plain = run.summary.get("metrics") or {}
        rows = [[name, number(value)] for name, value in plain.items()]
        return rows and Section(  # type: ignore[return-value]
            "metrics", "Metrics", tables=[Table(["metric", "candidate"], rows)]
        )
    paired = "baseline" in found["models"]
    constant = _constant(found)
    share = f"{100 * found['confidence']:g} %"
    head = ["metric", "candidate", f"{share} interval"]
    if paired:
        head += ["baseline", "interval", "difference", "interval"]
    rows, notes = [], []
    for name, entry in found["metrics"].items():
        row = [name, number(entry["value"]), interval(entry.get("interval"))]
        if paired:
            for key in ("baseline", "difference"):
                row.append(number(entry.get(key)))
                row.append(interval(entry.get(f"{key}_interval")))
        rows.append([*row, number(constant.get(name))])
        if entry.get("undefined"):
            notes.append(f"{name} is undefined: {entry['undefined']}")
    unit = found["bootstrap"]
    about = (
        f"The {found['split']} split: {found['rows']:,} rows,"
        f" {found['positives']:,} positives, base rate"
        f" {number(found['base_rate'])}. Intervals: bootstrap,"
        f" {unit['replicates']:,} replicates by {unit['unit']}. The constant"
        " always predicts the base rate."
    )
    weights = found.get("weights")
    if weights:
        notes.append(
            "All metrics, intervals and curves are weighted: the rows' weights"
            f" sum to {number(weights['rows'])}, those of positives to"
            f" {number(weights['positives'])}."
        )
    groups = found.get("groups")
    if groups:
        notes.append(
            f"Groups by {groups['column']}: GAUC leaves out"
            f" {number(groups['left_out'])} of the impressions;"
            f" {number(groups['no_group'])} have no group."
        )
    checks = [
        [
            one["words"],
            "yes" if one["passed"] else "NO",
            number(one["value"]),
            number(one["limit"]),
        ]
        for one in found.get("gate", {}).get("checks", [])
    ]
    tables = [Table([*head, "constant"], rows)]
    served = found.get("as_served") or {}
    if served:
        tables.append(
            Table(
                [
                    "as served, without the features of training alone",
                    "candidate",
                    head[2],
                ],
                [
                    [name, number(entry["value"]), interval(entry["interval"])]
                    for name, entry in served.items()
                ],
            )
        )
    tables += _calibrated(found.get("calibration") or {}, head[2])
    if checks:
        heads = ["check of the gate", "kept", "value", "limit"]
        tables.append(Table(heads, checks, 2))
    notes += found.get("gate", {}).get("notes", [])
    return Section("metrics", "Metrics", [about, *notes], tables)


def _calibrated(found: Mapping[str, Any], share: str) -> Iterator[Table]:
    """Before and after the calibration, of all rows and by segment."""
    parts = [("all rows", found.get("metrics", {}))]
    parts += [(one["name"], one["metrics"]) for one in found.get("slices", ())]
    rows = [
        [
            name, metric, number(entry["baseline"]), number(entry["value"]),
            number(entry["difference"]), interval(entry["difference_interval"]),
        ]
        for name, entries in parts
        for metric, entry in entries.items()
        if name == "all rows" or metric in _OF_SEGMENTS
    ]  # fmt: skip
    if rows:
        head = ["segment", "metric", "uncalibrated", "calibrated", "difference"]
        yield Table([*head, share], rows, 2)


def _constant(found: Mapping[str, Any]) -> dict[str, float | None]:
    rate = found["base_rate"]
    values: dict[str, float | None] = {
        "logloss": (found.get("constant") or {}).get("logloss")
    }
    if rate:
        brier = rate * (1 - rate)
        values |= {
            "auc": 0.5,
            "pr_auc": rate,
            "normalized_entropy": 1.0,
            "calibration": 1.0,
            "brier": brier,
            "rmse": math.sqrt(brier),
        }
    return values


def curves(run: RunData) -> Section | None:
    """Reliability, ROC, precision and recall, score histograms."""
    found: dict[str, Any] = run.evaluation.get("curves") or {}
    if not found:
        return None
    reliable = dict(found)
    before = run.evaluation.get("calibration")
    if before:
        reliable["uncalibrated"] = before
    shown = [
        Chart(
            "Reliability",
            charts.reliability(reliable),
            Table(
                ["model", "rows", "predicted", "observed", "interval"],
                [
                    [
                        model, number(int(one["rows"])),
                        number(one["prediction"]), number(one["label"]),
                        interval(one.get("interval")),
                    ]
                    for model, curve in reliable.items()
                    for one in curve["reliability"]
                ],
            ),
        ),
        _curve(found, "ROC", charts.roc, "roc", ("fpr", "tpr")),
        _curve(
            found, "Precision and recall", charts.precision_recall, "pr",
            ("recall", "precision"),
        ),
    ]  # fmt: skip
    first = next(iter(found.values()))
    edges = first["histogram"]["edges"]
    rows = zip(
        edges, edges[1:], first["histogram"]["negatives"],
        first["histogram"]["positives"], strict=False,
    )  # fmt: skip
    shown.append(
        Chart(
            "Scores by label, candidate",
            charts.histogram(first),
            Table(
                ["predicted", "negatives", "positives"],
                [
                    [interval((low, high)), *map(_rows, (no, yes))]
                    for low, high, no, yes in rows
                ],
            ),
        )
    )
    return Section("curves", "Curves", charts=shown)


def _rows(weight: float) -> str:
    """Rows of a cell: whole, but where they are weighted."""
    return number(int(weight) if weight == int(weight) else weight)


def _curve(
    found: Mapping[str, Any],
    caption: str,
    draw: Callable[[Mapping[str, Any]], str],
    kind: str,
    axes: tuple[str, str],
) -> Chart:
    rows = []
    for model, curve in found.items():
        points = list(zip(*(curve[kind][axis] for axis in axes), strict=True))
        step = max(1, len(points) // _BINS)
        rows += [[model, number(x), number(y)] for x, y in points[::step]]
    return Chart(caption, draw(found), Table(["model", *axes], rows))


def slices(run: RunData) -> Section | None:
    """Slices, the most harmful first."""
    found = sorted(_slices(run), key=lambda one: -one[0])
    if not found:
        return None
    paired = any(one[3].get("logloss", {}).get("baseline") for one in found)
    rows = []
    for harm, name, count, entries in found[:_SLICES]:
        row = [name, number(count), f"{harm:.2f}"]
        for metric in ("calibration", "logloss", "auc"):
            entry = entries.get(metric, {})
            row.append(number(entry.get("value")))
            if metric != "auc":
                row.append(interval(entry.get("interval")))
        if paired:
            logloss = entries.get("logloss", {})
            row.append(number(logloss.get("difference")))
            row.append(interval(logloss.get("difference_interval")))
        rows.append(row)
    head = [
        "slice", "rows", "harm", "calibration", "interval", "logloss",
        "interval", "auc",
    ]  # fmt: skip
    head += ["logloss - baseline", "interval"] if paired else []
    note = (
        "Harm: logloss that a wrong mean prediction costs, summed over the"
        " rows of the slice."
    )
    if len(found) > _SLICES:
        note += f" {len(found) - _SLICES:,} slices of less harm left out."
    return Section("slices", "Slices", [note], [Table(head, rows)])


def _slices(
    run: RunData,
) -> Iterator[tuple[float, str, int, dict[str, Any]]]:
    for one in run.evaluation.get("slices") or []:
        weights = one.get("weights") or one
        yield (
            harm(weights["rows"], weights["positives"], one["metrics"]),
            one["name"],
            one["rows"],
            one["metrics"],
        )
    if run.evaluation:
        return
    for name, values in (run.summary.get("slices") or {}).items():
        entries = {key: {"value": value} for key, value in values.items()}
        count = int(values.get("example_count") or 0)
        yield 0.0, name.strip("[]"), count, entries


def harm(rows: float, positives: float, entries: Mapping[str, Any]) -> float:
    """Rows times the divergence of the mean prediction from the click rate."""
    loss = (entries.get("logloss") or {}).get("value")
    if not rows:
        return 0.0
    rate = positives / rows
    ratio = (entries.get("calibration") or {}).get("value")
    if not positives or ratio is None:
        return rows * (loss or 0.0)  # all of it: no click was there to predict
    mean = min(max(rate * ratio, 1e-9), 1 - 1e-9)
    cost = rate * math.log(rate / mean)
    if rate < 1:
        cost += (1 - rate) * math.log((1 - rate) / (1 - mean))
    return rows * max(0.0, cost)


def training(run: RunData) -> Section | None:
    """Learning curve, what training chose, warm start, tuning."""
    told, summary = run.training, run.summary
    if not told and not run.curves:
        return None
    shown = []
    lines = {
        name: run.curves[tag]
        for name, tag in (("train", "train/loss"), ("eval", "eval/logloss"))
        if run.curves.get(tag)
    }
    if lines:
        points = [
            [name, number(step), number(value)]
            for name, line in lines.items()
            for step, value in line[:: max(1, len(line) // _BINS)]
        ]
        table = Table(["rows", "step", "logloss"], points)
        shown.append(Chart("Learning curve", charts.learning(lines), table))
    names = (
        "steps", "resumed_at_step", "examples", "seconds",
        "train_examples_per_second", "stopped_early", "best_step",
        "eval_logloss", "eval_constant", "eval_auc", "train_logloss",
        "train_auc", "lion_kernel",
        "lion_kernel_reason", "slot_bytes", "ids",
    )  # fmt: skip
    tables = [
        Table(
            ["training", ""],
            [[name, number(told[name])] for name in names if name in told],
        )
    ]
    if told.get("chosen"):
        tables.append(
            Table(
                ["setting that nobody gave", "chosen", "why"],
                [
                    [one["path"], _json(one["value"]), one["reason"]]
                    for one in told["chosen"]
                ],
                3,
            )
        )
    for caption, key in (
        ("Loss", "loss"),
        ("Tuned", "tuned"),
        ("Warm start", "warm_start"),
        ("Admission", "admission"),
        ("Pretrained", "pretrained"),
        ("Export", "export"),
        ("Calibration", "calibration"),
    ):
        value = summary.get(key) or told.get(key)
        if value:
            tables.append(Table([caption, ""], list(_flat(value)), 2))
    if run.trials:
        tables.append(_trials(run.trials))
    notes = [f"Warning: {text}" for text in told.get("warnings") or []]
    return Section("training", "Training", notes, tables, shown)


def _trials(trials: Sequence[Mapping[str, Any]]) -> Table:
    paths = [key for key in trials[0] if key not in ("trial", "score")]
    rows = [
        [str(one["trial"]), *(number(one.get(path)) for path in paths),
         number(one["score"])]
        for one in trials[:_SLICES]
    ]  # fmt: skip
    head = ["trial, the best first", *paths, "on the eval split"]
    return Table(head, rows, folded=len(rows) > _OPEN, caption="Trials")


def serving(run: RunData) -> Section | None:
    """Answers of the server that the ServingGate asked, and their times."""
    found = run.summary.get("serving_gate") or {}
    if not found:
        return None
    limit = found["p99_ms"]
    about = (
        f"The server gave the {found['rows']:,} rows of the {found['split']}"
        f" split that it was asked the model's own predictions, to"
        f" {found['tolerance']:g}. Limit of the 99th percentile:"
        f" {'none' if limit is None else f'{limit:g} ms'}."
    )
    rows = [
        [way, f"{one['p50']:.3g}", f"{one['p99']:.3g}"]
        for way, one in found["latency"].items()
    ]
    head = ["requests of one row", "median, ms", "99th percentile, ms"]
    return Section("serving", "Serving", [about], [Table(head, rows)])


def features(run: RunData) -> Section | None:
    """Missing values by split, and what the values are."""
    if not run.features:
        return None
    splits = sorted(run.features, key="train eval test".find)
    names: dict[str, dict[str, Any]] = {}
    for split in splits:
        for one in run.features[split]:
            names.setdefault(one.name, {})[split] = one
    rows = []
    known, constants = by_feature(run), run.constants()
    for name, by_split in names.items():
        first = next(iter(by_split.values()))
        shares = [
            f"{100 * one.missing / max(1, one.rows):.2f} %" if one else "-"
            for one in map(by_split.get, splits)
        ]
        more = known.get(name, ["-"] * 4) if known else []
        about = first.about
        if name in constants:
            about += f"; seen in training only, served: {constants[name]}"
        rows.append([name, about, *shares, *more])
    head = ["feature", f"values ({splits[0]})"]
    head += [f"missing, {split}" for split in splits]
    if known:
        head += ["importance", "interval", "ids unseen", "out of vocabulary"]
    return Section("features", "Features", tables=[Table(head, rows, 2)])


def ingest(run: RunData) -> Section | None:
    """Rows of the splits, and why some were rejected."""
    summary, counts = run.summary, run.counts
    rows = {
        k: n for k, n in (summary.get("rows") or {}).items() if n is not None
    }
    if not rows:
        return None
    positives = counts.get("positives") or summary.get("positives") or {}
    weights = counts.get("weights") or summary.get("weights") or {}
    times = counts.get("times") or summary.get("times") or {}
    table = []
    for name, count in rows.items():
        span, clicks = times.get(name) or {}, positives.get(name)
        rate = clicks / count if clicks is not None and count else None
        row = [
            name, span.get("first", ""), span.get("last", ""),
            number(count), "" if clicks is None else number(clicks),
            "" if rate is None else number(rate),
        ]  # fmt: skip
        if weights:
            sums = weights.get(name) or {}
            row += [
                number(sums[key]) if key in sums else ""
                for key in ("rows", "positives")
            ]
        table.append(row)
    head = ["rows", "first time", "last time", "count", "positives", "share"]
    if weights:
        head += ["weight", "weight of positives"]
    tables = [Table(head, table, 3)]
    if found := counts.get("labels"):
        names = ("positives", "negatives", "unknown")
        tables.append(
            Table(
                ["label, of the rows where it counts", "split", *names],
                [
                    [name, split, *(number(one[what]) for what in names)]
                    for name, whole in found.items()
                    for split, one in whole.get(
                        "splits", {"all": whole}
                    ).items()
                ],
                2,
            )
        )
    clicks = counts.get("clicks") or {}
    events = counts.get("events") or {}
    reasons = [
        (what, found)
        for what, found in (
            ("rows", counts),
            ("clicks", clicks),
            *((f"events of {name}", one) for name, one in events.items()),
        )
        if found.get("reasons")
    ]
    if not counts:
        reasons = [("rows", {"reasons": summary.get("rejected_reasons")})]
    for what, found in reasons:
        examples = found.get("examples") or {}
        lines = []
        for reason, count in (found.get("reasons") or {}).items():
            one = examples.get(reason) or {}
            place = ", ".join(filter(None, (one.get("file"), one.get("where"))))
            lines.append([reason, place, one.get("row", ""), number(count)])
        if lines:
            heads = [f"rejected {what}: why", "first at", "reads", "count"]
            tables.append(Table(heads, lines, 3))
    joined = summary.get("clicks") or {}
    if joined:
        lines = [[name, number(count)] for name, count in joined.items()]
        tables.append(Table(["clicks", "count"], lines))
    if events:
        fates = ("read", "rejected", "credited", "orphans", "outside")
        lines = [
            [name, *(number(one[what]) for what in fates)]
            for name, one in events.items()
        ]
        tables.append(Table(["events of the label", *fates], lines))
    notes = [f"Warning: {text}" for text in counts.get("warnings") or []]
    outside = counts.get("out_of_range") or {}
    notes += [f"Out of range: {k}: {n:,}" for k, n in outside.items() if n]
    return Section("ingest", "Ingest", notes, tables)


def timings(run: RunData) -> Section | None:
    """Seconds of each component."""
    seconds = run.summary.get("seconds") or {}
    if not seconds:
        return None
    rows = [[name, f"{value:.3f}"] for name, value in seconds.items()]
    rows.append(["all", f"{sum(seconds.values()):.3f}"])
    table = Table(["component", "seconds"], rows)
    return Section("timings", "Timings", tables=[table])


def settings(run: RunData) -> Section | None:
    """Settings that the run used, a line each."""
    summary = run.summary
    chosen = {one["path"] for one in run.training.get("chosen") or []}
    tables = []
    if run.pushed_before:
        changed = [
            [one["path"], _json(one["before"]), _json(one["after"])]
            for one in run.changes
        ]
        head = ["differs from the last pushed run", run.pushed_before, "here"]
        rows = changed or [["nothing", "", ""]]
        tables.append(Table(head, rows, 3))
    for name in ("model", "optimizer", "train", "data", "features", "evaluate"):
        rows = [
            [f"{name}.{path}", value]
            for path, value in _flat(summary.get(name) or {})
        ]
        rows = [
            [path + (" (chosen)" if path in chosen else ""), value]
            for path, value in rows
        ]
        if rows:
            tables.append(Table(["setting", "value"], rows, 2, name, True))
    return tables and Section(  # type: ignore[return-value]
        "settings", "Settings", tables=tables
    )


def _flat(value: Any, path: str = "") -> Iterator[list[str]]:
    """Path and value of every leaf; a named item is called by its name."""
    items: Iterator[tuple[str, Any]] | None = None
    if isinstance(value, dict) and value:
        items = iter(value.items())
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = (
            (str(v.get("name", n)) if isinstance(v, dict) else str(n), v)
            for n, v in enumerate(value)
        )
    if items is None:
        yield [path, _json(value)]
        return
    for key, inner in items:
        yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


ALL = (
    metrics, curves, times, slices, training, serving, features, importance,
    checks, ingest, timings, settings,
)  # fmt: skip
