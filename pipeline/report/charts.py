"""Charts of a report as inline SVG, in the page's colours."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

# Drawn in these, and then named by the page's variables: light and dark.
_INK, _FAINT = "#010203", "#010204"
_COLOURS = {"candidate": "#010205", "baseline": "#010206"}
_VARIABLES = {
    _INK: "--ink",
    _FAINT: "--line",
    _COLOURS["candidate"]: "--first",
    _COLOURS["baseline"]: "--second",
}
_TICKS = (
    1e-4,
    1e-3,
    0.01,
    0.03,
    0.1,
    0.2,
    0.3,
    0.5,
    0.7,
    0.9,
    0.97,
    0.99,
    0.999,
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "axes.grid": True,
    "font.size": 10,
}


def reliability(curves: Mapping[str, Any]) -> str:
    """Clicks against predictions, by quantile of the prediction."""
    figure, axes = _axes("predicted", "observed")
    top = 0.0
    for model, found in curves.items():
        bins = found["reliability"]
        x = [one["prediction"] for one in bins]
        y = [one["label"] for one in bins]
        ends = [one.get("interval") or [one["label"]] * 2 for one in bins]
        below = [max(0.0, v - low) for v, (low, _) in zip(y, ends, strict=True)]
        above = [max(0.0, up - v) for v, (_, up) in zip(y, ends, strict=True)]
        colour = _COLOURS.get(model, _INK)
        axes.errorbar(
            x, y, [below, above], fmt="o-", ms=3, lw=1, color=colour,
            label=model,
        )  # fmt: skip
        top = max([top, *x, *y])
    axes.plot([0, top], [0, top], "--", lw=1, color=_INK, label="calibrated")
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "reliability")


def roc(curves: Mapping[str, Any]) -> str:
    """True against false positive rate."""
    return _lines(curves, "roc", "fpr", "tpr", diagonal=True)


def precision_recall(curves: Mapping[str, Any]) -> str:
    """Precision against recall."""
    return _lines(curves, "pr", "recall", "precision")


def histogram(curve: Mapping[str, Any]) -> str:
    """Predictions of the two labels, as shares, in log-odds bins."""
    figure, axes = _axes("predicted", "share of the label's rows")
    found = curve["histogram"]
    for name, model in (("negatives", "baseline"), ("positives", "candidate")):
        total = sum(found[name]) or 1
        axes.stairs(
            [n / total for n in found[name]],
            found["edges"],
            color=_COLOURS[model],
            label=name,
        )
    edges = found["edges"]
    if all(0 < edge < 1 for edge in edges):
        axes.set_xscale("logit")
        axes.minorticks_off()
        ticks = [tick for tick in _TICKS if edges[0] <= tick <= edges[-1]]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "histogram")


def calibration(times: Mapping[str, Any]) -> str:
    """Calibration of each model in the course of time."""
    figure, axes = _axes("from (UTC)", "predicted / observed")
    for model, time in times.items():
        spans = [s for s in time["spans"] if s["calibration"] is not None]
        if not spans:
            continue
        y = [span["calibration"] for span in spans]
        ends = [
            span["calibration_interval"] or [span["calibration"]] * 2
            for span in spans
        ]
        below = [max(0.0, v - low) for v, (low, _) in zip(y, ends, strict=True)]
        above = [max(0.0, up - v) for v, (_, up) in zip(y, ends, strict=True)]
        starts = [datetime.datetime.fromisoformat(s["start"]) for s in spans]
        x = [float(date2num(start)) for start in starts]
        axes.errorbar(
            x, y, [below, above], fmt="o-", ms=3, lw=1, label=model,
            color=_COLOURS.get(model, _INK),
        )  # fmt: skip
    axes.axhline(1, ls="--", lw=1, color=_INK)
    axes.xaxis_date("UTC")
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "calibration")


def learning(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Logloss of training and eval rows by step."""
    figure, axes = _axes("step", "logloss")
    colours = list(_COLOURS.values())
    for (name, points), colour in zip(lines.items(), colours, strict=False):
        step = -(-len(points) // 400)  # points that a screen can show
        kept = [*points[::step], points[-1]]
        mark = "o" if len(points) < 20 else ""  # one point is no line
        axes.plot(
            *zip(*kept, strict=True), lw=1.2, color=colour, label=name,
            marker=mark, ms=3,
        )  # fmt: skip
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "learning")


def importance(
    found: Sequence[tuple[str, float, Sequence[float] | None]],
) -> str:
    """How much the logloss rises without each feature, with intervals."""
    figure, axes = _axes("logloss rises by", "")
    figure.set_figheight(max(2.0, 0.8 + 0.2 * len(found)))
    places = list(range(len(found)))[::-1]  # the first on top
    for place, (_, value, ends) in zip(places, found, strict=True):
        low, high = ends or (value, value)
        axes.plot([low, high], [place, place], lw=1, color=_INK)
    values = [value for _, value, _ in found]
    axes.plot(values, places, "o", ms=4, color=_COLOURS["candidate"])
    axes.axvline(0, lw=1, ls="--", color=_INK)
    axes.set_yticks(places, [_short(name) for name, *_ in found])
    return _svg(figure, "importance")


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def course(
    days: Sequence[datetime.datetime],
    values: Sequence[float],
    ends: Sequence[Sequence[float] | None],
    pushed: Sequence[bool],
    metric: str,
    name: str,
) -> str:
    """A metric of runs over the days, with intervals.

    Args:
        days: of the runs.
        values: of the metric.
        ends: its intervals.
        pushed: whether a run pushed its model.
        metric: what it is called.
        name: of the picture in the page.
    """
    figure, axes = _axes("", metric)
    first, second = _COLOURS.values()
    known = [e or (v, v) for v, e in zip(values, ends, strict=True)]
    errors = [
        [max(0.0, v - low) for v, (low, _) in zip(values, known, strict=True)],
        [max(0.0, up - v) for v, (_, up) in zip(values, known, strict=True)],
    ]
    x = date2num(days)
    axes.errorbar(
        x, values, errors, fmt="o-", ms=3, lw=1, color=first, label="run"
    )
    at = [n for n, is_pushed in enumerate(pushed) if is_pushed]
    if at:
        axes.plot(
            [x[n] for n in at], [values[n] for n in at], "s", ms=5,
            color=second, label="pushed",
        )  # fmt: skip
    margin = max(0.5, 0.03 * float(x[-1] - x[0]))  # days
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, name)


def _lines(
    curves: Mapping[str, Any], kind: str, x: str, y: str, diagonal: bool = False
) -> str:
    names = {"fpr": "false positive rate", "tpr": "true positive rate"}
    figure, axes = _axes(names.get(x, x), names.get(y, y))
    for model, found in curves.items():
        axes.plot(
            found[kind][x],
            found[kind][y],
            lw=1.4,
            color=_COLOURS.get(model, _INK),
            label=model,
        )
    if diagonal:
        axes.plot([0, 1], [0, 1], "--", lw=1, color=_INK)
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, kind)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure((4.6, 3.3), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element that fits into a page of several."""
    stream = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r' id="', f' id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{name}">',
        text,
        count=1,
    )
