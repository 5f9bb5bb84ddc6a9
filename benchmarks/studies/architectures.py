"""Which inputs and which architecture? Trainings of one epoch, in process.

    python -m benchmarks.studies.architectures --out RESULTS.jsonl
        [--logs criteo-1 ads ...] [--models dcn_v2 wide_deep ...]
        [--numbers zscore buckets ...] [--optimizers lion adam] [--seeds 2]
        [--test]

The first 80 % of a generated log train, the next tenth chooses, the last tenth
tests. Test rows are predicted with `--test` alone, and by contenders that the
validation rows have chosen before. Rates are those that `auto` gives to
batches of 512. `RESULTS.jsonl` has a line for each training; those that are
there already are not repeated.

An optimizer with `+auto` behind it trains as `lionctr run` does where nothing
else is said: with batches, epochs and a linear start that `auto` chooses.

A model is a name, or a name and options: `dcn_v2:projection_dim=64`. For a
function `build` it is the module and `.py`: `benchmarks.studies.finalnet.py`.
`logistic` is the first line of `lionctr compare`.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.named_logs import Rows, log_of
from benchmarks.studies.scores import judged, parts, show
from benchmarks.studies.target_statistics import WAYS, statistics

BATCH, BUCKETS, DIM, PIECES = 512, 32, 16, 8
LOGISTIC = "logistic"


def encoded(log: Rows, way: str) -> tuple[Any, dict[str, Any]]:
    """Layout and inputs, as Transform's defaults make them.

    way: `zscore`, `pieces`, `indicator`, `buckets`, a way of
        `target_statistics`, or several with `+`.
    """
    from models.preprocessing.input_layout import IdFeature, Layout

    train = parts(len(log.label))[0]
    single, columns = [], []
    for f, values in enumerate(log.ids.T):
        counts = np.bincount(values[train], minlength=values.max() + 1)
        kept = np.flatnonzero(counts >= 2)
        place = np.full(len(counts), 1 + len(kept))
        place[kept] = 1 + np.arange(len(kept))
        columns.append(place[values])
        single.append(IdFeature(f"c{f}", 2 + len(kept), DIM))
    dense: list[Any] = []
    names: list[str] = []
    for d, x in enumerate(log.numbers.T):
        missing = np.isnan(x)
        if "zscore" in way:
            y = np.where(missing, 0.0, x)
            y = np.sign(y) * np.log1p(np.abs(y))
            dense.append((y - y[train].mean()) / max(y[train].std(), 1e-9))
            names.append(f"n{d}")
        if "indicator" in way and missing.any():
            dense.append(missing * 1.0)
            names.append(f"n{d}_missing")
        if "pieces" in way:
            logs = np.sign(x) * np.log1p(np.abs(x))
            ends: Any = np.unique(
                np.nanquantile(logs[train], np.linspace(0, 1, PIECES + 1))
            )
            share = (logs[:, None] - ends[:-1]) / np.diff(ends)
            share = np.where(missing[:, None], 0.0, share.clip(0, 1))
            dense += list(share.T)
            names += [f"n{d}_{piece}" for piece in range(share.shape[1])]
        if "buckets" in way:
            shares = np.linspace(0, 1, BUCKETS + 1)[1:-1]
            cuts = np.unique(np.nanquantile(x[train], shares))
            bucket = np.searchsorted(cuts, x, "right")
            columns.append(np.where(missing, 0, 1 + bucket))
            single.append(IdFeature(f"n{d}_bucket", 1 + BUCKETS, DIM))
    for past in WAYS & set(way.split("+")):
        known = statistics(log.ids, log.label, past, "counts" in way)
        for name, x in known.items():
            dense.append((x - x[train].mean()) / max(x[train].std(), 1e-9))
            names.append(name)
    inputs = {"ids": np.stack(columns, 1).astype(np.int64)}
    if dense:
        inputs["dense"] = np.stack(dense, 1).astype(np.float32)
    return Layout(tuple(single), (), tuple(names)), inputs


def section(model: str) -> dict[str, Any]:
    """The config section of `NAME:OPTION=VALUE,...`."""
    name, _, options = model.partition(":")
    if name.endswith(".py"):  # a function `build` of a module
        name = f"{name.removesuffix('.py')}:build"
    pairs = re.findall(r"(\w+)=(.+?)(?:,(?=\w+=)|$)", options)
    return {"name": name} | {key: json.loads(x) for key, x in pairs}


def regressed(
    layout: Any, keys: Any, data: list[Any], count: int, test: bool
) -> dict[str, float]:
    """Scores of logistic regression, as `trained`."""
    from models.config.training import Negatives
    from models.training import logistic_regression
    from models.training.metrics import sigmoid

    train, *others = data
    began = time.process_time()
    fit = logistic_regression.fit(
        layout, keys, (), train, others[0], Negatives(), count
    )
    found = {"cpu_seconds": time.process_time() - began}
    names = ("validation", "test")[: 1 + test]
    for name, rows in zip(names, others, strict=False):
        label = np.concatenate([label.numpy() for _, label in rows])
        scores = judged(label, sigmoid(fit.logits(rows)[:, 0]))
        found[f"{name}_auc"], found[f"{name}_logloss"] = scores
    return found


def trained(
    log: Rows, model: str, way: str, optimizer: str, seed: int, test: bool
) -> dict[str, float]:
    """Scores of validation rows, and of test rows if they are wanted."""
    import keras
    import tensorflow as tf

    from models.architectures.registry import build_model
    from models.config.training import ModelConfig, Negatives, TrainConfig
    from models.preprocessing.id_space import Keys
    from models.training import linear_start, loop
    from models.training.automatic import choose
    from models.training.evaluation import Evaluation
    from models.training.metrics import sigmoid
    from optimizers.registry import build_optimizer

    layout, inputs = encoded(log, way)
    keys = {f.name: Keys("vocab", f.size, 1) for f in layout.single}
    train, held_out, last = parts(len(log.label))
    name, _, auto = optimizer.partition("+")
    given: dict[str, Any] = {}
    if not auto:
        given = {"batch_size": BATCH, "epochs": 1, "linear_start": False}
    name_of = "wide_deep" if model == LOGISTIC else model
    sections: dict[str, Any] = {
        "model": ModelConfig.model_validate(section(name_of)).asked(),
        "optimizer": {"name": name, "learning_rate": "auto"},
        "train": TrainConfig().asked() | {"seed": seed, **given},
    }
    ids = sum(f.size for f in layout.ids)
    clicks = int(log.label[train].sum())
    events = min(clicks, train.stop - clicks)
    width = len(layout.dense) + DIM * len(layout.ids)
    sections, _ = choose(
        sections, train.stop, ids, events, width if auto else 0
    )
    config = TrainConfig.model_validate(sections["train"])

    def batches(rows: Any, size: int = 4096) -> Any:
        some = {name: x[rows] for name, x in inputs.items()}
        whole = (some, log.label[rows])
        count = len(whole[1]) // size * size
        cut = tf.nest.map_structure(
            lambda x: x[:count].reshape(-1, size, *x.shape[1:]), whole
        )
        data = tf.data.Dataset.from_tensor_slices(cut)
        if count < len(whole[1]):
            rest = tf.nest.map_structure(lambda x: x[None, count:], whole)
            data = data.concatenate(tf.data.Dataset.from_tensor_slices(rest))
        return data.prefetch(2)

    if model == LOGISTIC:
        return regressed(
            layout, keys, [batches(rows) for rows in (train, held_out, last)],
            train.stop, test,
        )  # fmt: skip
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(train.stop)
    began = time.process_time()
    linear = None
    if config.linear_start:
        linear = linear_start.fit(
            layout,
            keys,
            batches(order),
            batches(held_out),
            Negatives(),
            sections["train"]["curves"],
        )
        layout = replace(layout, pieces=linear.pieces)
    net = build_model(
        layout,
        ModelConfig.model_validate(sections["model"]),
        float(log.label[train].mean()),
    )
    if linear:
        linear.give(net)
    steps = -(-train.stop // config.batch_size) * config.epochs
    result = loop.train(
        net,
        build_optimizer(sections["optimizer"], steps),
        batches(order, config.batch_size),
        batches(held_out),
        train.stop,
        config,
    )
    found = {
        "validation_logloss": result.eval_logloss,
        "validation_auc": result.eval_auc,
        "cpu_seconds": time.process_time() - began,
    }
    if test:
        labels, logits = Evaluation(net).predict(batches(last))
        found["test_auc"], found["test_logloss"] = judged(
            labels, sigmoid(logits)
        )
    return found


def main() -> None:
    """Trains what is missing; prints the means over the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--logs", nargs="+", default=["criteo-1"])
    parser.add_argument("--models", nargs="+", default=["wide_deep"])
    parser.add_argument("--numbers", nargs="+", default=["zscore"])
    parser.add_argument("--optimizers", nargs="+", default=["lion"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    done = {}
    if options.out.exists():
        lines = options.out.read_text("utf-8").splitlines()
        done = {tuple(key): found for key, found in map(json.loads, lines)}
    for name in options.logs:
        log = log_of(name)
        last = parts(len(log.label))[2]
        truth = judged(log.label[last], log.truth[last])[1]
        print(f"{name}: the truth's logloss on test rows is {truth:.5f}")
        for model in options.models:
            for way in options.numbers:
                for optimizer in options.optimizers:
                    scores = []
                    for seed in range(1, options.seeds + 1):
                        key = (name, model, way, optimizer, seed, options.test)
                        if key not in done:
                            found = trained(log, *key[1:])
                            done[key] = found
                            with options.out.open("a", encoding="utf-8") as out:
                                out.write(json.dumps([key, found]) + "\n")
                        scores.append(done[key])
                    show(f"{model} {way} {optimizer}", scores)


if __name__ == "__main__":
    main()
