"""Do the defaults train? `auto` beside logistic regression on generated logs.

    python -m benchmarks.studies.defaults [--seeds 3] [--shapes "pairs" ...]
        [--only auto regression LightGBM straight]

The first 80 % of a log train, the next tenth is the eval split, the last tenth
tests. `auto` is what `lionctr run` does where a config has nothing but data,
features and label; here the rows come from memory. Logistic regression is
scikit-learn's, on one-hot ids and standardized numbers; its penalty is chosen
on the newest tenth of the training rows. `straight` is `auto` with
`train.curves: false`. The truth is that of the generator.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.encoding import encoded
from benchmarks.studies.logs import SHAPES, Log, draw
from benchmarks.studies.named_logs import generated
from benchmarks.studies.rivals import regression, trees
from benchmarks.studies.scores import judged, parts

Tweak = Callable[[dict[str, Any]], None]
# Logs of 10,000 rows by `lionctr generate`, without lists of values.
GENERATED = ("Criteo's shape", "ads")


def log_of(name: str, seed: int) -> Log:
    """A log of a shape, or of `GENERATED`; missing numbers are 0."""
    if name in SHAPES:
        return draw(SHAPES[name], seed)
    from pipeline.synthetic.ads import Ads
    from pipeline.synthetic.criteo import Criteo

    kinds: dict[str, type[Any]] = dict(
        zip(GENERATED, (Criteo, Ads), strict=True)
    )
    rows = generated(kinds[name], 10_000, seed)
    numbers = np.nan_to_num(rows.numbers)
    return Log(rows.ids, numbers, rows.label.astype(np.float64), rows.truth)


class Learned(NamedTuple):
    """A trained model, its course, and the linear model before it, if any."""

    model: Any
    result: Any
    start: Any


def learned(
    layout: Any,
    inputs: dict[str, Any],
    label: Any,
    asked: dict[str, Any],
    seed: int,
    tweak: Tweak | None = None,
    ordered: Callable[[Any], Any] | None = None,
    model: str = "wide_deep",
) -> Learned:
    """Trains as `lionctr run` does where nothing but `asked` is given.

    Args:
        layout: of the inputs.
        inputs: by name, all rows of each.
        label: of all rows.
        asked: section `train`, as it was asked for.
        seed: of weights and shuffles.
        tweak: changes the sections once they are chosen.
        ordered: gives the training rows in order, of the section `train`;
            None: they are shuffled in each epoch.
        model: name of the architecture.
    """
    import keras

    from models.architectures.registry import build_model
    from models.config.training import ModelConfig, Negatives, TrainConfig
    from models.preprocessing.id_space import Keys
    from models.training import linear_start, loop
    from models.training.automatic import choose
    from optimizers.registry import build_optimizer

    label = label.astype(np.float32)
    train, held_out, _ = parts(len(label))
    sections: dict[str, Any] = {
        "model": ModelConfig(name=model).asked(),
        "optimizer": {"name": "lion", "learning_rate": "auto"},
        "train": asked | {"seed": seed},
    }
    ids = sum(f.size for f in layout.ids)
    clicks = int(label[train].sum())
    events = min(clicks, train.stop - clicks)
    sections, _ = choose(sections, train.stop, ids, events)
    if tweak:
        tweak(sections)
    config = TrainConfig.model_validate(sections["train"])

    def epoch() -> Any:
        if ordered:
            return batches(inputs, label, ordered(config), config.batch_size)
        buffer = config.shuffle
        return batches(inputs, label, train, config.batch_size, buffer, seed)

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    network = ModelConfig.model_validate(sections["model"])
    linear = None
    if config.linear_start:
        linear = linear_start.fit(
            layout,
            {f.name: Keys("vocab", f.size, 1) for f in layout.single},
            batches(inputs, label, train),
            batches(inputs, label, held_out),
            Negatives(),
            sections["train"]["curves"],
        )
        layout = replace(layout, pieces=linear.pieces)
    built = build_model(
        layout,
        network.with_logits(config.loss.logits),
        float(label[train].mean()),
    )
    if linear:
        linear.give(built)
    steps = -(-train.stop // config.batch_size) * config.epochs
    result = loop.train(
        built,
        build_optimizer(sections["optimizer"], steps),
        epoch(),
        batches(inputs, label, held_out),
        train.stop,
        config,
    )
    return Learned(built, result, linear and linear.start)


def batches(
    inputs: dict[str, Any],
    label: Any,
    rows: Any,
    size: int = 4096,
    buffer: int = 0,
    seed: int = 0,
) -> Any:
    """Batches of some rows, shuffled within a buffer."""
    import tensorflow as tf

    some = {name: x[rows] for name, x in inputs.items()}
    data = tf.data.Dataset.from_tensor_slices((some, label[rows]))
    if buffer:
        data = data.shuffle(buffer, seed=seed)
    return data.batch(size).prefetch(tf.data.AUTOTUNE)


def predicted(model: Any, inputs: dict[str, Any], label: Any) -> Any:
    """Labels and logits of the test rows."""
    from models.training.evaluation import Evaluation

    test = parts(len(label))[2]
    return Evaluation(model).predict(
        batches(inputs, label.astype(np.float32), test)
    )


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
    from models.config.training import TrainConfig
    from models.training.metrics import sigmoid

    layout, inputs = encoded(log)
    asked = TrainConfig().asked()
    trained, result, start = learned(
        layout, inputs, log.label, asked, seed, tweak, model=model
    )
    labels, logits = predicted(trained, inputs, log.label)
    auc, logloss = judged(labels, sigmoid(logits))
    return {
        "auc": auc,
        "logloss": logloss,
        "eval_logloss": result.eval_logloss,
        "best": result.course.best,
        "steps": result.steps,
        "penalty": start and start.penalty,
        "curves": start and start.curves,
    }


def repeated(seeds: int, one: Callable[[int], Any]) -> tuple[Any, float]:
    """Figures of each seed, [seeds, figures], and the seconds of CPU."""
    began = time.process_time()
    found = np.array([one(seed) for seed in range(1, seeds + 1)])
    return found, time.process_time() - began


def arguments(
    text: str | None, names: Iterable[str], seeds: int, word: str = "shapes"
) -> argparse.ArgumentParser:
    """A parser with the number of worlds, and the names of the logs."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument(f"--{word}", nargs="*", choices=list(names))
    return parser


