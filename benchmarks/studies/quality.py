"""Test AUC and logloss of ours with Lion, and of others with Adam.

    python -m benchmarks.studies.quality
        [criteo movielens open_bandit generated criteo_shaped]
        [--peers-python PATH] [--deepctr-python PATH] [--seeds 5]
        [--models dcn_v2,dcn_v2+pieces] [--ours lion,adam]
        [--logs criteo-1]

All see the same transformed rows: 80 % to train, the next 10 % to choose
settings by, the last 10 % to test, in the order of the log. Ours is `lionctr
compare` of the shipped config: it chooses Lion's rate and decay and trains
with each seed; with `--models`, each architecture. The others get the
config's batch size and as many trainings to choose: of Adam's rate, dropout,
penalty and size, one after the other, each by its best epoch. LightGBM and
scikit-learn's logistic regression show what trees and a linear model reach.

With `--logs` the others alone see a log of `architectures`, which has ours.

The environments of the others are those of train.py, with lightgbm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import measure
from benchmarks.studies import train

_ROOT = Path(__file__).resolve().parents[2]
_EPOCHS = 10  # at most, and twice the config's
# Dataset -> config, and what replaces its settings.
DATASETS: dict[str, tuple[str, list[str]]] = {
    "criteo": ("configs/criteo.yaml", []),
    "movielens": ("configs/movielens.yaml", []),
    "open_bandit": ("configs/open_bandit.yaml", []),
    "generated": (
        "configs/demo.yaml",
        [
            "train.batch_size=1024",
            "train.epochs=2",
            "model.embedding_l2=0.1",
        ],
    ),
    # A config with nothing but data, features and label.
    "criteo_shaped": (
        "configs/criteo.yaml",
        [
            "features.defaults={}",
            "model={name: wide_deep}",
            "optimizer={name: lion}",
            "train={batch_size: 512}",
            "evaluate={}",
        ],
    ),
}
_SHAPES = {"generated": "ads", "criteo_shaped": "criteo"}
# Rows to train on: of more, only rates and dropout are tried, within the
# config's epochs.
_MANY = 200_000
# One after the other, the best so far kept.
_NEURAL: list[list[dict[str, Any]]] = [
    [{"rate": rate} for rate in (3e-4, 1e-3, 3e-3)],
    [{"dropout": 0.0}, {"dropout": 0.2}],
    [{"l2": 1e-5}, {"l2": 1e-4}, {"l2": 1e-3}],
    [{"dim": 16, "hidden": [256, 128]}],
]
_LINEAR: list[list[dict[str, Any]]] = [[{"l2": 1.0}, {"l2": 10.0}]]
_TREES: list[list[dict[str, Any]]] = [
    [{"rate": rate} for rate in (0.02, 0.05, 0.1)],
    [{"hidden": [leaves]} for leaves in (7, 15, 31)],
    [{"dropout": 0.5}],  # a tree's share of columns left out
    [{"l2": 1.0}, {"l2": 10.0}],
]


_GRIDS: dict[str, tuple[list[list[dict[str, Any]]], dict[str, Any]]] = {
    "lightgbm_trees.py": (
        _TREES,
        {"dropout": 0.0, "epochs": 1, "hidden": [15]},
    ),
    "lightgbm_encoded.py": (
        _TREES,
        {"dropout": 0.0, "epochs": 1, "hidden": [63]},
    ),
    "logistic_regression.py": (_LINEAR, {"epochs": 1}),
}


def config_of(dataset: str, rows: int, home: Path) -> Path:
    """The dataset's config, with a test split and without lists."""
    from pipeline import config
    from pipeline.commands.generate import generate

    path, changes = DATASETS[dataset]
    splits = ["data.split.eval=0.1", "data.split.test=0.1"]
    changes = [f"root={home}", *splits, *changes]
    if dataset in _SHAPES:
        generate(rows, home / "logs", seed=1, shape=_SHAPES[dataset])
        changes.append(f"data.impressions.path={home}/logs/impressions.tsv")
    found = config.load(_ROOT / path, changes).resolved()
    # Not all of the others have features of several values.
    features = found["features"]
    features["categorical"] = [
        feature for feature in features["categorical"] if not feature["list"]
    ]
    derived = home / f"{dataset}.yaml"
    derived.write_text(yaml.safe_dump(found, sort_keys=False), "utf-8")
    return derived


