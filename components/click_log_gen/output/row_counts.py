"""Counts of rows, and the reasons against some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from components.click_log_gen.columns.event_time import clock_digits
from components.click_log_gen.columns.rows import Rejected

_SHOWN = 120  # bytes of a rejected row that are kept as an example


@dataclass
class RowCounts:
    """Counts by name, and for each reason how often and an example.

    times: name -> first and last of its rows, in microseconds since 1970.
    clock: `clock_digits` of all times.
    weights: name -> sums of the weights of negatives and of positives.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, str]] = field(default_factory=dict)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)
    clock: int = 0
    weights: dict[str, list[float]] = field(default_factory=dict)

    def see(self, name: str, times: npt.NDArray[np.int64]) -> None:
        """Widens the span of `name` to these times."""
        if len(times):
            self._widen(name, int(times.min()), int(times.max()))
            self._note(clock_digits(times))

    def weigh(self, name: str, positive: bool, weight: float) -> None:
        """Adds a sum of weights."""
        self.weights.setdefault(name, [0.0, 0.0])[positive] += weight

    def _note(self, digits: int) -> None:
        self.clock = -1 if -1 in (digits, self.clock) else self.clock | digits

    def _widen(self, name: str, first: int, last: int) -> None:
        low, high = self.times.get(name, (first, last))
        self.times[name] = min(low, first), max(high, last)

    def reject(self, rows: Sequence[Rejected]) -> None:
        """Counts `rows` as rejected, and by their reasons."""
        self.counts["rejected"] += len(rows)
        self.explain(rows)

    def explain(self, rows: Iterable[Rejected]) -> None:
        """Counts the reasons of rows that are counted elsewhere."""
        for row in rows:
            self.reasons[row.reason] += 1
            self.examples.setdefault(row.reason, _shown(row))

    def add(self, other: Mapping[str, Any]) -> None:
        """Adds what `to_json` of another tally gave."""
        self.counts.update(other["counts"])
        self.reasons.update(other["reasons"])
        for name, (first, last) in other["times"].items():
            self._widen(name, first, last)
        self._note(other["clock"])
        for name, sums in other.get("weights", {}).items():
            for label in (False, True):
                self.weigh(name, label, sums[label])
        # The first part's example stays.
        self.examples = {**other["examples"], **self.examples}

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types; the commonest reasons first."""
        return {
            "counts": dict(self.counts),
            "reasons": dict(self.reasons.most_common()),
            "examples": self.examples,
            "times": self.times,
            "clock": self.clock,
            **({"weights": self.weights} if self.weights else {}),
        }


def _shown(item: Rejected) -> dict[str, str]:
    row = item.row[:_SHOWN].decode(errors="backslashreplace")
    return {"file": item.path, "where": item.where, "row": row}