def main() -> None:
    """Prints a line for each shape: means over the seeds."""

    def straight(sections: dict[str, Any]) -> None:
        sections["train"]["curves"] = False

    parser = arguments(__doc__, [*SHAPES, *GENERATED], seeds=3)
    parser.add_argument("--first", type=int, default=1, help="seed")
    contenders: dict[str, Callable[[Log, int], tuple[float, float]]] = {
        "auto": lambda log, seed: ours(automatic(log, seed)),
        "regression": lambda log, seed: regression(log),
        "LightGBM": lambda log, seed: trees(log),
        "straight": lambda log, seed: ours(automatic(log, seed, straight)),
    }
    some = list(contenders)[:2]
    parser.add_argument("--only", nargs="*", choices=contenders, default=some)
    options = parser.parse_args()
    names = options.only
    print(
        f"{'log':24}{'rows':>8}{'rate':>7}  {'truth':>14}"
        + "".join(f"  {name:>14}" for name in names)
        + f"  {names[0]} less each other, ± between worlds"
    )
    for name in options.shapes or SHAPES:
        log = log_of(name, 1)
        rows, rate = log.label.shape[0], log.truth.mean()

        def one(seed: int, name: str = name) -> Any:
            log = log_of(name, seed + options.first - 1)
            test = parts(len(log.label))[2]
            truth = judged(log.label[test], log.truth[test])
            return [truth] + [contenders[n](log, seed) for n in names]

        found, spent = repeated(options.seeds, one)
        means = found.mean(0)
        ahead = found[:, 1:2] - found[:, 2:]
        print(
            f"{name:24}{rows:>8,}{rate:>7.1%}"
            + "".join(f"  {auc:.4f} / {loss:.4f}" for auc, loss in means)
            + "".join(
                f"  {auc:+.4f} ± {of_auc:.4f}, {loss:+.5f} ± {of_loss:.5f}"
                for (auc, loss), (of_auc, of_loss) in zip(
                    ahead.mean(0), ahead.std(0), strict=True
                )
            )
            + f"  {spent:.0f} CPU s",
            flush=True,
        )


def ours(found: dict[str, Any]) -> tuple[float, float]:
    """AUC and logloss of the test rows."""
    return found["auc"], found["logloss"]


if __name__ == "__main__":
    main()
