"""Architectures that read histories on a log in which these decide: GAUC.

    lionctr generate --shape shop --rows 400000 --format parquet --out LOG
    python -m benchmarks.studies.histories LOG [--seeds 3] [--epochs 4]
        [--contenders dcn_v2,dcn_v2+attention,din,din+softmax,bst]
        [--optimizers adam,lion]

Each row's history is the items that its user clicked before its time, by a
plain loop over the rows. `dcn_v2` pools them, by their mean or by attention
with the target as query; `din` and `bst` look at each. All have the same
features and hidden layers. `adam` is Adam at 0.002, chosen before the study;
`lion` has the rates of `auto`.

By time, the first 70 % of the rows train, the next 10 % choose the epoch of
each training, the last 20 % are judged.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
_MOST = 50
_BATCH = 512
_IDS = ("item", "category", "device")
_ADAM: dict[str, Any] = {"name": "adam", "learning_rate": 0.002}


def histories(rows: pd.DataFrame) -> list[list[int]]:
    """Items clicked before each row's time by its user, the newest first."""
    past: dict[str, list[tuple[Any, int]]] = {}
    found = []
    for user, item, clicked, time in zip(
        rows["user_id"], rows["item"], rows["label"], rows["time"], strict=True
    ):
        mine = past.setdefault(user, [])
        before = [i for when, i in mine[-_MOST - 8 :] if when < time]
        found.append(before[::-1][:_MOST])
        if clicked:
            mine.append((time, item))
    return found


def gauc(users: Any, label: Floats, score: Floats) -> float:
    """AUC within each user, weighted by the user's rows."""
    frame = pd.DataFrame({"user": users, "label": label, "score": score})
    frame["rank"] = frame.groupby("user")["score"].rank()
    frame["of_click"] = frame["rank"] * frame["label"]
    by = frame.groupby("user").agg(
        rows=("label", "size"),
        clicks=("label", "sum"),
        ranks=("of_click", "sum"),
    )
    by = by[(by["clicks"] > 0) & (by["clicks"] < by["rows"])]
    others = by["clicks"] * (by["rows"] - by["clicks"])
    auc = (by["ranks"] - by["clicks"] * (by["clicks"] + 1) / 2) / others
    return float(np.average(auc, weights=by["rows"]))


def read(folder: Path) -> pd.DataFrame:
    """The impressions by time, with labels, ids and the truth."""
    rows = pd.read_parquet(folder / "impressions.parquet")
    truth = pd.read_parquet(folder / "truth.parquet")
    rows = rows.merge(truth, "left").rename(columns={"click": "label"})
    rows["time"] = pd.to_datetime(rows["timestamp"], format="ISO8601")
    rows = rows.sort_values("time", kind="stable").reset_index(drop=True)
    for name in _IDS:
        column = rows["item_id" if name == "item" else name]
        rows[name] = 1 + pd.factorize(column, sort=True)[0]
    return rows


