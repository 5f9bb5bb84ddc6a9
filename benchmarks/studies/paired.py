"""Does `auto` reach the settings of a shipped config? Pairs on real logs.

    python -m benchmarks.studies.paired [criteo movielens] [--seeds 3]

A check: nothing is chosen by it. The shipped settings were chosen with the
newest tenth of the sample in sight.

- criteo: each tenth of the sample tests once. The tenth before it is the eval
  split, the other eight train. A tenth's figure is the mean of its seeds.
- movielens: the split by time, 80 % to train, a tenth for eval, the newest
  tenth to test. The interval is of 500 bootstrap samples of the test rows, of
  the mean of the seeds.

`auto`, `straight` (`auto` with `train.curves: false`) and `shipped` train from
memory on what Transform makes of the rows, by `learned` of
`benchmarks.studies.defaults`. MovieLens has no numbers, so no `straight`.
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.studies.defaults import Tweak, learned, predicted
from benchmarks.studies.encoding import encoded
from benchmarks.studies.logs import Log
from benchmarks.studies.scores import judged

_ROOT = Path(__file__).resolve().parents[2]
_TENTHS, _REPLICATES = 10, 500


def main() -> None:
    """Prints the pairs of each log."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    logs = {"criteo": by_tenths, "movielens": by_time}
    parser.add_argument("logs", nargs="*", choices=[*logs, []])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in options.logs or logs:
        config = _ROOT / "configs" / f"{name}.yaml"
        settings = yaml.safe_load(config.read_text("utf-8"))
        logs[name](settings, options.seeds)


