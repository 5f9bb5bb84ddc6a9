"""Few users who come in a burst, with weak histories: does `din` lose there?

    python -m benchmarks.studies.bursts [--taste 0 0.3] [--log RATINGS.inter]
        [--contenders dcn_v2 din ...] [--rates 1.0] [--seeds 2]

A log of MovieLens' shape: 1,682 items, users who rate some 100 of them within a
short time, and nearly never return. A label is of the item, the user's level
and, by `--taste`, what the user likes; 0: histories tell nothing but the level.
The first 80,000 rows train with the settings of `auto`, the next 10,000 choose
the best weights, the others are judged. `--log` takes MovieLens itself.

`dcn_v2` sees user and item; the others see what the user clicked before too.
`moment` is the correlation of 20 items' logits with the truth, for one user at
one time: unlike GAUC by user, it does not mind what the level does meanwhile.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.studies.histories import gauc

_ROWS, _TRAIN, _END = 140_000, 80_000, 90_000
_ITEMS, _WIDTH, _AT_ONCE, _MOST = 1682, 6, 8, 50
_MOMENTS, _CANDIDATES = 1500, 20


class Log(NamedTuple):
    """Rows by time, and of generated ones the truth: see `drawn`."""

    rows: pd.DataFrame
    chance: Any = None
    quality: Any = None
    likes: Any = None


def drawn(taste: float, seed: int) -> Log:
    """A log; `likes` is what each user's taste adds to the items' logits."""
    rng = np.random.default_rng([seed, 7])
    share = 1 / (np.arange(_ITEMS) + 20.0)
    share /= share.sum()
    popular = np.log(share) - np.log(share).mean()
    quality = rng.normal(0, 0.8, _ITEMS) + 0.48 * popular / popular.std()
    items = rng.normal(0, 1, (_ITEMS, _WIDTH)) / np.sqrt(_WIDTH)
    users: list[Any] = []
    found: list[tuple[int, int, float, float]] = []
    live: list[tuple[int, list[int], float]] = []
    time = 0.0
    while len(found) < _ROWS:
        while len(live) < _AT_ONCE:
            count = int(np.clip(rng.lognormal(4.2, 0.9), 20, 600))
            users.append(rng.normal(0, 1, _WIDTH))
            weight = share * np.exp(0.5 * (items @ users[-1]))
            weight /= weight.sum()
            seen = rng.choice(_ITEMS, count, replace=False, p=weight)
            live.append((len(users) - 1, list(seen), rng.normal(0, 0.8)))
        place = rng.integers(_AT_ONCE)
        user, left, level = live[place]
        item = left.pop()
        time += rng.exponential(20)
        logit = 0.2 + quality[item] + level + taste * items[item] @ users[user]
        found.append((user, item, time, 1 / (1 + np.exp(-logit))))
        if not left:
            del live[place]
    rows = pd.DataFrame(found, columns=["user", "item", "time", "chance"])
    rows["label"] = (rng.random(_ROWS) < rows["chance"]).astype(np.float32)
    return Log(rows, share, quality, taste * np.array(users) @ items.T)


def read(path: Path) -> Log:
    """MovieLens 100k: was it rated 4 or more?"""
    rows = pd.read_csv(path, sep="\t")
    rows.columns = ["user", "item", "rating", "time"]
    rows = rows.sort_values("time", kind="stable").reset_index(drop=True)
    rows["label"] = (rows["rating"] >= 4).astype(np.float32)
    return Log(rows)


class Inputs:
    """Inputs of the models: ids, histories and seconds since each item."""

    def __init__(self, rows: pd.DataFrame) -> None:
        import tensorflow as tf

        self.user = pd.factorize(rows["user"])[0]
        item, self.items = pd.factorize(rows["item"])
        known = [_known(self.user, 1), _known(item, 2)]
        self.place = known[1]
        self.sizes = [1 + int(one.max()) for one in known]
        self.ids = np.stack([known[0][self.user], known[1][item]], 1)
        self.label = rows["label"].to_numpy()
        past: dict[int, list[tuple[float, int]]] = {}
        items: list[list[int]] = []
        gaps: list[list[float]] = []
        each = zip(
            self.user, self.ids[:, 1], self.label, rows["time"], strict=True
        )
        for user, number, label, time in each:
            mine = past.setdefault(user, [])
            seen = [one for one in mine[-2 * _MOST :] if one[0] < time]
            seen = seen[::-1][:_MOST]
            items.append([number for _, number in seen])
            gaps.append([float(np.log1p(time - when)) for when, _ in seen])
            if label:
                mine.append((time, number))
        self.history = tf.ragged.constant(items, tf.int64)
        self.gaps = tf.ragged.constant(gaps, tf.float32)

    def of(self, number: Any, ids: Any, history: bool) -> dict[str, Any]:
        """Inputs of some rows, with these ids."""
        import tensorflow as tf

        found = {"ids": ids}
        if history:
            found["list_history"] = tf.gather(self.history, number)
            found["numbers_gaps"] = tf.gather(self.gaps, number)
        return found


def _known(codes: Any, least: int) -> Any:
    """Code -> id, 0 where fewer training rows than `least` have it."""
    counts = np.bincount(codes[:_TRAIN], minlength=codes.max() + 1)
    kept = np.flatnonzero(counts >= least)
    found = np.zeros(len(counts), np.int64)
    found[kept] = 1 + np.arange(len(kept))
    return found


def trained(
    log: Log, inputs: Inputs, name: str, rate: float, seed: int
) -> list[float]:
    """GAUC, logloss and `moment` of the rows to judge.

    Args:
        log: the rows.
        inputs: of them.
        name: of the architecture.
        rate: times the rate that `auto` gives to all but the tables.
        seed: of weights and order.
    """
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.config.training import ModelConfig, TrainConfig
    from models.keras_versions import start_afresh
    from models.preprocessing.input_layout import (
        IdFeature,
        Layout,
        SequenceInput,
    )
    from models.training import loop
    from models.training.automatic import choose
    from optimizers.registry import build_optimizer

    start_afresh(seed)
    history = name != "dcn_v2"
    users, items = inputs.sizes
    single = (IdFeature("user", users, 16), IdFeature("item", items, 16))
    layout = Layout(single, (), ())
    if history:
        layout = Layout(
            single,
            (IdFeature("history", items, 16, "item"),),
            (),
            sequences=(
                SequenceInput(("history",), ("item",), ("gaps",), _MOST),
            ),
        )
    sections: dict[str, Any] = {
        "model": ModelConfig.model_validate({"name": name}).asked(),
        "optimizer": {"name": "lion", "learning_rate": "auto"},
        "train": TrainConfig().asked() | {"seed": seed},
    }
    label = inputs.label
    clicks = int(label[:_TRAIN].sum())
    events = min(clicks, _TRAIN - clicks)
    sections, _ = choose(sections, _TRAIN, users + items, events, 48)
    sections["optimizer"]["learning_rate"] *= rate
    train = TrainConfig.model_validate(sections["train"])

    def batches(first: int, end: int, size: int) -> Any:
        numbers = tf.data.Dataset.range(first, end)
        if not first:
            numbers = numbers.shuffle(end, seed=seed)
        return (
            numbers.batch(size)
            .map(
                lambda n: (
                    inputs.of(n, tf.gather(inputs.ids, n), history),
                    tf.gather(label, n),
                )
            )
            .prefetch(4)
        )

    model = build_model(
        layout,
        ModelConfig.model_validate(sections["model"]),
        float(label[:_TRAIN].mean()),
    )
    steps = -(-_TRAIN // train.batch_size) * train.epochs
    loop.train(
        model,
        build_optimizer(sections["optimizer"], steps),
        batches(0, _TRAIN, train.batch_size),
        batches(_TRAIN, _END, 4096),
        _TRAIN,
        train,
    )
    parts = [model(x).numpy() for x, _ in batches(_END, len(label), 4096)]
    logit, label = np.concatenate(parts), label[_END:]
    loss = np.logaddexp(0, np.where(label > 0, -logit, logit)).mean()
    found = [gauc(inputs.user[_END:], label, logit), float(loss)]
    if log.likes is not None:
        found.append(_moment(log, inputs, model, history))
    return found


def _moment(log: Log, inputs: Inputs, model: Any, history: bool) -> float:
    rng = np.random.default_rng(5)
    rows = rng.choice(np.arange(_END, _ROWS), _MOMENTS, replace=False)
    items = rng.choice(_ITEMS, (_MOMENTS, _CANDIDATES), p=log.chance)
    user = log.rows["user"].to_numpy()[rows]
    truth = log.quality[items] + log.likes[user[:, None], items]
    code = pd.Series(np.arange(len(inputs.items)), inputs.items)
    codes = code.reindex(items.ravel(), fill_value=-1).to_numpy()
    number = np.repeat(rows, _CANDIDATES)
    ids = inputs.ids[number]
    ids[:, 1] = np.where(codes < 0, 0, inputs.place[codes])
    logits = [
        model(inputs.of(number[k : k + 6000], ids[k : k + 6000], history))
        for k in range(0, len(number), 6000)
    ]
    logit = np.concatenate([one.numpy() for one in logits])
    logit = logit.reshape(truth.shape)
    logit = logit - logit.mean(1, keepdims=True)
    truth = truth - truth.mean(1, keepdims=True)
    norms = np.sqrt((logit**2).sum(1) * (truth**2).sum(1))
    return float(((logit * truth).sum(1) / norms).mean())


def main() -> None:
    """Prints a line for each log and contender."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--taste", type=float, nargs="*", default=[0.0, 0.3])
    parser.add_argument("--log", type=Path)
    parser.add_argument("--contenders", nargs="+", default=["dcn_v2", "din"])
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    logs = {f"taste {one}": drawn(one, 1) for one in options.taste}
    if options.log:
        logs = {options.log.name: read(options.log)}
    print("GAUC, logloss, moment")
    for title, log in logs.items():
        inputs = Inputs(log.rows)
        for name in options.contenders:
            for rate in options.rates:
                found = [
                    trained(log, inputs, name, rate, seed)
                    for seed in range(1, options.seeds + 1)
                ]
                cells = "  ".join(
                    f"{mean:.4f} ± {deviation:.4f}"
                    for mean, deviation in zip(
                        np.mean(found, 0), np.std(found, 0), strict=True
                    )
                )
                print(f"{title}, {name}, rate x {rate}: {cells}", flush=True)


if __name__ == "__main__":
    main()
