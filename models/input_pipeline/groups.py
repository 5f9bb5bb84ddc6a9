"""Rows of a group into one batch, and the share of pairs that batches hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a positive and a negative of one group, and rows of them.

    total, seen: pairs of the log, and of the batches of an epoch. rows,
    comparable, compared: of the log, those of groups with both labels, and
    those that a batch compares with another row.
    """

    total: int
    seen: int
    rows: int
    comparable: int
    compared: int

    @property
    def share(self) -> float:
        """Share of the comparable rows that a batch compares."""
        return self.compared / self.comparable if self.comparable else 0.0


def by_group(groups: Ints, random: np.random.Generator | None) -> Ints:
    """An order in which the rows of a group are neighbours.

    A row whose group is below 0 is a group by itself.

    Args:
        groups: of each row, [N].
        random: puts groups, and the rows of each, in random order; None: they
            come as their first row does.
    """
    count = len(groups)
    order = np.arange(count) if random is None else random.permutation(count)
    apart = np.where(groups < 0, -1 - np.arange(count), groups)[order]
    _, first, number = np.unique(apart, return_index=True, return_inverse=True)
    ranks = first if random is None else random.permutation(len(first))
    return order[np.argsort(ranks[number], kind="stable")]


def count_pairs(
    groups: Ints, labels: npt.NDArray[np.int8], partners: int | None = None
) -> tuple[int, int]:
    """Pairs of a positive and a negative of one group, and rows in any.

    Args:
        groups: of each row, [N]; below 0 of none.
        labels: 0 or 1, [N].
        partners: greatest distance of the two rows within their group's
            order; None: any.
    """
    there = groups >= 0
    positive = labels[there] > 0
    _, number, sizes = np.unique(
        groups[there], return_inverse=True, return_counts=True
    )
    if partners is not None and (sizes > partners + 1).any():
        order = np.argsort(number, kind="stable")
        return _within(number[order], positive[order], partners)
    positives = np.bincount(number, positive, len(sizes))
    pairs = positives * (sizes - positives)
    return int(pairs.sum()), int(sizes[pairs > 0].sum())


def _within(
    groups: Ints, positive: npt.NDArray[np.bool_], partners: int
) -> tuple[int, int]:
    """As `count_pairs`, of rows in the order of their groups."""
    pairs, compared = 0, np.zeros(len(groups), bool)
    for apart in range(1, min(partners, len(groups) - 1) + 1):
        found = (groups[apart:] == groups[:-apart]) & (
            positive[apart:] != positive[:-apart]
        )
        pairs += int(found.sum())
        compared[apart:] |= found
        compared[:-apart] |= found
    return pairs, int(compared.sum())


def ranges(starts: Ints, counts: Ints) -> Ints:
    """The integers of each range, one range after the other."""
    first = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - first, counts)