def by_tenths(settings: dict[str, Any], seeds: int) -> None:
    """Criteo: a line for each tenth, and the mean of their differences."""
    whole = criteo(settings)
    rows = len(whole.label)
    names = ["auto", "straight", "shipped"]
    found = []
    for tenth in range(_TENTHS):
        order = np.roll(np.arange(rows), -(tenth + 1) * rows // _TENTHS)
        log = Log(
            whole.ids[order],
            whole.numbers[order],
            whole.label[order],
            whole.truth,
        )
        each = []
        for seed in range(1, seeds + 1):
            label, chances = trained(log, settings, seed, names)
            each.append([judged(label, chance) for chance in chances])
        found.append(np.mean(each, 0))
        figures = (
            f"{name} {auc:.4f} / {loss:.4f}"
            for name, (auc, loss) in zip(names, found[-1], strict=True)
        )
        print(f"criteo, tenth {tenth}:", *figures, sep="  ", flush=True)
    scores = np.array(found)  # [tenths, names, figures]
    for place, name in enumerate(names[1:], 1):
        ahead = scores[:, 0] - scores[:, place]
        error = ahead.std(0, ddof=1) / np.sqrt(_TENTHS)
        print(
            f"criteo: auto less {name}, mean of tenths ± standard error:"
            f" AUC {ahead[:, 0].mean():+.4f} ± {error[0]:.4f},"
            f" logloss {ahead[:, 1].mean():+.5f} ± {error[1]:.5f}"
        )


def by_time(settings: dict[str, Any], seeds: int) -> None:
    """MovieLens: a line for each seed, and the interval of the mean."""
    log = movielens(settings)
    label, chances = np.zeros(0), []
    for seed in range(1, seeds + 1):
        label, pair = trained(log, settings, seed, ["auto", "shipped"])
        chances.append(pair)
        auto, shipped = (judged(label, chance) for chance in pair)
        print(
            f"movielens, seed {seed}: auto {auto[0]:.4f} / {auto[1]:.4f}"
            f"  shipped {shipped[0]:.4f} / {shipped[1]:.4f}",
            flush=True,
        )

    def ahead(rows: Any) -> Any:
        """Mean of the seeds' differences on some test rows."""
        pairs = [
            [judged(label[rows], chance[rows]) for chance in pair]
            for pair in chances
        ]
        return np.mean([np.subtract(a, b) for a, b in pairs], 0)

    rng = np.random.default_rng(0)
    mean = ahead(np.arange(len(label)))
    samples = [
        ahead(rng.integers(0, len(label), len(label)))
        for _ in range(_REPLICATES)
    ]
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    print(
        "movielens: auto less shipped, 95 % interval:"
        f" AUC {mean[0]:+.4f} [{low[0]:+.4f}, {high[0]:+.4f}],"
        f" logloss {mean[1]:+.5f} [{low[1]:+.5f}, {high[1]:+.5f}]"
    )


def trained(
    log: Log, settings: dict[str, Any], seed: int, names: Sequence[str]
) -> tuple[Any, list[Any]]:
    """Labels of the test rows, and their chances by each of `names`."""
    from models.config.training import ModelConfig, TrainConfig
    from models.training.metrics import sigmoid

    def straight(sections: dict[str, Any]) -> None:
        sections["train"]["curves"] = False

    def shipped(sections: dict[str, Any]) -> None:
        train = TrainConfig.model_validate(settings["train"] | {"seed": seed})
        model = ModelConfig.model_validate(settings["model"])
        sections["train"] = train.model_dump(mode="json")
        sections["model"] = model.model_dump(mode="json")
        sections["optimizer"] = settings["optimizer"]

    contenders: dict[str, tuple[int | list[int], Tweak | None]] = {
        "auto": (2, None),
        "straight": (2, straight),
        "shipped": (least_counts(settings), shipped),
    }
    labels, chances = None, []
    asked = TrainConfig().asked()
    for name in names:
        least, tweak = contenders[name]
        layout, inputs = encoded(log, least)
        model = learned(layout, inputs, log.label, asked, seed, tweak).model
        labels, logits = predicted(model, inputs, log.label)
        chances.append(sigmoid(logits))
    return labels, chances


def least_counts(settings: dict[str, Any]) -> list[int]:
    """Rows from which a value has an id of its own, of each feature."""
    features = settings["features"]
    usual = features.get("defaults", {}).get("min_count", 2)
    return [
        f.get("min_count", usual) if isinstance(f, dict) else usual
        for f in features["categorical"]
    ]


def criteo(settings: dict[str, Any]) -> Log:
    """The sample's rows, in order."""
    columns = _columns(settings)
    features = settings["features"]
    ids = [_codes(columns[name]) for name in features["categorical"]]
    numbers = [
        [float(x) if x else 0.0 for x in columns[name]]
        for name in features["numeric"]
    ]
    label = np.array(columns["label"], np.float64)
    return Log(
        np.stack(ids, 1), np.array(numbers).T, label, np.zeros(len(label))
    )


def movielens(settings: dict[str, Any]) -> Log:
    """The ratings, by time."""
    columns = _columns(settings)
    time = np.array(columns["timestamp"], np.float64)
    order = np.argsort(time, kind="stable")
    least = settings["data"]["label"]["at_least"]
    label = (np.array(columns["rating"], np.float64) >= least) * 1.0
    names = [f["name"] for f in settings["features"]["categorical"]]
    ids = np.stack([_codes(columns[name]) for name in names], 1)
    rows = len(label)
    return Log(ids[order], np.zeros((rows, 0)), label[order], np.zeros(rows))


def _columns(settings: dict[str, Any]) -> dict[str, list[str]]:
    """Column name -> texts."""
    given = settings["data"]["impressions"]
    with (_ROOT / given["path"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    rows = rows[1:] if given.get("header") else rows
    return dict(
        zip(given["columns"], map(list, zip(*rows, strict=True)), strict=True)
    )


def _codes(values: Sequence[str]) -> Any:
    """A number for each text, from 0 on; -1 where it is empty."""
    texts, codes = np.unique(values, return_inverse=True)
    return codes - int(texts[0] == "")


if __name__ == "__main__":
    main()
