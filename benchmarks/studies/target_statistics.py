"""Clicks and rows of each id before each row's time, as numbers of the row.

    python -m benchmarks.studies.target_statistics [--logs criteo-1 days ...]
        [--seeds 2] [--test]

The script trains LightGBM on the numbers and these statistics, its target
encoding. The networks are those of `architectures --numbers zscore
zscore+live`. The newest tenth of a log tests, with `--test` alone; the tenth
before it chooses the number of trees.

A statistic is what was known of the id at one of three times:

    live    at the row's own, strictly before it
    daily   when the row's day began, a tenth of the log
    frozen  at its own in the training rows, and when these end in later rows

Counts of rows grow along the log, so that later rows lie beyond those of the
training: networks see them with `+counts` alone.

A caller that keeps counters sends `live`. An export that carries a table has
`daily` if it is trained each day, and never more than `frozen` after that.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.studies.named_logs import DAYS, log_of
from benchmarks.studies.scores import judged, parts, show

WAYS = {"live", "daily", "frozen"}
_PRIOR = 20.0  # rows of the base rate that each id begins with
_TREES, _FEW = 2000, 50


def before(ids: Any, label: Any, moment: Any) -> tuple[Any, Any]:
    """Rows and clicks of each row's id before a moment.

    Args:
        ids: of the rows, in order of time, [N].
        label: of the rows.
        moment: how many rows of the log each row knows, [N].
    """
    count = len(ids)
    order = np.argsort(ids, kind="stable")
    key = ids[order] * (count + 1) + order
    sums = np.concatenate([[0.0], np.cumsum(label[order])])
    first = np.searchsorted(key, ids * (count + 1))
    end = np.searchsorted(key, ids * (count + 1) + moment)
    return end - first, sums[end] - sums[first]


def moments(count: int, way: str | int) -> Any:
    """How many rows of the log each row knows, by the way.

    A number is of the first rows: later ones know those, as if frozen there.
    """
    rows = np.arange(count)
    if isinstance(way, int):
        return np.minimum(rows, way)
    day = count // DAYS
    if way == "daily":
        return rows // day * day
    if way == "frozen":
        return np.minimum(rows, day * (DAYS - 2))
    return rows


def statistics(
    ids: Any, label: Any, way: str | int, counts: bool = True
) -> dict[str, Any]:
    """Log-odds over the base rate and log count of each feature's id.

    Args:
        ids: [N, F], in order of time.
        label: [N].
        way: see `moments`.
        counts: whether the counts come too.
    """
    moment = moments(len(label), way)
    clicks = np.concatenate([[0.0], np.cumsum(label, dtype=np.float64)])
    base = (clicks[moment] + 1) / (moment + 10)
    odds = np.log(base) - np.log1p(-base)
    found = {}
    for f, column in enumerate(ids.T):
        rows, its = before(column.astype(np.int64), label, moment)
        rate = (its + _PRIOR * base) / (rows + _PRIOR)
        found[f"c{f}_rate"] = np.log(rate) - np.log1p(-rate) - odds
        if counts:
            found[f"c{f}_rows"] = np.log1p(rows)
    return found


def trees(log: Any, way: str, seed: int, test: bool) -> dict[str, float]:
    """Scores of LightGBM on numbers and statistics."""
    import lightgbm

    train, held_out, last = parts(len(log.label))
    known = statistics(log.ids, log.label, way)
    x = np.column_stack([log.numbers, *known.values()]).astype(np.float32)
    data = lightgbm.Dataset(x[train], log.label[train], free_raw_data=False)
    began = time.process_time()
    model = lightgbm.train(
        {
            "objective": "binary",
            "learning_rate": 0.05,
            "num_leaves": 63,
            "feature_fraction": 0.5,
            "seed": seed,
            "num_threads": 1,
            "verbose": -1,
        },
        data,
        _TREES,
        [data.create_valid(x[held_out], log.label[held_out])],
        callbacks=[lightgbm.early_stopping(_FEW, verbose=False)],
    )
    scores = {"cpu_seconds": time.process_time() - began}
    parts_wanted = {"validation": held_out} | ({"test": last} if test else {})
    for part, rows in parts_wanted.items():
        auc, loss = judged(log.label[rows], model.predict(x[rows]))
        scores |= {f"{part}_auc": auc, f"{part}_logloss": loss}
    return scores


def main() -> None:
    """Prints a line for each log and way."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--logs", nargs="+", default=["criteo-1"])
    parser.add_argument("--ways", nargs="+", default=sorted(WAYS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    for name in options.logs:
        log = log_of(name)
        print(name)
        for way in options.ways:
            seeds = range(1, options.seeds + 1)
            scores = [trees(log, way, seed, options.test) for seed in seeds]
            show(f"LightGBM {way}", scores)


if __name__ == "__main__":
    main()
