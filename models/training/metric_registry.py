"""Names of the metrics, one place for config, gate, evaluation and search."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from optimizers.extension import Registry

Array = npt.NDArray[np.float64]
Better = Literal["higher", "lower", "one", ""]
_OWN = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


@dataclass(frozen=True)
class Metric:
    """What is known of a metric besides how it is computed.

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
    shape get their bootstrap intervals from one matrix product.
    """

    def terms(self, labels: Array, probabilities: Array) -> Array:
        """[N], [N] -> [N, K]: what is summed."""
        ...

    def value(self, sums: Array) -> Array:
        """[..., 1 + K] -> [...]: sum of weights, then of weighted terms."""
        ...


def check(name: str) -> str:
    """`name`, if there is such a metric.

    Raises:
        ValueError: with the names that are accepted.
    """
    if name in REGISTERED or _OWN.match(name):
        return name
    close = difflib.get_close_matches(name, REGISTERED, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(
        f"unknown metric {name!r}{hint}. Accepted: {', '.join(REGISTERED)},"
        " or package.module:Name of your own"
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


def is_own(name: str) -> bool:
    """Whether `name` is `package.module:Name`."""
    return ":" in name


def own(name: str) -> Any:
    """The `SumMetric` that `package.module:Name` names, made.

    Raises:
        InputError: it cannot be imported, or is none.
    """
    from models.errors import InputError

    field = "evaluate.metrics"
    wanted = f"class {name.partition(':')[2]} with terms and value"
    registry = Registry("metric", field, {}, wanted)
    try:
        made = registry.load(name)()
    except ValueError as error:
        raise InputError(str(error)) from error
    for method in ("terms", "value"):
        if not callable(getattr(made, method, None)):
            raise InputError(
                f"{field}: {name!r} has no method {method!r}. Wanted: {wanted}"
            )
    return made


def names_of(thresholds: Iterable[str], grouped: bool) -> list[str]:
    """Metrics of an evaluation: all registered ones, and one's own.

    Args:
        thresholds: names in the config.
        grouped: whether there are groups.
    """
    registered = [
        m.name for m in REGISTERED.values() if grouped or m.needs != "group"
    ]
    return registered + sorted(name for name in thresholds if is_own(name))
