"""Linear start: weights of ids and numbers, exact before the network learns.

Wüthrich and Merz, "Editorial: Yes, we CANN!" (ASTIN Bulletin 49, 2019): a
generalized linear model is fitted first and kept, and a network that begins
at nothing learns what is left.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.config.training import Negatives
from models.errors import InputError
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import (
    DENSE,
    IDS,
    LISTS,
    SHALLOW_IDS,
    WEIGHTS,
    Layout,
)
from models.training.linear_fit import Floats, Rows, nearest, path
from models.training.metrics import entropy, logloss_of_logits
from models.variables import local_replica

log = logging.getLogger("lionctr.train")
_PENALTIES = (1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
_PATIENCE = 2  # penalties in a row that are no better
_WORSE = 1.002  # of the least loss: one such is enough
_FOLDS = 5
_ROWS = 50_000  # that choose the penalty
# Eval rows of the rarer label with which they choose a penalty alone.
_EVENTS = 500
# Values that no vocabulary has share an id, whose rows are of many values: what
# few of them say says little of the next.
_UNSEEN = 10.0
_SMALL_OUTPUT = 0.1


@dataclass(frozen=True)
class LinearStart:
    """The linear model that a training began with.

    penalty: chosen by rows that were left out. logloss: of the eval rows.
    constant: logloss of their click rate.
    """

    penalty: float
    logloss: float
    constant: float


def begin(
    model: Any,
    layout: Layout,
    keys: Mapping[str, Keys],
    train: Any,
    held_out: Any,
    negatives: Negatives,
) -> LinearStart:
    """Gives the wide part of `model` the best weights, and keeps them.

    The bias of the output takes the regression's; the rest of the network
    begins near 0.

    Args:
        model: wide and deep, not trained yet.
        layout: of the inputs.
        keys: feature -> meaning of its ids.
        train: batches of (inputs, label), and perhaps the rows' weights.
        held_out: the same, of the eval split.
        negatives: which of them `train` has; `held_out` has all.

    Raises:
        InputError: the model has no linear part.
    """
    if model.name != "wide_deep":
        raise InputError(
            "train.linear_start: received true; accepted with model.name"
            f" {model.name}: false. wide_deep alone has a linear part"
        )
    size = 0
    first: dict[str, int] = {}
    for table in _tables(model):  # one after the other
        starts = table.lookup.first
        first |= {name: size + start for name, start in starts.items()}
        size += table.lookup.rows
    rows = rows_of(train, layout, first, size, negatives.weight)
    scale = scale_of(rows, first, keys)
    judged = rows_of(held_out, layout, first, size, 1.0)
    penalty, weights = best(rows, judged, scale, negatives.shift)
    logits = judged.logits(weights) + negatives.shift
    logloss = float(logloss_of_logits(judged.label, logits, judged.weight))
    _give(model, weights, size)
    rate = np.average(judged.label, weights=judged.weight)
    constant = float(entropy(np.asarray(rate)))
    log.info(
        "linear start: penalty %g, eval logloss %.5f, of the constant %.5f",
        penalty,
        logloss,
        constant,
        extra={"keep": True},
    )
    return LinearStart(penalty, logloss, constant)


def scale_of(
    rows: Rows, first: Mapping[str, int], keys: Mapping[str, Keys]
) -> Floats:
    """Scale of the penalty of each weight, [size + D + 1]; see `path`.

    Args:
        rows: that train.
        first: feature -> where its weights begin.
        keys: feature -> meaning of its ids.
    """
    spread = rows.numbers.var(0)
    scale = np.ones(rows.size + len(spread) + 1)
    for name, start in first.items():
        end = start + keys[name].size
        scale[end - keys[name].oov : end] = _UNSEEN
    scale[rows.size : -1] = np.where(spread > 0, spread, 1.0)
    scale[-1] = 0.0
    return scale


def best(
    rows: Rows, judged: Rows, scale: Floats, shift: float
) -> tuple[float, Floats]:
    """The penalty with the least logloss of rows that were left out.

    `judged` are left out of `rows`. Where few of them tell the labels apart,
    folds of `rows` are left out in turn too. A penalty is a prior, the same
    for any number of rows: of many a sample chooses it.
    """
    few = _sample(rows)
    penalty, weights = _chosen(few, judged, scale, shift)
    if few is not rows:
        weights = nearest(rows, scale, penalty, weights)
    return penalty, weights


def _chosen(
    rows: Rows, judged: Rows, scale: Floats, shift: float
) -> tuple[float, Floats]:
    """As `best`, by all of `rows`."""
    folds = [] if _events(judged) >= _EVENTS else list(_folds(rows))
    least = math.inf, 0.0, np.zeros(0)
    worse = 0
    for (penalty, weights), *others in zip(
        path(rows, scale, _PENALTIES),
        *(path(kept, scale, _PENALTIES) for kept, _ in folds),
        strict=True,
    ):
        loss = judged.logloss(judged.logits(weights) + shift)
        for (_, left_out), (_, fold) in zip(folds, others, strict=True):
            loss += left_out.logloss(left_out.logits(fold))
        worse = 0 if loss < least[0] else worse + 1
        if not worse:
            least = loss, penalty, weights
        elif worse == _PATIENCE or loss > _WORSE * least[0]:
            break
    return least[1:]


def _events(rows: Rows) -> int:
    """Rows of the rarer label."""
    clicked = int(rows.label.sum())
    return min(clicked, len(rows.label) - clicked)


def _sample(rows: Rows) -> Rows:
    """At most _ROWS of them at random, as many of the rarer label as may be.

    They are a quarter, or their share of `rows` where that is more; the
    weight of the others makes up for it.
    """
    count, events = len(rows.label), _events(rows)
    if count <= _ROWS:
        return rows
    rare = rows.label == (2 * rows.label.sum() <= count)
    kept = min(events, round(_ROWS * max(0.25, events / count)))
    share = np.where(rare, kept / events, (_ROWS - kept) / (count - events))
    taken = np.random.default_rng(0).random(count) < share
    sample = rows.part(taken)
    weight = sample.weight * (kept / events / share[taken])
    return replace(sample, weight=weight)


def _folds(rows: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Rows that are kept and left out: each row is left out once.

    A fold has its share of each label; no fold where a label has too few.
    """
    if _events(rows) < _FOLDS:
        return
    order = np.argsort(rows.label, kind="stable")
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % _FOLDS
    for number in range(_FOLDS):
        yield rows.part(fold != number), rows.part(fold == number)


