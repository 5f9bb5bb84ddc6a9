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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.defaults import judged, parts
from benchmarks.studies.logs import Shape, draw
from benchmarks.studies.target_statistics import DAYS, WAYS, statistics

BATCH, BUCKETS, DIM, PIECES = 512, 32, 16, 8
LOGISTIC = "logistic"
_CURVED = Shape(
    300_000, 0.1, (50, 2000, 20_000), 12, 0.5, 0.4, curved=0.8, pairs=0.3
)
_MIXED = Shape(
    300_000, 0.05, (5, 30, 200, 2000, 50_000, 100_000), 8,
    0.7, 0.4, 0.4, 0.4, 0.3,
)  # fmt: skip
_RARE = Shape(300_000, 0.02, (20, 200, 3000, 100_000, 200_000), additive=1.2)
_FRESH = Shape(
    300_000, 0.05, (20, 300, 5000, 20_000, 3000), 3, 0.9, 0.3,
    local=(3, 4), drift=0.7,
)  # fmt: skip


class Rows(NamedTuple):
    """A log: codes [N, F], numbers [N, D] with NaN, labels, true chances."""

    ids: Any
    numbers: Any
    label: Any
    truth: Any


def generated(
    kind: type[Any],
    rows: int,
    seed: int,
    scale: float = 1.0,
    shift: float = 0.0,
) -> Rows:
    """Rows of `lionctr generate`, without lists of values.

    Args:
        kind: the world.
        rows: how many.
        seed: of world and rows.
        scale: of the logit.
        shift: of the scaled logit.
    """
    rng = np.random.default_rng([seed, rows])
    columns, logit = kind(rng).draw(rng, np.arange(rows) * 10)
    return _rows(rng, columns, scale * logit + shift)


def drifting(rows: int, seed: int) -> Rows:
    """Rows of `lionctr generate --drift 0.2`, a tenth of them on each day."""
    import pyarrow as pa

    from pipeline.synthetic.ads import Ads

    rng = np.random.default_rng([seed, rows])
    ads, days = Ads(rng), []
    for day in range(DAYS):
        if day:
            ads.drift(rng, 0.2)
        days.append(ads.draw(rng, day * 86_400 + np.arange(rows // DAYS)))
    tables = [pa.table(columns) for columns, _ in days]
    columns = {n: pa.concat_tables(tables)[n] for n in tables[0].column_names}
    return _rows(rng, columns, np.concatenate([logit for _, logit in days]))


def _rows(rng: Any, columns: dict[str, Any], logit: Any) -> Rows:
    import pyarrow as pa

    truth = 1 / (1 + np.exp(-logit))
    ids, numbers = [], []
    for values in map(_one_array, columns.values()):
        if pa.types.is_string(values.type):
            codes = values.dictionary_encode().indices
            ids.append(codes.fill_null(-1).to_numpy(zero_copy_only=False) + 1)
        elif not pa.types.is_list(values.type):
            wide = values.cast(pa.float64())
            numbers.append(wide.to_numpy(zero_copy_only=False))
    label = (rng.random(len(truth)) < truth).astype(np.float32)
    return Rows(np.stack(ids, 1), np.stack(numbers, 1), label, truth)


def _one_array(values: Any) -> Any:
    combined = getattr(values, "combine_chunks", None)
    return combined() if combined else values


def shaped(shape: Shape, seed: int) -> Rows:
    """Rows of a shape of `logs`."""
    log = draw(shape, seed)
    return Rows(log.ids, log.numbers, log.label.astype(np.float32), log.truth)


def log_of(name: str) -> Rows:
    """The log of a name such as `criteo-1`: its kind and its seed."""
    from pipeline.synthetic.ads import Ads
    from pipeline.synthetic.criteo import Criteo

    kind, _, seed = name.partition("-")
    made: dict[str, Callable[[int], Rows]] = {
        "criteo": lambda seed: generated(Criteo, 300_000, seed),
        # The best possible of seed 2 is AUC .818, logloss .420.
        "million": lambda seed: generated(
            Criteo, 1_000_000, seed, 1.164, -0.0517
        ),
        "ads": lambda seed: generated(Ads, 300_000, seed),
        "curved": lambda seed: shaped(_CURVED, seed),
        "mixed": lambda seed: shaped(_MIXED, seed),
        "rare": lambda seed: shaped(_RARE, seed),
        "fresh": lambda seed: shaped(_FRESH, seed),
        "days": lambda seed: drifting(300_000, seed),
    }
    return made[kind](int(seed or 1))


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


def show(name: str, scores: list[dict[str, float]]) -> None:
    """A line: logloss, AUC, seconds."""
    cells = []
    for part in ("validation", "test"):
        if f"{part}_logloss" in scores[0]:
            loss = [one[f"{part}_logloss"] for one in scores]
            auc = np.mean([one[f"{part}_auc"] for one in scores])
            cells.append(
                f"{part} {np.mean(loss):.5f} ± {np.std(loss):.5f} / {auc:.4f}"
            )
    cpu = np.mean([one["cpu_seconds"] for one in scores])
    print(f"  {name:44} {'  '.join(cells)}  {cpu:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
