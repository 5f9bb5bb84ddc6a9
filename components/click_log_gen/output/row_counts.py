"""What became of the rows: counts, and the reasons against some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.click_log_gen.columns.rows import Rejected

_SHOWN = 120  # bytes of a rejected row that are kept as an example


@dataclass
class Tally:
    """Counts by name, and for each reason how often and an example."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, str]] = field(default_factory=dict)

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
        # Of several examples the one of the first part stays.
        self.examples = {**other["examples"], **self.examples}

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types; the commonest reasons first."""
        return {
            "counts": dict(self.counts),
            "reasons": dict(self.reasons.most_common()),
            "examples": self.examples,
        }


def _shown(item: Rejected) -> dict[str, str]:
    row = item.row[:_SHOWN].decode(errors="backslashreplace")
    return {"file": item.path, "where": item.where, "row": row}
