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
    offsets,
)
from models.training.linear_curves import (
    PIECES,
    Ramps,
    Verdict,
    judge,
    ramps,
    steeper,
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
    constant: logloss of their click rate. curves: answer of the rows that were
    left out to curves of the numbers; None: nobody asked.
    """

    penalty: float
    logloss: float
    constant: float
    curves: Verdict | None = None


@dataclass(frozen=True)
class Fit:
    """Weights of ids and numbers, to be given to a model.

    start: how good they are. weights: of the ids of all features in order, of
    the numbers, of the ramps of their curves, and the bias. size: ids.
    ramps: None: numbers have no curves.
    """

    start: LinearStart
    weights: Floats
    size: int
    ramps: Ramps | None

    @property
    def pieces(self) -> int:
        """Pieces of a curve; 0: there are no curves."""
        return 0 if self.ramps is None else PIECES

    def give(self, model: Any) -> None:
        """Gives the wide part of `model` the weights, and keeps them.

        The bias of the output takes the regression's; the rest of the network
        begins near 0.

        Args:
            model: wide and deep, of a layout with `pieces`, not trained yet.

        Raises:
            InputError: the model has no linear part.
        """
        check(model.name)
        start = 0
        for layer in _tables(model):  # one after the other
            end = start + layer.lookup.rows
            layer.table.assign(self.weights[start:end, None])
            layer.table.trainable = False
            start = end
        deep = model.deep
        if deep.numbers:
            numbers = self.weights[self.size : self.size + deep.numbers]
            deep.weight.assign(numbers)
            deep.weight.trainable = False
        if self.ramps is not None:
            steps = self.weights[self.size + deep.numbers : -1]
            deep.curves.give(
                self.ramps.left, self.ramps.width, self.ramps.heights(steps)
            )
        deep.out.bias.assign(self.weights[-1:])
        kernel = local_replica(deep.out.kernel).numpy()
        deep.out.kernel.assign(_SMALL_OUTPUT * kernel)


def check(architecture: str) -> None:
    """Refuses an architecture without a linear part.

    Raises:
        InputError: it is not wide and deep.
    """
    if architecture != "wide_deep":
        raise InputError(
            "train.linear_start: received true; accepted with model.name"
            f" {architecture}: false. wide_deep alone has a linear part"
        )


def fit(
    layout: Layout,
    keys: Mapping[str, Keys],
    train: Any,
    held_out: Any,
    negatives: Negatives,
    curves: bool | str = False,
) -> Fit:
    """Fits the best weights of ids and numbers, and curves of the numbers.

    Args:
        layout: of the inputs.
        keys: feature -> meaning of its ids.
        train: batches of (inputs, label), and perhaps the rows' weights.
        held_out: the same, of the eval split.
        negatives: which of them `train` has; `held_out` has all.
        curves: whether numbers have curves; `auto`: if rows that were left out
            find them better.
    """
    first, size = places(layout)
    rows = rows_of(train, layout, first, size, negatives.weight)
    judged = rows_of(held_out, layout, first, size, 1.0)
    shift = negatives.shift
    few = _sample(rows)
    scale = scale_of(rows, first, keys)
    penalty, weights = _chosen(few, judged, scale, shift)
    verdict, bent = None, ramps(rows.numbers) if curves else None
    if bent is not None:
        some, judges = bent.beside(few), bent.beside(judged)
        with_ramps = scale_of(some, first, keys)
        verdict, found = judge(
            [(some, judges, shift), *_left_out(some, judges)],
            with_ramps,
            len(bent.bends),
            penalty,
            weights,
            asked=curves is True,
        )
        if verdict.penalty is None:
            bent = None
        else:
            weights, judged = found, judges
            rows = rows if few is rows else bent.beside(rows)
            times = verdict.penalty / penalty
            scale = steeper(with_ramps, len(bent.bends), times)
    if few is not rows:
        weights = nearest(rows, scale, penalty, weights)
    logits = judged.logits(weights) + shift
    logloss = float(logloss_of_logits(judged.label, logits, judged.weight))
    rate = np.average(judged.label, weights=judged.weight)
    constant = float(entropy(np.asarray(rate)))
    log.info(
        "linear start: penalty %g, eval logloss %.5f, of the constant %.5f",
        penalty,
        logloss,
        constant,
        extra={"keep": True},
    )
    start = LinearStart(penalty, logloss, constant, verdict)
    return Fit(start, weights, size, bent)


def places(layout: Layout) -> tuple[dict[str, int], int]:
    """Feature -> where its weights begin; and the number of those of ids."""
    return offsets({f.name: f.size for f in (*layout.ids, *layout.shallow)})


def scale_of(
    rows: Rows, first: Mapping[str, int], keys: Mapping[str, Keys]
) -> Floats:
    """Scale of the penalty of each weight, [size + D + 1]; see `path`.

    Args:
        rows: that train.
        first: feature -> where its weights begin.
        keys: feature -> meaning of its ids.
    """
    scale = np.ones(rows.size + rows.numbers.shape[1] + 1)
    for name, start in first.items():
        end = start + keys[name].size
        scale[end - keys[name].oov : end] = _UNSEEN
    spread = rows.numbers.var(0)
    scale[rows.size : -1] = np.where(spread > 0, spread, 1.0)
    scale[-1] = 0.0
    return scale


def best(
    rows: Rows, judged: Rows, scale: Floats, shift: float
) -> tuple[float, Floats]:
    """The best penalty, and the weights of all `rows` under it.

    Args:
        rows: that train.
        judged: that are left out of them.
        scale: of the penalty of each weight.
        shift: addend of the logits of `judged`.
    """
    few = _sample(rows)
    penalty, weights = _chosen(few, judged, scale, shift)
    if few is not rows:
        weights = nearest(rows, scale, penalty, weights)
    return penalty, weights


def _chosen(
    rows: Rows, judged: Rows, scale: Floats, shift: float
) -> tuple[float, Floats]:
    """The penalty with the least logloss of rows that were left out.

    `judged` are left out of `rows`. Where few of them tell the labels apart,
    folds of `rows` are left out in turn too. A penalty is a prior, the same
    for any number of rows: of many a sample chooses it.
    """
    folds = _left_out(rows, judged)
    least = math.inf, 0.0, np.zeros(0)
    worse = 0
    for (penalty, weights), *others in zip(
        path(rows, scale, _PENALTIES),
        *(path(kept, scale, _PENALTIES) for kept, _, _ in folds),
        strict=True,
    ):
        loss = judged.logloss(judged.logits(weights) + shift)
        for (_, left_out, _), (_, fold) in zip(folds, others, strict=True):
            loss += left_out.logloss(left_out.logits(fold))
        worse = 0 if loss < least[0] else worse + 1
        if not worse:
            least = loss, penalty, weights
        elif worse == _PATIENCE or loss > _WORSE * least[0]:
            break
    return least[1:]


def _left_out(rows: Rows, judged: Rows) -> list[tuple[Rows, Rows, float]]:
    """Folds of `rows`, where few of `judged` tell the labels apart.

    Each has the rows that are kept, those left out, and 0: the addend of the
    latter's logits.
    """
    if _events(judged) >= _EVENTS:
        return []
    return [(kept, left_out, 0.0) for kept, left_out in _folds(rows)]


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
