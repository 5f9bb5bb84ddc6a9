"""Names of the metrics, one place for config, gate, evaluation and search."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.errors import InputError
from optimizers.extension import Registry

Array = npt.NDArray[np.float64]
Better = Literal["higher", "lower", "one", ""]


@dataclass(frozen=True)
class Metric:
    """Properties of a metric besides how it is computed.

    Attributes:
        name: in the config, in TFMA's files and in summary.json.
        better: "one" is calibration's; "" where neither side is better.
        low: least value there is, or None.
        high: largest value there is, or None.
        needs: what it is undefined without: a positive row, rows of both
            labels, groups, or nothing ("").
        digits: decimals that a table shows.
    """

    name: str
    better: Better
    low: float | None = 0.0
    high: float | None = None
    needs: Literal["", "positive", "both", "group"] = ""
    digits: int = 5


REGISTERED = {
    metric.name: metric
    for metric in (
        Metric("auc", "higher", high=1.0, needs="both"),
        Metric("pr_auc", "higher", high=1.0, needs="positive"),
        Metric("logloss", "lower"),
        Metric("normalized_entropy", "lower", needs="both"),
        Metric("calibration", "one", needs="positive"),
        Metric("expected_calibration_error", "lower", high=1.0),
        Metric("brier", "lower", high=1.0),
        Metric("rmse", "lower", high=1.0),
        Metric("gauc", "higher", high=1.0, needs="group"),
        Metric("ndcg_at_k", "higher", high=1.0, needs="group"),
        Metric("recall_at_k", "higher", high=1.0, needs="group"),
        Metric("example_count", "", digits=0),
        Metric("positives", "", digits=0),
    )
}
COUNTS = ("example_count", "positives")


class SumMetric(Protocol):
    """A metric of one's own: a function of weighted sums over rows.

    `package.module:Name` names a class without arguments. Metrics of this
    shape get their bootstrap intervals from one matrix product. An objective
    of a search also says `better`, "higher" or "lower".
    """

    def terms(self, labels: Array, probabilities: Array) -> Array:
        """[N], [N] -> [N, K]: what is summed."""
        ...

    def value(self, sums: Array) -> Array:
        """[..., 1 + K] -> [...]: sum of weights, then of weighted terms."""
        ...


METRICS = Registry(
    "metric",
    "evaluate.metrics",
    REGISTERED,
    "a class without arguments that has the methods terms and value",
)
# Metrics that a search may go by: better one way, defined without groups.
OBJECTIVES = Registry(
    "objective",
    "tune.objective",
    {
        name: metric
        for name, metric in REGISTERED.items()
        if metric.better in ("higher", "lower") and metric.needs != "group"
    },
    "a metric whose class also says better = 'higher' or 'lower'",
)


def limits(name: str) -> tuple[float, float]:
    """The least and the largest value that a metric can have."""
    known = REGISTERED.get(name)
    low = known.low if known else None
    high = known.high if known else None
    return (
        -math.inf if low is None else low,
        math.inf if high is None else high,
    )


def own(name: str, registry: Registry = METRICS) -> Any:
    """The `SumMetric` that `package.module:Name` names, made.

    Raises:
        InputError: it cannot be imported, or is none.
    """
    try:
        made = registry.make(name, needs="terms value")
    except ValueError as error:
        raise InputError(str(error)) from error
    if registry is OBJECTIVES:
        received = getattr(made, "better", None)
        if received not in ("higher", "lower"):
            raise InputError(
                f"{registry.field}: {name!r} has better = {received!r}."
                f" Accepted: {registry.wanted}"
            )
    return made


def better(name: str) -> Better:
    """Which values of an objective are better."""
    known = REGISTERED.get(name)
    if known:
        return known.better
    found: Better = own(name, OBJECTIVES).better
    return found


def names_of(thresholds: Iterable[str], grouped: bool) -> list[str]:
    """Metrics of an evaluation: all registered ones, and one's own.

    Args:
        thresholds: names in the config.
        grouped: whether there are groups.
    """
    registered = [
        m.name for m in REGISTERED.values() if grouped or m.needs != "group"
    ]
    return registered + sorted(
        name for name in thresholds if METRICS.is_own(name)
    )
