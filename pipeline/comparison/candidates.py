"""Where the search of each optimizer starts, and how it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from optimizers.config.automatic import rates_of
from optimizers.config.catalog import FIXED_RATE, TABLE_ARGUMENTS

# Exponents of 10 around the start.
_GRIDS = {
    "learning_rate": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "weight_decay": (-0.5, 0.0, 0.5),
}
_ADAMW_DECAY = 1e-2
# arXiv 2302.06675, section 5: a rate 3 to 10 times smaller than AdamW's, and
# a decay 3 to 10 times larger.
_RATIO = math.sqrt(10)


def start(
    name: str,
    config: Mapping[str, Any],
    adamw: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The optimizer's section that the search begins with.

    The config's own settings count where it names this optimizer, its
    schedule for all.

    Args:
        name: of the optimizer.
        config: the config's `optimizer` section.
        adamw: AdamW's section, of which Lion's rate and decay are derived.
    """
    own = dict(config) if config.get("name") == name else {}
    for key in TABLE_ARGUMENTS:  # one rate is searched
        own.pop(key, None)
    spec: dict[str, Any] = {"name": name, **own}
    if name == "lion":
        adamw = adamw or start("adamw", config)
        spec["learning_rate"] = _short(adamw["learning_rate"] / _RATIO)
        decay = adamw.get("weight_decay") or 0.0  # null is none, too
        spec["weight_decay"] = _short(decay * _RATIO)
    else:
        spec.setdefault(
            "learning_rate", rates_of(name, "", 1.0)["learning_rate"]
        )
    if name == "adamw":
        spec.setdefault("weight_decay", _ADAMW_DECAY)
    schedule = config.get("schedule")
    if schedule is not None and name not in FIXED_RATE:
        spec["schedule"] = schedule
    return spec


def search(
    spec: Mapping[str, Any], loss: Callable[[dict[str, Any]], float]
) -> tuple[dict[str, Any], bool]:
    """The rate with the least loss, then the weight decay if there is any.

    Returns:
        The optimizer's section, and whether its best rate or decay is the
        last one that was tried.
    """
    best, on_edge = dict(spec), False
    for key, grid in _GRIDS.items():
        if not best.get(key):
            continue
        at = partial(_scaled, best, key)
        exponent, edge = minimum(
            lambda e, at=at: loss(at(e)),  # type: ignore[misc]
            grid,
            2 * len(grid),
        )
        best, on_edge = at(exponent), on_edge or edge
    return best, on_edge


def _scaled(spec: dict[str, Any], key: str, exponent: float) -> dict[str, Any]:
    return spec | {key: _short(spec[key] * 10**exponent)}


def _short(value: float) -> float:
    """Settings are shown, and are the name of a training on disk."""
    return float(f"{value:.2g}")


def minimum(
    loss: Callable[[float], float], grid: Sequence[float], limit: int
) -> tuple[float, bool]:
    """Where `loss` is least among the grid's points.

    The grid grows by its step where its edge is best, to `limit` points at
    most; also whether an edge is best all the same.
    """
    points = list(grid)
    step = points[1] - points[0]
    values = {point: loss(point) for point in points}
    while True:
        best = min(points, key=values.__getitem__)
        if points[0] < best < points[-1]:
            return best, False
        if len(points) >= limit:
            return best, True
        new = best - step if best == points[0] else best + step
        values[new] = loss(new)
        points = sorted(values)
