"""Does Lion help a CTR model? Optimizers on equal terms, on held-out rows.

    python -m benchmarks.studies.optimizers [generated criteo ...] [--seeds 5]

Each optimizer trains the config's model on the same transformed rows, in as
many steps. Two rates are searched, of the tables and of all other weights. The
grid has nine points, √10 apart, and grows while its edge is best: first both
together, then each by itself. The rates with the best logloss on validation
rows train anew with each seed (initial weights, dropout, order of the rows);
what is printed is the mean and deviation on test rows, which nothing was chosen
by. What still lay on an edge is marked with "!". All rates, but those of FTRL
(see optimizers/registry.py), warm up over a tenth of the steps and then follow
a cosine to zero.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import measure

_ROOT = Path(__file__).resolve().parents[2]
_TABLES = r".*/table"
_STEP = 0.5  # of the exponent of 10
_GRID = [_STEP * n for n in range(-4, 5)]
_LION = {"name": "lion"}
# Name -> the optimizer's section, and the centre of its grid.
CANDIDATES: dict[str, tuple[dict[str, Any], float]] = {
    "lion lazy": (_LION | {"sparse": "lazy"}, 1e-3),
    "lion decayed": (_LION | {"sparse": "decayed"}, 1e-3),
    "lion dense": (_LION | {"sparse": "dense"}, 1e-3),
    "lion lazy, λ 0.1": (_LION | {"weight_decay": 0.1}, 1e-3),
    "lion lazy, λ 1": (_LION | {"weight_decay": 1.0}, 1e-3),
    "adam": ({"name": "adam"}, 1e-3),
    "adamw, λ 0.01": ({"name": "adamw", "weight_decay": 0.01}, 1e-3),
    "adamw, λ 0.1": ({"name": "adamw", "weight_decay": 0.1}, 1e-3),
    "adagrad": ({"name": "adagrad"}, 1e-1),
    "ftrl": ({"name": "ftrl"}, 1.0),
}
# Name -> config, and what replaces its settings.
DATASETS: dict[str, tuple[str, list[str]]] = {
    "generated": (
        "configs/demo.yaml",
        ["train.batch_size=1024", "train.epochs=1"],
    ),
    "criteo": ("configs/criteo.yaml", []),
    "movielens": ("configs/movielens.yaml", []),
    "open_bandit": ("configs/open_bandit.yaml", []),
}


@dataclass(frozen=True)
class Scores:
    """Metrics of one trained model."""

    logloss: float
    auc: float


@dataclass(frozen=True)
class Outcome:
    """Outcome of one candidate on one dataset."""

    candidate: str
    rates: tuple[float, float]  # of the tables, of the rest
    on_edge: bool
    test: list[Scores]  # one a seed
    milliseconds: float  # per step
    slot_bytes: int


def load(dataset: str, home: Path) -> Any:
    """The config of a dataset, with more rows held out than it ships with."""
    from pipeline import config

    path, changes = DATASETS[dataset]
    changes = ["data.split.eval=0.2", f"root={home}", *changes]
    if dataset == "generated":
        changes.append(f"data.impressions.path={home}/logs/impressions.tsv")
    return config.load(_ROOT / path, changes)


def prepare(dataset: str, rows: int, home: Path) -> dict[str, str]:
    """URIs of what Transform leaves of `dataset`, by output."""
    from pipeline.commands.generate import generate
    from pipeline.console import Console
    from pipeline.runners import local

    if dataset == "generated":
        generate(rows, home / "logs", seed=1, reuse=True)
    console = Console(sys.stderr)
    return local.prepare(load(dataset, home), console)["Transform"]


class Data:
    """Rows in memory: inputs of the model, and labels."""

    def __init__(self, inputs: dict[str, Any], label: Any) -> None:
        self.inputs = inputs
        self.label = label

    def take(self, rows: Any) -> tuple[dict[str, Any], Any]:
        """The batch of these rows."""
        import tensorflow as tf

        return (
            {
                name: tf.gather(value, rows)
                for name, value in self.inputs.items()
            },
            tf.gather(self.label, rows),
        )

    def __len__(self) -> int:
        return int(self.label.shape[0])


def read(made: dict[str, str], split: str) -> Data:
    """The transformed rows of a split, all of them."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from models.input_pipeline.dataset import Batches

    transform = tft.TFTransformOutput(made["transform_graph"])
    pattern = f"{made['transformed_examples']}/Split-{split}/*"
    parts = list(Batches([pattern], transform, 1 << 16))
    inputs = {
        name: tf.concat([inputs[name] for inputs, _ in parts], 0)
        for name in parts[0][0]
    }
    return Data(inputs, tf.concat([label for _, label in parts], 0))


