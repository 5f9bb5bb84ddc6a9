"""Do the defaults train? `auto` beside logistic regression on generated logs.

    python -m benchmarks.studies.defaults [--seeds 3] [--shapes "pairs" ...]

The first 80 % of a log train, the next tenth is the eval split, the last tenth
tests. `auto` is what `lionctr run` does where a config has nothing but data,
features and label; here the rows come from memory. Logistic regression is
scikit-learn's, on one-hot ids and standardized numbers; its penalty is chosen
on the newest tenth of the training rows. The truth is that of the generator.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.studies.logs import SHAPES, Log, draw

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
Tweak = Callable[[dict[str, Any]], None]


def regression(log: Log) -> tuple[float, float]:
    """Test AUC and logloss of scikit-learn's logistic regression."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, _, test = parts(len(log.label))
    newest = int(train.stop * 0.9)

    def inputs(end: int) -> Any:
        found = []
        if log.ids.shape[1]:
            encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
            found.append(encoder.fit(log.ids[:end]).transform(log.ids))
        if log.numbers.shape[1]:
            scaler = StandardScaler().fit(log.numbers[:end])
            found.append(sparse.csr_matrix(scaler.transform(log.numbers)))
        return sparse.hstack(found, "csr")

    def fitted(x: Any, end: int, c: float) -> Any:
        model = LogisticRegression(C=c, max_iter=300)
        return model.fit(x[:end], log.label[:end])

    x = inputs(newest)
    later = slice(newest, train.stop)

    def loss(c: float) -> float:
        chance = fitted(x, newest, c).predict_proba(x[later])[:, 1]
        return float(log_loss(log.label[later], chance, labels=[0, 1]))

    best = min(PENALTIES, key=loss)
    x = inputs(train.stop)
    chance = fitted(x, train.stop, best).predict_proba(x[test])[:, 1]
    return judged(log.label[test], chance)


def judged(label: Any, chance: Any) -> tuple[float, float]:
    """AUC and logloss."""
    from sklearn.metrics import log_loss, roc_auc_score

    auc = roc_auc_score(label, chance)
    return float(auc), float(log_loss(label, chance, labels=[0, 1]))


def parts(rows: int) -> tuple[slice, slice, slice]:
    """Rows to train, eval and test."""
    a, b = int(rows * 0.8), int(rows * 0.9)
    return slice(0, a), slice(a, b), slice(b, rows)


def encoded(log: Log) -> tuple[Any, Any]:
    """Layout and inputs, as Transform's defaults make them."""
    from models.preprocessing.input_layout import IdFeature, Layout

    train = parts(len(log.label))[0]
    inputs, single = {}, []
    columns = []
    for f, values in enumerate(log.ids.T):
        counts = np.bincount(values[train], minlength=values.max() + 1)
        kept = np.flatnonzero(counts >= 2)
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        place = np.full(len(counts), 1 + len(kept))
        place[kept] = 1 + np.arange(len(kept))
        columns.append(place[values])
        single.append(IdFeature(f"c{f}", 2 + len(kept), 16))
    if columns:
        inputs["ids"] = np.stack(columns, 1).astype(np.int64)
    x = np.sign(log.numbers) * np.log1p(np.abs(log.numbers))
    if x.shape[1]:
        spread = np.maximum(x[train].std(0), 1e-9)
        inputs["dense"] = ((x - x[train].mean(0)) / spread).astype(np.float32)
    names = tuple(f"n{i}" for i in range(x.shape[1]))
    return Layout(tuple(single), (), names), inputs


def automatic(
    log: Log, seed: int, tweak: Tweak | None = None, model: str = "wide_deep"
) -> dict[str, Any]:
    """Test AUC and logloss of what nothing but the data gives.

    Args:
        log: raw values.
        seed: of weights and shuffles.
        tweak: changes the sections once they are chosen.
        model: name of the architecture.
    """
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

    layout, inputs = encoded(log)
    label = log.label.astype(np.float32)
    train, held_out, test = parts(len(label))
    sections: dict[str, Any] = {
        "model": ModelConfig(name=model).asked(),
        "optimizer": {"name": "lion", "learning_rate": "auto"},
        "train": TrainConfig().asked() | {"seed": seed},
    }
    ids = sum(f.size for f in layout.ids)
    clicks = int(label[train].sum())
    events = min(clicks, train.stop - clicks)
    sections, _ = choose(sections, train.stop, ids, events)
    if tweak:
        tweak(sections)
    config = TrainConfig.model_validate(sections["train"])

    def batches(rows: slice, size: int = 4096, shuffled: bool = False) -> Any:
        some = {name: x[rows] for name, x in inputs.items()}
        data = tf.data.Dataset.from_tensor_slices((some, label[rows]))
        if shuffled:
            data = data.shuffle(config.shuffle, seed=seed)
        return data.batch(size).prefetch(tf.data.AUTOTUNE)

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    rate = float(label[train].mean())
    network = build_model(
        layout, ModelConfig.model_validate(sections["model"]), rate
    )
    start = None
    if config.linear_start:
        keys = {f.name: Keys("vocab", f.size, 1) for f in layout.single}
        start = linear_start.begin(
            network,
            layout,
            keys,
            batches(train),
            batches(held_out),
            Negatives(),
        )
    steps = -(-train.stop // config.batch_size) * config.epochs
    result = loop.train(
        network,
        build_optimizer(sections["optimizer"], steps),
        batches(train, config.batch_size, True),
        batches(held_out),
        train.stop,
        config,
    )
    labels, logits = Evaluation(network).predict(batches(test))
    auc, logloss = judged(labels, sigmoid(logits))
    return {
        "auc": auc,
        "logloss": logloss,
        "eval_logloss": result.eval_logloss,
        "best": result.course.best,
        "steps": result.steps,
        "penalty": start and start.penalty,
    }


def main() -> None:
    """Prints a line for each shape: means over the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(
        f"{'log':24}{'rows':>8}{'rate':>7}  {'auto':>14}  {'regression':>14}"
        f"  {'difference':>16}  {'± of one':>14}  {'truth':>14}"
    )
    for name in options.shapes or SHAPES:
        shape, began = SHAPES[name], time.process_time()
        ours, theirs, truth, best = [], [], [], []
        for seed in range(1, options.seeds + 1):
            log = draw(shape, seed)
            test = parts(shape.rows)[2]
            found = automatic(log, seed)
            ours.append((found["auc"], found["logloss"]))
            best.append(f"{found['best']}/{found['steps']}")
            theirs.append(regression(log))
            truth.append(judged(log.label[test], log.truth[test]))
        ahead = np.array(ours) - np.array(theirs)
        print(
            f"{name:24}{shape.rows:>8,}{shape.rate:>7.1%}"
            f"  {_pair(ours)}  {_pair(theirs)}"
            f"  {ahead.mean(0)[0]:+.4f} {ahead.mean(0)[1]:+.5f}"
            f"  {ahead.std(0)[0]:.4f} {ahead.std(0)[1]:.5f}  {_pair(truth)}"
            f"  best {' '.join(best)}"
            f"  {time.process_time() - began:.0f} CPU s",
            flush=True,
        )


def _pair(found: Any) -> str:
    auc, logloss = np.mean(found, 0)
    return f"{auc:.4f} / {logloss:.4f}"


if __name__ == "__main__":
    main()
