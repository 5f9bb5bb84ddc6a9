"""DIN beside DCN V2 on a log in which histories decide: GAUC by seed.

    lionctr generate --shape shop --rows 150000 --format parquet --out LOG
    python -m benchmarks.studies.histories LOG [--models dcn_v2,din]
        [--seeds 3] [--epochs 2]

Each row's history is the items that its user clicked before its time, by a
plain loop over the rows. `dcn_v2` sees their mean, as `pooling: mean` gives
it; `din` attends to them. Both have the same features, hidden layers and
optimizer: Adam at 0.002, chosen before the study. The last fifth of the rows
by time is judged; no setting is chosen by it.
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
    for name in ("item", "category", "device"):
        column = rows["item_id" if name == "item" else name]
        rows[name] = 1 + pd.factorize(column, sort=True)[0]
    return rows


def main() -> None:
    """Train each architecture with each seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--models", default="dcn_v2,din")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    rows = read(options.log)
    lists = histories(rows)
    first = int(0.8 * len(rows))
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
    from optimizers.registry import build_optimizer

    sizes = {n: int(rows[n].max()) + 1 for n in ("item", "category", "device")}
    layout = Layout(
        tuple(IdFeature(name, size, 16) for name, size in sizes.items()),
        (IdFeature("history", sizes["item"], 16, table="item"),),
        ("price", "page_seconds"),
        sequences=(SequenceInput(("history",), ("item",), (), _MOST),),
    )
    numbers = np.log1p(rows[["price", "page_seconds"]].fillna(0).to_numpy())
    numbers = (numbers - numbers[:first].mean(0)) / numbers[:first].std(0)

    def part(low: int, high: int) -> Any:
        inputs = {
            "ids": rows[list(sizes)].to_numpy(np.int64)[low:high],
            "dense": numbers[low:high].astype(np.float32),
            "list_history": tf.RaggedTensor.from_row_lengths(
                np.concatenate(
                    [np.array(x, np.int64) for x in lists[low:high]]
                ),
                [len(x) for x in lists[low:high]],
            ),
        }
        label = rows["label"].to_numpy(np.float32)[low:high]
        return tf.data.Dataset.from_tensor_slices((inputs, label))

    judged = rows[first:]
    users, label = judged["user_id"], judged["label"].to_numpy(float)
    for name in ("probability", "typical"):
        if name in judged:
            print(f"truth, {name}: GAUC {gauc(users, label, judged[name]):.4f}")
    train = part(0, first).shuffle(first, seed=1).batch(512)
    test = part(first, len(rows)).batch(4096)
    for name in options.models.split(","):
        found = []
        for seed in range(options.seeds):
            start_afresh(seed)
            config = ModelConfig(name=name, hidden=(64, 32))
            model = build_model(layout, config, float(rows["label"].mean()))
            spec = {"name": "adam", "learning_rate": 0.002}
            loop.train(
                model,
                build_optimizer(spec, 1, 3),
                train,
                test,
                first,
                TrainConfig(batch_size=512, epochs=options.epochs),
            )
            scores = np.concatenate([model(x).numpy() for x, _ in test])
            found.append(gauc(users, label, scores))
            print(f"{name}, seed {seed}: GAUC {found[-1]:.4f}", flush=True)
        deviation = np.std(found, ddof=1) if len(found) > 1 else 0.0
        print(f"{name}: GAUC {np.mean(found):.4f}, deviation {deviation:.4f}")


if __name__ == "__main__":
    main()
