"""The metrics of a run as lines: candidate, baseline, difference, intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.config.metric_registry import COUNTS

_NAME = 26  # characters


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A table of `report`, see `components.evaluator.evaluation`.

    A difference is marked with `*` where its interval does not hold 0. A table
    of each output after the first follows.
    """
    yield from _table(report)
    for name, part in report.get("outputs", {}).items():
        yield f"  {name}, of the label {part['label']}:"
        yield from _table(part)
    for note in report["gate"]["notes"]:
        yield f"  {note}"


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    paired = len(report["models"]) > 1
    share = f"{100 * report['confidence']:g} %"
    unit = report["bootstrap"]["unit"]
    yield (
        f"  metrics of the {report['split']} split: {report['rows']:,} rows,"
        f" {report['positives']:,} positives; {share} intervals, bootstrap by"
        f" {unit}"
    )
    weights = report.get("weights")
    if weights:
        yield (
            f"  weighted: the rows' weights sum to {weights['rows']:,.6g},"
            f" those of positives to {weights['positives']:,.6g}"
        )
    heads = f"{'candidate':>9}  {'interval':^18}"
    if paired:
        heads += f"  {'baseline':>8}  {'difference':>10}  {'interval':^20}"
    yield f"  {'':<{_NAME}} {heads}".rstrip()
    for name, entry in report["metrics"].items():
        if name in COUNTS:
            continue
        row = f"{_number(entry['value']):>9}  {_interval(entry['interval'])}"
        if paired:
            bounds = entry["difference_interval"]
            row += (
                f"  {_number(entry['baseline']):>8}"
                f"  {_number(entry['difference'], '+'):>10}"
                f"  {_interval(bounds, '+')}"
            )
            if bounds is not None and bounds[0] * bounds[1] > 0:
                row += "*"
        yield f"  {name:<{_NAME}} {row}".rstrip()
    constant = report["constant"]["logloss"]
    if constant is not None:
        yield f"  {'logloss of the constant':<{_NAME}} {constant:>9.5f}"
    yield from _calibrated(report.get("calibration") or {})
    served = report.get("as_served") or {}
    if served:
        yield "  the same as served, without the features of training alone:"
    for name, entry in served.items():
        if name not in COUNTS:
            row = (
                f"{_number(entry['value']):>9}  {_interval(entry['interval'])}"
            )
            yield f"  {name:<{_NAME}} {row}".rstrip()


def _calibrated(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "  before the calibration, and what it changed:"
    for name, entry in found["metrics"].items():
        if name not in COUNTS:
            row = (
                f"{_number(entry['baseline']):>9}"
                f"  {_interval(entry['baseline_interval'])}"
                f"  {_number(entry['difference'], '+'):>10}"
                f"  {_interval(entry['difference_interval'], '+')}"
            )
            yield f"  {name:<{_NAME}} {row}".rstrip()


def fit(training: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Split -> metric -> value, of the trained model; {} without them.

    Args:
        training: the Trainer's `training.json`.
    """
    return {
        split: {
            name: training[f"{split}_{name}"] for name in ("logloss", "auc")
        }
        for split in ("train", "eval")
        if f"{split}_logloss" in training
    }


def fit_lines(
    found: Mapping[str, Mapping[str, float | None]], several: bool = False
) -> Iterator[str]:
    """Train against eval, in a line: a gap tells that rows were memorized.

    Args:
        found: see `fit`.
        several: say of which labels the metrics are.
    """
    if len(found) < 2:
        return
    parts = [
        f"{name}{of} {_number(found['train'][name])} on train,"
        f" {_number(found['eval'][name])} on eval"
        for name, of in (
            ("logloss", " (mean of the labels)" * several),
            ("auc", " (first label)" * several),
        )
    ]
    yield f"  {'train against eval':<{_NAME}} {'; '.join(parts)}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.5f}"


def _interval(bounds: Sequence[float] | None, sign: str = "") -> str:
    text = (
        "-"
        if bounds is None
        else f"{bounds[0]:{sign}.5f} {bounds[1]:{sign}.5f}"
    )
    return f"{text:^{20 if sign else 18}}"
