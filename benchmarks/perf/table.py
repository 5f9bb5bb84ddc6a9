"""A table of figures and goals: printed line by line, and kept for JSON."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.measure import Seconds

# Unit -> how its figures are printed.
_SHOWN = {
    "seconds": "{:.1f} s",
    "cpu_seconds": "{:.1f} s CPU",
    "ms": "{:.2f} ms",
    "cpu_ms": "{:.2f} ms CPU",
    "rows_per_s": "{:,.0f} rows/s",
    "rows_per_cpu_s": "{:,.0f} rows/s CPU",
    "requests_per_s": "{:,.0f} requests/s",
    "gb_per_s": "{:.1f} GB/s",
    "gflop_per_s": "{:.0f} GFLOP/s",
    "mib": "{:,.0f} MiB",
    "gib": "{:.2f} GiB",
    "ratio": "{:.2f}x",
    "share": "{:.0%}",
}


class Table:
    """Figures of one benchmark.

    Args:
        title: the benchmark and its size.
    """

    def __init__(self, title: str) -> None:
        print(f"\n{title}\n")
        self.title = title
        self.figures: list[dict[str, Any]] = []

    @property
    def missed(self) -> list[str]:
        """Names of the goals that were missed."""
        return [f["name"] for f in self.figures if not f.get("met", True)]

    def line(self, name: str, **figures: float) -> None:
        """Print figures without a goal, unit -> value."""
        self._add({"name": name, **figures}, _text(figures))

    def time(self, name: str, took: Seconds, rows: int = 0) -> None:
        """Print seconds, and rows a second if `rows` is given."""
        rates = {"rows_per_s": rows / took.wall} if rows else {}
        self.line(name, seconds=took.wall, cpu_seconds=took.cpu, **rates)

    def goal(
        self,
        name: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        **figure: float,
    ) -> None:
        """Print one figure, its goal and the verdict."""
        ((unit, value),) = figure.items()
        low = at_least if at_least is not None else -float("inf")
        high = at_most if at_most is not None else float("inf")
        met = low <= value <= high
        bound, sign = (at_most, "<=") if at_least is None else (at_least, ">=")
        goal = f"goal {sign} {_text({unit: bound or 0.0})}"
        self._add(
            {"name": name, **figure, "goal": f"{sign} {bound:g}", "met": met},
            f"{_text(figure)}   {goal}: {'met' if met else 'MISSED'}",
        )

    def _add(self, figure: dict[str, Any], text: str) -> None:
        self.figures.append(figure)
        print(f"  {figure['name']:<44} {text}", flush=True)


def _text(figures: dict[str, float]) -> str:
    return "  ".join(
        f"{_SHOWN[unit].format(value):>14}" for unit, value in figures.items()
    )


def load() -> list[float]:
    """Load average over 1, 5 and 15 minutes."""
    return [round(one, 1) for one in os.getloadavg()]
