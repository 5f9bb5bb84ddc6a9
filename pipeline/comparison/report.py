"""Output of a comparison: a table, and a plot of the losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

_METRICS = {"auc": "test AUC", "logloss": "test logloss"}
_METRICS |= {"calibration": "calibration"}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and, of several values, standard deviation."""
    return {
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }


def table(results: Mapping[str, Any]) -> str:
    """The comparison as lines for a person."""
    budget, rows = results["budget"], results["rows"]
    lines = [
        f"{results['name']}: {rows['train']:,} rows to train,"
        f" {rows['eval']:,} to choose settings, {rows['test']:,} to test;"
        f" {budget['steps']:,} steps, {results['seeds']} seeds",
        "",
        f"{'':10}"
        + "".join(f"{title:>18}" for title in _METRICS.values())
        + f"{'seconds':>16}{'slots, MB':>11}  rate, decay",
    ]
    tested = [o for o in results["optimizers"].values() if o["test"]]
    for name, one in results["optimizers"].items():
        if not one["test"]:
            lines.append(f"{name:10}  failed: {one['failed'][0]}")
            continue
        optimizer = one["optimizer"]
        settings = f"{optimizer['learning_rate']:g}"
        if optimizer.get("weight_decay"):
            settings += f", {optimizer['weight_decay']:g}"
        lines.append(
            f"{name:10}"
            + "".join(f"{_show(one['test'][m], 4):>18}" for m in _METRICS)
            + f"{_show(one['seconds'], 1):>16}"
            + f"{one['slot_bytes'] / 1e6:>11.2f}  {settings}"
            + (" !" if one["on_edge"] else "")
            + (f" ({len(one['failed'])} failed)" if one["failed"] else "")
        )
    means = [o["test"][m]["mean"] for o in tested for m in _METRICS]
    if any(map(math.isnan, means)):
        lines.append("- is not defined: all test rows have one label")
    if any(one["on_edge"] for one in results["optimizers"].values()):
        lines.append("! the best of what was tried lies on the edge of it")
    return "\n".join(lines)


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG: eval logloss over examples, and over seconds."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, one in results["optimizers"].items():
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