class Trainer:
    """Trains one candidate again and again; compiled once."""

    def __init__(
        self, config: Any, graph: str, train: Data, spec: dict[str, Any]
    ) -> None:
        import keras
        import tensorflow as tf
        import tensorflow_transform as tft

        from models.architectures.registry import build_model
        from models.preprocessing.input_layout import layout
        from models.preprocessing.transform_assets import asset_size
        from optimizers.config.schedules import WarmupDecay
        from optimizers.groups import FirstMatch, GroupedOptimizer
        from optimizers.registry import build_optimizer

        transform = tft.TFTransformOutput(graph)
        shape = layout(config.features, lambda n: asset_size(transform, n))
        keras.utils.set_random_seed(1)
        self._model = build_model(
            shape, config.model, float(np.mean(train.label))
        )
        self._train = train
        self._batch = config.train.batch_size
        self._epochs = config.train.epochs
        self.steps = math.ceil(len(train) / self._batch) * self._epochs
        self._rates = [tf.Variable(1.0), tf.Variable(1.0)]
        groups = {}
        for pattern, rate in zip((_TABLES, ".*"), self._rates, strict=True):
            one = build_optimizer(spec, self.steps)
            one._learning_rate = (
                partial(tf.identity, rate)
                if spec["name"] == "ftrl"
                else WarmupDecay(
                    rate, self.steps, "cosine", max(1, self.steps // 10)
                )
            )
            groups[pattern] = one
        self._optimizer = GroupedOptimizer(FirstMatch(groups))
        self._optimizer.build(self._model.trainable_variables)
        self._weights = [(v, v.numpy()) for v in self._model.variables]
        self._slots = [(v, v.numpy()) for v in self._optimizer.variables]
        self._epoch = tf.function(self._run)
        self._forward = tf.function(
            lambda inputs: self._model(inputs, training=False),
            reduce_retracing=True,
        )
        self.milliseconds: list[float] = []

    @property
    def slot_bytes(self) -> int:
        """Bytes of the optimizer's slots."""
        import optimizers

        return sum(
            optimizers.slot_bytes(one)
            for one in self._optimizer.groups.values()
        )

    def train(self, rates: tuple[float, float], seed: int) -> None:
        """Trains from the start, with these rates of tables and the rest."""
        import tensorflow as tf

        random = np.random.default_rng(seed)
        for variable, value in self._weights:
            variable.assign(_start(variable, value, random))
        for variable, value in self._slots:
            variable.assign(value)
        for variable, rate in zip(self._rates, rates, strict=True):
            variable.assign(rate)
        for _ in range(self._epochs):
            order = tf.constant(random.permutation(len(self._train)))
            began = time.perf_counter()
            done = self._epoch(order)
            seconds = time.perf_counter() - began
            self.milliseconds.append(1e3 * seconds / int(done))

    def scores(self, data: Data) -> Scores:
        """Metrics of the model as it is."""
        from models.training.metrics import auc, logloss_of_logits

        logits = np.concatenate(
            [
                self._forward(data.take(rows)[0])
                for rows in np.array_split(
                    np.arange(len(data)), 1 + len(data) // 16384
                )
            ]
        )
        if not np.isfinite(logits).all():
            return Scores(math.inf, math.nan)
        return Scores(
            logloss_of_logits(data.label, logits), auc(data.label, logits)
        )

    def _run(self, order: Any) -> Any:
        import tensorflow as tf

        steps = tf.constant(0)
        for start in tf.range(0, tf.size(order), self._batch):
            inputs, label = self._train.take(order[start : start + self._batch])
            with tf.GradientTape() as tape:
                logits = self._model(inputs, training=True)
                loss = tf.reduce_mean(
                    tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
                )
            variables = self._model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            steps += 1
        return steps


def _start(variable: Any, value: Any, random: Any) -> Any:
    """The value to start from: another for each seed, of the same scale."""
    if "seed_generator" in variable.path:
        return random.integers(1 << 31, size=value.shape, dtype=np.int64)
    floats = np.issubdtype(value.dtype, np.floating)
    if value.ndim == 2 and floats and value.any():
        # Tables are normal and kernels uniform; at one scale that is alike.
        return random.normal(0, value.std(), value.shape).astype(value.dtype)
    return value


def study(
    dataset: str,
    home: Path,
    made: dict[str, str],
    seeds: int,
    names: list[str],
) -> None:
    """Prints a line for each candidate, and writes them to results.jsonl."""
    config = load(dataset, home)
    train, held_out = read(made, "train"), read(made, "eval")
    rows = np.random.default_rng(0).permutation(len(held_out))
    validation = Data(*held_out.take(rows[::2]))
    test = Data(*held_out.take(rows[1::2]))
    print(
        f"\n{dataset}: {len(train):,} rows to train, {len(validation):,} to"
        f" choose the rates, {len(test):,} to test; clicks"
        f" {np.mean(train.label):.4f}, {np.mean(test.label):.4f};"
        f" {config.train.epochs} epochs of batches of"
        f" {config.train.batch_size}\n"
        f"{'':18}{'test logloss':>18}{'test AUC':>18}"
        f"{'ms a step':>10}{'slots, MB':>10}  rates: tables, rest",
        flush=True,
    )
    for name in names:
        spec, centre = CANDIDATES[name]
        trainer = Trainer(config, made["transform_graph"], train, spec)
        outcome = tune(name, trainer, centre, validation, test, seeds)
        with (home / "results.jsonl").open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        show(outcome)


def tune(
    name: str,
    trainer: Trainer,
    centre: float,
    validation: Data,
    test: Data,
    seeds: int,
) -> Outcome:
    """Chooses the rates on `validation`, then scores each seed on `test`."""
    seen: dict[tuple[float, float], float] = {}

    def loss(tables: float, rest: float) -> float:
        if (tables, rest) not in seen:
            trainer.train((centre * 10**tables, centre * 10**rest), 1)
            seen[tables, rest] = trainer.scores(validation).logloss
        return seen[tables, rest]

    both, edge_1 = minimum(lambda e: loss(e, e), 0.0)
    tables, edge_2 = minimum(lambda e: loss(e, both), both)
    rest, edge_3 = minimum(lambda e: loss(tables, e), both)
    rates = (float(centre * 10**tables), float(centre * 10**rest))
    scores = []
    for seed in range(2, seeds + 2):
        trainer.train(rates, seed)
        scores.append(trainer.scores(test))
    # The first epoch was traced.
    step = float(np.median(trainer.milliseconds[1:]))
    return Outcome(
        name,
        rates,
        edge_1 or edge_2 or edge_3,
        scores,
        step,
        trainer.slot_bytes,
    )


def minimum(loss: Callable[[float], float], start: float) -> tuple[float, bool]:
    """Where `loss` is least among the grid's points around `start`.

    The grid grows where its edge is best; also whether it did so in vain.
    """
    points = [start + e for e in _GRID]
    while True:
        best = min(points, key=loss)
        if points[0] < best < points[-1]:
            return best, False
        if len(points) > 3 * len(_GRID):
            return best, True
        if best == points[0]:
            points.insert(0, best - _STEP)
        else:
            points.append(best + _STEP)


def show(outcome: Outcome) -> None:
    """One line of the table."""
    loss = np.array([s.logloss for s in outcome.test])
    area = np.array([s.auc for s in outcome.test])
    tables, rest = outcome.rates
    print(
        f"{outcome.candidate:18}{loss.mean():10.4f} ±{loss.std(ddof=1):.4f}"
        f"{area.mean():10.4f} ±{area.std(ddof=1):.4f}"
        f"{outcome.milliseconds:10.1f}{outcome.slot_bytes / 1e6:10.1f}"
        f"  {tables:.1e} {rest:.1e}{' !' if outcome.on_edge else ''}",
        flush=True,
    )


def main() -> None:
    """Prints one table a dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("datasets", nargs="*", metavar="DATASET")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--home", type=Path, help="keeps what was prepared")
    options = parser.parse_args()
    with measure.scratch() as scratch:
        for dataset in options.datasets or list(DATASETS):
            home = (options.home or scratch) / dataset
            made = measure.alone(prepare, dataset, options.rows, home)
            study(dataset, home, made, options.seeds, options.only)


if __name__ == "__main__":
    main()