def ours(
    path: Path, optimizers: str, seeds: int, models: str = ""
) -> dict[str, Any]:
    """Result of `lionctr compare`."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "compare", str(path), "--json"]
        + ["--optimizers", optimizers, "--seeds", str(seeds)]
        + (["--models", models] if models else []),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def write(path: Path, folder: Path) -> dict[str, Any]:
    """Writes the transformed rows as arrays; the settings to begin with."""
    import tensorflow_transform as tft

    from models.input_pipeline.dataset import Batches
    from models.preprocessing.input_layout import layout
    from models.preprocessing.transform_assets import asset_size
    from pipeline.config import load
    from pipeline.console import Console
    from pipeline.runners import local

    config = load(path)
    made = local.prepare(config, Console(sys.stderr))["Transform"]
    transform = tft.TFTransformOutput(made["transform_graph"])
    shape = layout(config.features, lambda n: asset_size(transform, n))
    ids, dense, label = [], [], []
    splits = []
    for split in ("train", "eval", "test"):
        pattern = f"{made['transformed_examples']}/Split-{split}/*"
        for inputs, clicked in Batches([pattern], transform, 1 << 16):
            ids.append(inputs["ids"].numpy())
            width = len(shape.dense)
            numbers = inputs["dense"] if width else np.zeros((len(clicked), 0))
            dense.append(np.asarray(numbers, np.float32))
            label.append(clicked.numpy())
        splits.append(sum(map(len, label)))
    np.save(folder / "ids.npy", np.concatenate(ids))
    np.save(folder / "dense.npy", np.concatenate(dense))
    np.save(folder / "label.npy", np.concatenate(label))
    rows_file = {"sizes": [one.size for one in shape.single], "splits": splits}
    (folder / "rows.json").write_text(json.dumps(rows_file), "utf-8")
    return {
        "dim": max(one.dim for one in shape.single),
        "hidden": list(config.model.hidden),
        "dropout": config.model.dropout,
        "batch": config.train.batch_size,
        "epochs": config.train.epochs
        if splits[0] > _MANY
        else min(_EPOCHS, 2 * config.train.epochs),
        "seed": 1,
    }


def chosen(
    ask: Any, settings: dict[str, Any], grid: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """The settings that are best on the rows to choose by."""
    best, least = settings, np.inf
    for alternatives in grid:
        start = best
        for change in alternatives:
            tried = {**start, **change}
            if tried == start and least < np.inf:
                continue
            loss = ask(tried)["valid"]
            if loss < least:
                best, least = tried, loss
    return best


def show(name: str, auc: Any, logloss: Any, remark: str = "") -> None:
    """A line: means and deviations over the seeds."""
    cells = "".join(
        f"{np.mean(v):>10.4f} ±{np.std(v, ddof=1) if len(v) > 1 else 0:.4f}"
        for v in (auc, logloss)
    )
    print(f"{name:22}{cells}  {remark}", flush=True)


def judge(dataset: str, options: argparse.Namespace, home: Path) -> None:
    """Prints a line for each contender on one dataset."""
    from pipeline.comparison import report

    path = measure.alone(config_of, dataset, options.rows, home)
    found = ours(path, options.ours, options.seeds, options.models)
    rows = home / "rows"
    rows.mkdir()
    settings = measure.alone(write, path, rows)
    print(f"\n{dataset}: {found['rows']}, {found['budget']}")
    print(f"{'':22}{'test AUC':>18}{'test logloss':>18}")
    for name, one in report.lines(found).items():
        kept = {k: one["optimizer"].get(k) for k in ("learning_rate",)}
        if one["optimizer"].get("weight_decay"):
            kept["weight_decay"] = one["optimizer"]["weight_decay"]
        test = one["test"]
        kept["tried"] = len(one["tried"])
        show(
            f"ours, {name}",
            test["auc"]["values"],
            test["logloss"]["values"],
            str(kept),
        )
    others(rows, settings, options)


def others(
    rows: Path, settings: dict[str, Any], options: argparse.Namespace
) -> None:
    """Prints a line for each contender that is not ours."""
    from sklearn.metrics import log_loss, roc_auc_score

    shape = json.loads((rows / "rows.json").read_text("utf-8"))
    trained, first, last = shape["splits"]
    many = trained > _MANY
    label = np.load(rows / "label.npy")[first:last]
    for name, (python, script) in contenders(options).items():
        grid, changes = _GRIDS.get(script, (_NEURAL, {}))
        start = {**settings, **changes}
        try:
            with train.contender(python, rows, script, "quality") as ask:
                best = chosen(ask, start, grid[:2] if many else grid)
                answers = [
                    ask({**best, "seed": best["seed"] + number})
                    for number in range(1, options.seeds + 1)
                ]
        except RuntimeError as error:
            print(f"{name:22}failed: {error}")
            continue
        tests = [np.clip(a["test"], 1e-7, 1 - 1e-7) for a in answers]
        show(
            name,
            [roc_auc_score(label, p) for p in tests],
            [log_loss(label, p) for p in tests],
            f"{ {k: best[k] for k in best if best[k] != settings.get(k)} }"
            f" epochs {[a['epoch'] for a in answers]}",
        )


def of_a_log(name: str, options: argparse.Namespace, rows: Path) -> None:
    """Prints a line for each other contender on a log of `architectures`."""
    settings = measure.alone(write_log, name, rows)
    print(f"\n{name}")
    others(rows, settings, options)


def write_log(name: str, folder: Path) -> dict[str, Any]:
    """Writes the rows of a log as `write`; the settings to begin with."""
    from benchmarks.studies.architectures import BATCH, DIM, encoded
    from benchmarks.studies.named_logs import log_of
    from benchmarks.studies.scores import parts

    log = log_of(name)
    layout, inputs = encoded(log, "zscore")
    np.save(folder / "ids.npy", inputs["ids"])
    np.save(folder / "dense.npy", inputs["dense"])
    np.save(folder / "label.npy", log.label)
    rows_file = {
        "sizes": [one.size for one in layout.single],
        "splits": [part.stop for part in parts(len(log.label))],
    }
    (folder / "rows.json").write_text(json.dumps(rows_file), "utf-8")
    return {
        "dim": DIM,
        "hidden": [256, 128],
        "dropout": 0.0,
        "batch": BATCH,
        "epochs": 1,
        "seed": 1,
    }


def contenders(options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Those of the environments that were named."""
    peers, deepctr = options.peers_python, options.deepctr_python
    found: dict[str, tuple[str | None, str]] = {
        "Keras 3 fit": (sys.executable, "keras_fit.py"),
        "DeepCTR WDL": (deepctr, "deepctr_wdl.py"),
        "DeepCTR-Torch WDL": (peers, "deepctr_torch_wdl.py"),
        "TorchRec": (peers, "torchrec_wide_deep.py"),
        "FuxiCTR WideDeep": (peers, "fuxictr_wide_deep.py"),
        "logistic regression": (sys.executable, "logistic_regression.py"),
        "LightGBM": (peers, "lightgbm_trees.py"),
        "LightGBM, encoded": (peers, "lightgbm_encoded.py"),
    }
    return {
        name: (python, script)
        for name, (python, script) in found.items()
        if python and (not options.only or any(p in name for p in options.only))
    }


def main() -> None:
    """Prints a table for each dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("datasets", nargs="*", choices=[*DATASETS, []])
    parser.add_argument("--peers-python")
    parser.add_argument("--deepctr-python")
    parser.add_argument("--ours", default="lion", metavar="OPTIMIZER,...")
    parser.add_argument("--models", default="", metavar="MODEL,...")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--logs", nargs="*", default=[], metavar="NAME")
    options = parser.parse_args()
    for name in options.logs:
        with measure.scratch() as home:
            of_a_log(name, options, home)
    for dataset in options.datasets or ([] if options.logs else DATASETS):
        with measure.scratch() as home:
            judge(dataset, options, home)


if __name__ == "__main__":
    main()
