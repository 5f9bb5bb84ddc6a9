"""The gate: whether a model may be pushed, and in words why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluator import gates
from components.evaluator.bootstrap import MIN_UNITS
from components.evaluator.config import EvaluateConfig, Threshold
from optimizers.config.messages import counted

TOO_FEW = 10  # fewer positives, or negatives, allow no verdict
_BOUNDS = ("min", "max", "below", "min_change", "max_change")
_UPPER = ("max", "below", "max_change")
_ROUNDING = 1e-9  # a constant's normalized entropy is 1, give or take


def judge(report: Mapping[str, Any], config: EvaluateConfig) -> dict[str, Any]:
    """The verdict on the candidate of `report` (see `evaluation`).

    Returns:
        passed: whether it may be pushed.
        refusals: why not, a line each.
        notes: what was not judged, and why, a line each.
        checks: [{metric, bound, limit, value, interval, passed, words}], for
            `min_change` and `max_change` of the difference; a bound without a
            baseline to compare with is none. A gate of `evaluate.gates` is a
            check whose metric is the gate's name, and whose bound is "gate".
    """
    thresholds = config.thresholds()
    checks = [_finite(report)]
    notes: list[str] = []
    lack = _too_few(report) if thresholds else ""
    undefined = [
        f"{name} is undefined: {report['metrics'][name]['undefined']}"
        for name in thresholds
        if report["metrics"][name]["value"] is None
    ]
    if lack and config.too_few == "pass":
        notes = [f"{lack}: no verdict, which evaluate.too_few passes"]
    elif lack:
        checks.append(_short_of(report, lack))
        notes = undefined
    else:
        for name, threshold in thresholds.items():
            found, note = _checks(name, threshold, report)
            checks += found
            notes += note
    checks += [gates.check(gate, report) for gate in config.gates]
    broken = [check for check in checks if not check["passed"]]
    refusals = [check["words"] for check in broken]
    if lack and config.too_few == "refuse":
        refusals, notes = refusals + undefined, []
    return {
        "passed": not broken,
        "refusals": list(dict.fromkeys(refusals)),
        "notes": notes,
        "checks": checks,
    }


def slice_thresholds(
    report: Mapping[str, Any],
    slice: str,
    metrics: Mapping[str, Any],
    output: str | None = None,
) -> list[str]:
    """The gate `slice`: bounds that the metrics of one slice must keep.

    Args:
        report: see `evaluation`.
        slice: its name in the report, such as "device=tv".
        metrics: metric -> bounds, as in `evaluate.metrics`.
        output: of a model of several labels, one after the first.
    """
    head = ""
    if output is not None:
        of_outputs = report.get("outputs") or {}
        if output not in of_outputs:
            return [f"there is no output {output!r}"]
        report, head = of_outputs[output], f"{output}, "
    named = {one["name"]: one for one in report["slices"]}
    if slice not in named:
        return [f"{head}there is no slice {slice!r}"]
    part = {**report, **named[slice]}
    return [
        f"{head}{slice}: {check['words']}"
        for name, bounds in metrics.items()
        for check in _checks(name, Threshold.model_validate(bounds), part)[0]
        if not check["passed"]
    ]


def _check(
    metric: str,
    bound: str,
    limit: float | None,
    value: float | None,
    interval: Any,
    passed: bool,
    words: str,
) -> dict[str, Any]:
    return {
        "metric": metric,
        "bound": bound,
        "limit": limit,
        "value": value,
        "interval": interval,
        "passed": passed,
        "words": words,
    }


def _finite(report: Mapping[str, Any]) -> dict[str, Any]:
    """A model that gives NaN keeps no bound, whatever they are."""
    entry = report["metrics"]["logloss"]
    value = entry["value"]
    return _check(
        "logloss",
        "finite",
        None,
        value,
        entry["interval"],
        value is not None,
        "logloss is a finite number"
        if value is not None
        else f"logloss is undefined: {entry['undefined']};"
        " threshold: a finite number",
    )


def _too_few(report: Mapping[str, Any]) -> str:
    """Name what is too few for a verdict; "" for nothing."""
    where = f"the {report['split']} split has"
    positives = report["positives"]
    for count, noun in (
        (positives, "positive"),
        (report["rows"] - positives, "negative"),
    ):
        if not count:
            return f"{where} no {noun}"
        if count < TOO_FEW:
            return f"{where} {counted(count, noun)}, {TOO_FEW} are needed"
    units = report["bootstrap"]["units"]
    if units < MIN_UNITS:
        unit = report["bootstrap"]["unit"]
        return f"{where} {units} values of {unit}, {MIN_UNITS} are needed"
    return ""


def _short_of(report: Mapping[str, Any], lack: str) -> dict[str, Any]:
    return _check(
        "positives",
        "min",
        TOO_FEW,
        report["positives"],
        None,
        False,
        f"{lack}: too few for a verdict. Hold out more rows, or set"
        " evaluate.too_few: pass",
    )


def _checks(
    name: str, threshold: Threshold, report: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    entry = report["metrics"][name]
    checks, notes = [], []
    for bound in _BOUNDS:
        limit = getattr(threshold, bound)
        if limit is None:
            continue
        change = bound.endswith("_change")
        if change and len(report["models"]) < 2:
            continue
        if (
            change
            and entry["value"] is not None
            and (entry["difference"] is None)
        ):
            notes.append(
                f"{name}.{bound} is not judged: the baseline's {name} is"
                " undefined"
            )
            continue
        key = "difference" if change else "value"
        value = entry.get(key)
        interval = entry.get("difference_interval" if change else "interval")
        sure = threshold.sure
        if sure is None and change:
            sure = False
        passed = value is not None and _kept(
            bound, limit, value, interval, sure
        )
        checks.append(
            _check(
                name,
                bound,
                limit,
                value,
                interval,
                passed,
                _words(name, bound, limit, entry, report, sure),
            )
        )
    return checks, notes


def _kept(
    bound: str, limit: float, value: float, interval: Any, sure: bool | None
) -> bool:
    """True if the bound is kept; see `Threshold` for `sure`."""
    upper = bound in _UPPER
    judged = value
    if sure is not None and interval is not None:
        low, high = interval
        worst, best = (high, low) if upper else (low, high)
        judged = worst if sure else best
    elif sure:
        return False
    if bound == "below":
        return bool(judged < limit - _ROUNDING)
    return bool(judged <= limit if upper else judged >= limit)


def _words(
    name: str,
    bound: str,
    limit: float,
    entry: Mapping[str, Any],
    report: Mapping[str, Any],
    sure: bool | None,
) -> str:
    """A check in a line: metric, value, interval, bound."""
    if entry["value"] is None:
        return f"{name} is undefined: {entry['undefined']}"
    change = bound.endswith("_change")
    value = entry["difference" if change else "value"]
    interval = entry.get("difference_interval" if change else "interval")
    text = f"{name} changed by" if change else f"{name} is"
    text += f" {value:.6g}"
    if sure is not None:
        share = f"{100 * report['confidence']:g} %"
        text += (
            f" ({share} interval {interval[0]:.6g} to {interval[1]:.6g})"
            if interval is not None
            else " (too few rows for an interval)"
        )
    if change:
        text += " against the baseline"
    text += f"; threshold: {bound} {limit:g}"
    return text + (", for sure" if sure else "")