class Study:
    """A log in memory, and what trainings on it give."""

    def __init__(self, folder: Path, epochs: int) -> None:
        import tensorflow as tf

        self._rows = read(folder)
        self._epochs = epochs
        count = len(self._rows)
        a, b = int(0.7 * count), int(0.8 * count)
        self._train = slice(0, a)
        self._choose, self._judge = slice(a, b), slice(b, count)
        lists = histories(self._rows)
        numbers = np.log1p(self._rows[["price", "page_seconds"]].fillna(0))
        past = numbers[self._train]
        numbers = (numbers - past.mean()) / past.std()
        self._inputs = {
            "ids": self._rows[list(_IDS)].to_numpy(np.int64),
            "dense": numbers.to_numpy(np.float32),
        }
        self._items = tf.RaggedTensor.from_row_lengths(
            np.concatenate([np.array(x, np.int64) for x in lists]),
            [len(x) for x in lists],
        )
        self._label = self._rows["label"].to_numpy(np.float32)

    def truth(self) -> dict[str, float]:
        """GAUC of the generator's probabilities on the rows to judge."""
        names = ("probability", "typical")
        return {n: self._gauc(self._rows[n], self._judge) for n in names}

    def _gauc(self, score: Any, rows: slice) -> float:
        if len(score) == len(self._rows):
            score = score[rows]
        users = self._rows["user_id"].to_numpy()[rows]
        return gauc(users, self._label[rows], np.asarray(score))

    def _batches(self, part: slice, seed: int | None) -> Any:
        import tensorflow as tf

        size = _BATCH if seed is not None else 4096
        numbers = tf.data.Dataset.range(part.start, part.stop)
        if seed is not None:
            numbers = numbers.shuffle(part.stop, seed=seed)

        def of(number: tf.Tensor) -> Any:
            inputs = {n: tf.gather(x, number) for n, x in self._inputs.items()}
            inputs["list_history"] = tf.gather(self._items, number)
            return inputs, tf.gather(self._label, number)

        return numbers.batch(size).map(of).prefetch(4)

    def _layout(self, pooling: str) -> Any:
        from models.preprocessing.input_layout import (
            IdFeature,
            Layout,
            SequenceInput,
        )

        sizes = {n: 1 + int(self._rows[n].max()) for n in _IDS}
        query = "item" if pooling == "attention" else ""
        return Layout(
            tuple(IdFeature(name, size, 16) for name, size in sizes.items()),
            (
                IdFeature(
                    "history", sizes["item"], 16, "item", pooling, query=query
                ),
            ),
            ("price", "page_seconds"),
            sequences=(SequenceInput(("history",), ("item",), (), _MOST),),
        )

    def trained(self, contender: str, optimizer: str, seed: int) -> float:
        """GAUC of the rows to judge, at the epoch that others choose."""
        import keras

        from models.architectures.registry import build_model
        from models.config.training import ModelConfig, TrainConfig
        from models.keras_versions import start_afresh
        from models.training import loop
        from models.training.automatic import choose
        from optimizers.registry import build_optimizer

        start_afresh(seed)
        name, _, option = contender.partition("+")
        model_options: dict[str, Any] = {"name": name, "hidden": (64, 32)}
        if option == "softmax":
            model_options["softmax"] = True
        spec = dict(_ADAM)
        if optimizer == "lion":
            spec = {"name": "lion", "learning_rate": "auto"}
        sections = {
            "model": {"dropout": 0.0, "embedding_l2": 0.0, **model_options},
            "optimizer": spec,
            "train": {"batch_size": _BATCH, "epochs": self._epochs},
        }
        rows = self._train.stop
        ids = sum(int(self._rows[n].max()) for n in _IDS)
        sections, _ = choose(sections, rows, ids)
        model = build_model(
            self._layout("attention" if option == "attention" else "mean"),
            ModelConfig(**sections["model"]),
            float(self._label[self._train].mean()),
        )
        choose_by = self._batches(self._choose, None)
        judged = self._batches(self._judge, None)
        found: list[tuple[float, float]] = []

        def score(data: Any, part: slice) -> float:
            scores = np.concatenate([model(x).numpy() for x, _ in data])
            return self._gauc(scores, part)

        def look(epoch: int, logs: Any) -> None:
            chosen = score(choose_by, self._choose)
            found.append((chosen, score(judged, self._judge)))

        steps = -(-rows // _BATCH) * self._epochs
        loop.train(
            model,
            build_optimizer(sections["optimizer"], steps),
            self._batches(self._train, seed),
            choose_by,
            rows,
            TrainConfig(batch_size=_BATCH, epochs=self._epochs),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)],
        )
        return max(found)[1]


def main() -> None:
    """Train each contender with each seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument(
        "--contenders", default="dcn_v2,dcn_v2+attention,din,din+softmax,bst"
    )
    parser.add_argument("--optimizers", default="adam,lion")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    study = Study(options.log, options.epochs)
    for name, value in study.truth().items():
        print(f"truth, {name}: GAUC {value:.4f}", flush=True)
    for optimizer in options.optimizers.split(","):
        for name in options.contenders.split(","):
            found = [
                study.trained(name, optimizer, seed)
                for seed in range(options.seeds)
            ]
            deviation = np.std(found, ddof=1) if len(found) > 1 else 0.0
            each = " ".join(f"{one:.4f}" for one in found)
            print(
                f"{name}, {optimizer}: GAUC {np.mean(found):.4f}, deviation"
                f" {deviation:.4f} ({each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
