"""Should rare ids be shrunk more than frequent ones? Three rules beside `auto`.

    python -m benchmarks.studies.rare_rows [--seeds 2] [--shapes "mixed" ...]

`auto` as `benchmarks.studies.defaults` trains it, on generated logs; n is how
many training rows have an id. The rules are patched in here, as none of them
is in the product:

- penalty k / n: the loss has k / n times the squares of the row of each id,
  so each row has the penalty k in a pass, where `embedding_l2` has l2 * n;
- credibility n / (n + k): the network reads the row times this share;
- decay k / n: before its update, a row loses the share rate * k / n; "decay
  k" is the same without n, as `weight_decay` of tables alone.

The eval rows choose each rule's k; the table has all of them, and the test
rows' AUC and logloss.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.studies.defaults import arguments, automatic, repeated
from benchmarks.studies.encoding import encoded
from benchmarks.studies.logs import SHAPES, Log, Shape, draw
from benchmarks.studies.scores import parts

# Shape -> rows: those with many rare ids that mean something together.
LOGS = {
    "user x item, sparse": 30_000,
    "mixed": 30_000,
    "pairs": 40_000,
    "ids, additive": 30_000,
}
CONTENDERS: dict[str, tuple[str, float]] = {
    "auto": ("", 0.0),
    "embedding_l2 0": ("l2", 0.0),
    "embedding_l2 0.02": ("l2", 0.02),
    "penalty 2 / n": ("penalty", 2.0),
    "penalty 20 / n": ("penalty", 20.0),
    "credibility, k 3": ("credibility", 3.0),
    "credibility, k 20": ("credibility", 20.0),
    "decay 3 / n": ("decay", 3.0),
    "decay 10 / n": ("decay", 10.0),
    "decay 30 / n": ("decay", 30.0),
    "decay 100 / n": ("decay", 100.0),
    "decay 0.1": ("flat", 0.1),
    "decay 1": ("flat", 1.0),
}


def counts_of(log: Log) -> Any:
    """Training rows of each row of the fused table, at least 1."""
    layout, inputs = encoded(log)
    train = parts(len(log.label))[0]
    return np.concatenate(
        [
            np.bincount(inputs["ids"][train, f], minlength=feature.size)
            for f, feature in enumerate(layout.single)
        ]
    ).clip(1)


@contextlib.contextmanager
def rule(kind: str, k: float, counts: Any) -> Iterator[None]:
    """The layer of embeddings, or Lion's kernel, with a rule of the above."""
    import tensorflow as tf

    from models.layers import embedding
    from models.preprocessing.input_layout import IDS
    from optimizers.ops import custom_op

    share = tf.constant(counts / (counts + k), tf.float32)
    by_count = k / counts if kind != "flat" else np.full(len(counts), k)
    by_count = tf.constant(by_count, tf.float32)
    gather = embedding.Lookup.gather
    apply: Callable[..., Any] = custom_op.resource_sparse_apply_lion
    first = np.array([])

    def places(inputs: Any) -> Any:
        return tf.reshape(inputs[IDS] + tf.constant(first, tf.int64), [-1])

    def credible(self: Any, table: Any, inputs: Any) -> Any:
        nonlocal first
        first = np.array([start for _, start in self._columns])
        rows = gather(self, table, inputs)
        if kind != "credibility" or self.dim == 1:
            return rows
        return rows * tf.gather(share, places(inputs))[:, None]

    def penalty(rows: Any, weights: Any, inputs: Any) -> Any:
        squares = tf.reduce_sum(tf.square(rows), 1)
        weighed = squares * tf.gather(by_count, places(inputs))
        return tf.reduce_sum(weighed) / tf.cast(
            tf.shape(inputs[IDS])[0], tf.float32
        )

    def decayed(**arguments: Any) -> Any:
        table, rate = arguments["var"], arguments["lr"]
        if table.shape[1] > 1:
            ids = tf.unique(arguments["indices"])[0]
            kept = 1 - tf.minimum(rate * tf.gather(by_count, ids), 1.0)
            table.scatter_update(
                tf.IndexedSlices(tf.gather(table, ids) * kept[:, None], ids)
            )
        return apply(**arguments)

    with contextlib.ExitStack() as stack:
        patch = mock.patch.object
        if kind in ("penalty", "credibility"):
            stack.enter_context(patch(embedding.Lookup, "gather", credible))
        if kind == "penalty":
            stack.enter_context(patch(embedding, "penalty", penalty))
        if kind in ("decay", "flat"):
            stack.enter_context(
                patch(custom_op, "resource_sparse_apply_lion", decayed)
            )
        yield


def trained(log: Log, seed: int, kind: str, k: float) -> dict[str, Any]:
    """`automatic` with a rule."""

    def tweak(sections: dict[str, Any]) -> None:
        if kind:
            l2 = {"l2": k, "penalty": 1.0}.get(kind, 0.0)
            sections["model"]["embedding_l2"] = l2

    with rule(kind, k, counts_of(log)):
        return automatic(log, seed, tweak)


def main() -> None:
    """Prints a line for each log and contender: means over the seeds."""
    parser = arguments(__doc__, LOGS, seeds=2)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS))
    options = parser.parse_args()
    print(
        f"{'log':22}{'contender':20}{'eval logloss':>12}"
        f"{'test AUC':>10}{'logloss':>9}{'less auto':>11}{'± of one':>9}"
    )
    for name in options.shapes or LOGS:
        shape = dataclasses.replace(SHAPES[name], rows=LOGS[name])
        base = None
        for contender, (kind, k) in CONTENDERS.items():
            if contender not in (options.only or CONTENDERS):
                continue

            def one(
                seed: int, shape: Shape = shape, kind: str = kind, k: float = k
            ) -> list[float]:
                found = trained(draw(shape, seed), seed, kind, k)
                return [found[x] for x in ("eval_logloss", "auc", "logloss")]

            found, spent = repeated(options.seeds, one)
            judged, auc, logloss = found.T
            base = logloss if base is None else base
            ahead = logloss - base
            print(
                f"{name:22}{contender:20}{judged.mean():12.5f}"
                f"{auc.mean():10.4f}{logloss.mean():9.5f}"
                f"{ahead.mean():+11.5f}{ahead.std():9.5f}"
                f"  {spent:.0f} CPU s",
                flush=True,
            )


if __name__ == "__main__":
    main()
