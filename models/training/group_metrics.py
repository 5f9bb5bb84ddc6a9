"""Ranking metrics within groups of rows: GAUC, NDCG@k, recall@k."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.training.metrics import Array, ratio

COLUMNS = 6  # of `group_sums`


def group_sums(
    groups: npt.NDArray[np.int64],
    labels: Array,
    scores: npt.NDArray[np.floating],
    weights: Array,
    k: int,
) -> Array:
    """Sums that the metrics of groups are made of, [groups, COLUMNS].

    A group's AUC counts by the weight of its rows (its impressions), and only
    with rows of both labels. Its NDCG and recall count by the mean weight of
    its rows, and only with a positive; of equal scores every order counts
    alike, as in scikit-learn's `ndcg_score`.

    Args:
        groups: of each row, 0, 1, ...; [N].
        labels: 0 or 1; [N].
        scores: [N].
        weights: [N].
        k: the length of the list that NDCG and recall look at.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    if not count:
        return np.zeros((0, COLUMNS))
    order = np.lexsort((scores, groups))
    g, s, w = groups[order], scores[order], weights[order]
    y = labels[order] > 0.5
    new = np.r_[True, (g[1:] != g[:-1]) | (s[1:] != s[:-1])]
    starts = np.flatnonzero(new)
    tie = np.cumsum(new) - 1  # number of the tie of each row
    of_tie = g[starts]

    # AUC: the negatives below each tie, in its group.
    positive = np.add.reduceat(w * y, starts)
    negative = np.add.reduceat(w * ~y, starts)
    below = np.cumsum(negative) - negative
    first = np.searchsorted(of_tie, np.arange(count))
    below -= below[np.minimum(first, len(below) - 1)][of_tie]
    won = np.bincount(of_tie, positive * (below + negative / 2), count)
    positives = np.bincount(of_tie, positive, count)
    negatives = np.bincount(of_tie, negative, count)
    impressions = positives + negatives
    ranked = (positives > 0) & (negatives > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = np.where(ranked, won / (positives * negatives), 0.0)

    # NDCG and recall: places from the top, ties at their mean label.
    sizes = np.bincount(g, minlength=count)
    place = np.cumsum(sizes)[g] - np.arange(len(g))  # 1 is the top
    mean = np.add.reduceat(y.astype(np.float64), starts)
    mean /= np.diff(np.r_[starts, len(g)])
    top = place <= k
    gain = mean[tie[top]]
    gained = np.bincount(g[top], gain / np.log2(place[top] + 1), count)
    found = np.bincount(g[top], gain, count)
    clicked = np.bincount(g, y, count)
    ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(k) + 2))]
    best = ideal[np.minimum(clicked, k).astype(np.int64)]
    has = clicked > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ndcg = np.where(has, gained / best, 0.0)
        recall = np.where(has, found / clicked, 0.0)
        weight = np.where(has, impressions / sizes, 0.0)
    counted = np.where(ranked, impressions, 0.0)
    return np.stack(
        [
            impressions,
            counted,
            counted * auc,
            weight,
            weight * ndcg,
            weight * recall,
        ],
        axis=1,
    )


FROM_GROUPS: dict[str, Callable[[Array], Array]] = {
    "gauc": lambda s: ratio(s[..., 2], s[..., 1]),
    "ndcg_at_k": lambda s: ratio(s[..., 4], s[..., 3]),
    "recall_at_k": lambda s: ratio(s[..., 5], s[..., 3]),
}


def left_out(sums: Array) -> float:
    """Share of impressions in groups without rows of both labels."""
    return float(1 - sums[1] / sums[0]) if sums[0] > 0 else 0.0


def gauc(
    groups: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> float:
    """AUC of each group, weighted by impressions; NaN without any."""
    return _of("gauc", groups, labels, scores, weights, 1)


def ndcg_at_k(
    groups: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    k: int = 10,
) -> float:
    """Mean NDCG@k of the groups with a positive."""
    return _of("ndcg_at_k", groups, labels, scores, weights, k)


def recall_at_k(
    groups: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    k: int = 10,
) -> float:
    """Mean share of a group's positives that are among its k best rows."""
    return _of("recall_at_k", groups, labels, scores, weights, k)


def _of(
    name: str,
    groups: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    k: int,
) -> float:
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    y = np.asarray(labels, np.float64)
    s = np.asarray(scores, np.float64)
    if np.isnan(s).any():
        return float("nan")
    w = np.ones_like(y) if weights is None else np.asarray(weights, np.float64)
    each = group_sums(codes.astype(np.int64), y, s, w, k)
    return float(FROM_GROUPS[name](each.sum(0)))