def _give(model: Any, weights: Floats, size: int) -> None:
    start = 0
    for layer in _tables(model):
        end = start + layer.lookup.rows
        layer.table.assign(weights[start:end, None])
        layer.table.trainable = False
        start = end
    if len(weights) > size + 1:
        model.deep.weight.assign(weights[size:-1])
        model.deep.weight.trainable = False
    out = model.deep.out
    out.bias.assign(weights[-1:])
    kernel = local_replica(out.kernel).numpy()
    out.kernel.assign(_SMALL_OUTPUT * kernel)


def _tables(model: Any) -> list[Any]:
    """Layers with a weight of each id."""
    return [one for one in (model.wide, model.shallow) if one is not None]


def rows_of(
    data: Any,
    layout: Layout,
    first: Mapping[str, int],
    size: int,
    negative_weight: float,
) -> Rows:
    """All rows of `data`, with the first of their labels.

    Args:
        data: batches of (inputs, label), and perhaps the rows' weights.
        layout: of the inputs.
        first: feature -> where its weights begin.
        size: number of weights of ids.
        negative_weight: of a row without a click.
    """
    columns = layout.single + layout.shallow
    keys = [IDS] * bool(layout.single) + [SHALLOW_IDS] * bool(layout.shallow)
    single, numbers, labels, weights = [], [], [], []
    lists: dict[str, list[Any]] = {f.name: [] for f in layout.lists}
    features = {f.name: f for f in layout.lists}
    rows = 0
    for inputs, label, *weight in data:
        count = len(label)
        weights += [one.numpy() for one in weight]
        if keys:
            single.append(
                np.concatenate([inputs[key].numpy().T for key in keys])
            )
        numbers.append(
            inputs[DENSE].numpy() if layout.dense else np.zeros((count, 0))
        )
        for name, parts in lists.items():
            ragged = inputs[LISTS + name]
            lengths = ragged.row_lengths().numpy()
            of_row = np.repeat(np.arange(count), lengths)
            ids = ragged.flat_values.numpy() + first[name]
            shares = np.ones(len(ids))
            if features[name].pool == "last":
                shares[1:] = of_row[1:] != of_row[:-1]
            if features[name].weighted:
                given = inputs[WEIGHTS + name].flat_values.numpy()
                shares = given.astype(np.float64)
            if features[name].pool != "sum":
                sums = np.bincount(of_row, shares, count)[of_row]
                shares /= np.where(sums > 0, sums, 1.0)
            parts.append((rows + of_row, ids, shares))
        labels.append(label.numpy().reshape(count, -1)[:, 0])
        rows += count
    clicked = np.concatenate(labels).astype(np.float64)
    weighed = np.where(clicked > 0, 1.0, negative_weight)
    if weights:  # a penalty counts as many rows as without them
        given = np.concatenate(weights).astype(np.float64)
        weighed *= given / given.mean()
    return Rows(
        np.concatenate(single, 1) if keys else np.zeros((0, rows), np.int64),
        [first[f.name] for f in columns],
        [
            (np.concatenate(of), np.concatenate(ids), np.concatenate(shares))
            for of, ids, shares in (
                zip(*parts, strict=True) for parts in lists.values()
            )
        ],
        np.concatenate(numbers).astype(np.float64),
        clicked,
        weighed,
        size,
    )
