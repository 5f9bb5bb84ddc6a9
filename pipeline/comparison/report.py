"""Output of a comparison: a table, and a plot of the losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from optimizers.config.messages import counted

_METRICS = {"auc": "test AUC", "logloss": "test logloss"}
_METRICS |= {"calibration": "calibration"}
_SURE = ("auc", "logloss")  # with intervals


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and, of several values, standard deviation."""
    return {
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }


def lines(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Label -> line, logistic regression first."""
    found: dict[str, dict[str, Any]] = {}
    for part in ("baseline", "models", "optimizers"):
        found |= results.get(part, {})
    return found


def rates(optimizer: Mapping[str, Any]) -> str:
    """Rates and decay of an optimizer's section, in a few words."""
    if "penalty" in optimizer:
        values = (f"{value:g}" for value in optimizer["penalty"].values())
        return f"penalty {', '.join(values)}"
    if "groups" in optimizer:
        return " | ".join(map(rates, optimizer["groups"]))
    text = f"rate {optimizer['learning_rate']:g}"
    if optimizer.get("table_rate"):
        text += f", tables {optimizer['table_rate']:g}"
    if optimizer.get("weight_decay"):
        text += f", decay {optimizer['weight_decay']:g}"
    return text


def table(results: Mapping[str, Any]) -> str:
    """The comparison as lines for a person."""
    budget, rows = results["budget"], results["rows"]
    found = lines(results)
    width = max(map(len, found))
    seeds = counted(results["seeds"], "seed")
    share = f"{100 * results['confidence']:g} %"
    text = [
        (
            f"{results['name']}: {rows['train']:,} rows to train,"
            f" {rows['eval']:,} to choose settings, {rows['test']:,} to test;"
            f" {budget['steps']:,} steps, {seeds}; {share}"
            f" intervals, bootstrap by {results['unit']}"
        ),
        "",
        _head(width)
        + f"{'seconds':>12}{'slots, MB':>11}{'tried':>7}  settings",
    ]
    for name, one in found.items():
        if not one["test"]:
            text.append(f"{name:{width}}  failed: {one['failed'][0]}")
            continue
        text.append(
            _judged(name, one, width)
            + f"{_show(one['seconds'], 1):>12}"
            + f"{one['slot_bytes'] / 1e6:>11.2f}{len(one['tried']):>7}"
            + f"  {rates(one['optimizer'])}"
            + (" !" if one["on_edge"] else "")
            + (f" ({len(one['failed'])} failed)" if one["failed"] else "")
        )
    others = next(iter(found.values())).get("outputs", {})
    if others:
        text.insert(1, f"settings were chosen by {results['output']}:")
    for output in others:
        text += ["", f"{output}, on the rows where its label counts:"]
        text.append(_head(width).rstrip())
        text += [
            _judged(name, one["outputs"][output], width).rstrip()
            for name, one in found.items()
            if one["test"]
        ]
    tested = [one for one in found.values() if one["test"]]
    judged = [one for line in tested for one in (line, *_others(line))]
    means = [one["test"][m]["mean"] for one in judged for m in _METRICS]
    if any(map(math.isnan, means)):
        text.append("- is not defined: all test rows have one label")
    if results["searched_by"] != "logloss":
        text.append(
            "settings were chosen by eval AUC: train.loss gives scores, whose"
            " logloss tells nothing of them"
        )
    if any(one["on_edge"] for one in found.values()):
        text.append("! the best of what was tried lies on the edge of it")
    if any(_sure(_apart(one).get("interval")) for one in tested):
        text.append("* the interval of the difference in logloss has no 0")
    return "\n".join(text)


def _others(line: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Results of a line in the outputs besides the first."""
    found: Mapping[str, Any] = line.get("outputs", {})
    return found.values()


def _head(width: int) -> str:
    return (
        f"{'':{width}}"
        + "".join(f"{_METRICS[m]:>17}{'interval':>16}" for m in _SURE)
        + f"{'against the first':>19}{'interval':>18} {'calibration':>17}"
    )


def _judged(name: str, line: Mapping[str, Any], width: int) -> str:
    """The metrics of a line, of one output."""
    test, ends, apart = line["test"], line["intervals"], _apart(line)
    return (
        f"{name:{width}}"
        + "".join(f"{_show(test[m], 4):>17}{_ends(ends[m]):>16}" for m in _SURE)
        + f"{_signed(apart.get('mean')):>19}"
        + f"{_ends(apart.get('interval'), '+'):>18}"
        + ("*" if _sure(apart.get("interval")) else " ")
        + f"{_show(test['calibration'], 4):>17}"
    )


def _apart(line: Mapping[str, Any]) -> Mapping[str, Any]:
    return line["difference"].get("logloss") or {}


def _sure(ends: Sequence[float] | None) -> bool:
    return ends is not None and ends[0] * ends[1] > 0


def _signed(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:+.4f}"


def _ends(ends: Sequence[float] | None, sign: str = "") -> str:
    return " ".join(f"{end:{sign}.4f}" for end in ends) if ends else ""


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG: eval logloss over examples, and over seconds."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, one in lines(results).items():
        if one["curves"]:
            _draw(left, name, one["curves"], "examples")
            _draw(right, name, one["curves"], "seconds")
    left.set_xlabel("examples")
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.set_ylabel("eval logloss")
    right.set_xlabel("seconds of training")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    figure.suptitle(f"{results['name']}, {results['seeds']} seeds")
    figure.savefig(path, dpi=120)


def _draw(axes: Axes, name: str, curves: Any, x: str) -> None:
    """The mean over seeds, and a band of one deviation around it."""
    # With early stopping, curves end where the first one does.
    length = min(map(len, curves))
    points = [curve[:length] for curve in curves]
    across = np.mean([[p[x] for p in curve] for curve in points], 0)
    losses = np.array([[p["logloss"] for p in curve] for curve in points])
    mean, deviation = losses.mean(0), losses.std(0)
    (line,) = axes.plot(across, mean, label=name)
    axes.fill_between(
        across,
        mean - deviation,
        mean + deviation,
        color=line.get_color(),
        alpha=0.15,
        linewidth=0,
    )


def _show(value: Mapping[str, Any], digits: int) -> str:
    if not math.isfinite(value["mean"]):
        return "-"
    text = f"{value['mean']:.{digits}f}"
    if value["deviation"] is not None:
        text += f" ±{value['deviation']:.{digits}f}"
    return text
