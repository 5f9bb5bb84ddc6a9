"""Rows of each split of an artifact of examples, and the sums of their weights.

Both are kept in the artifact's folder, beside the folders of the splits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf

from models.errors import FailedError

ROWS = "rows.json"
WEIGHTS = "weights.json"  # where rows have weights


def write(folder: str, rows: Mapping[str, int]) -> None:
    """Keeps split -> rows in an artifact's folder."""
    with tf.io.gfile.GFile(os.path.join(folder, ROWS), "w") as file:
        file.write(json.dumps(dict(rows)))


def read(folders: Sequence[str]) -> dict[str, int] | None:
    """Split -> rows of some artifacts together; None if one does not say."""
    total: dict[str, int] = {}
    for folder in folders:
        path = os.path.join(folder, ROWS)
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            for split, rows in json.loads(file.read()).items():
                total[split] = total.get(split, 0) + int(rows)
    return total


def copy_weights(source: str, target: str) -> None:
    """Copies the sums of weights to another artifact, where there are some."""
    path = os.path.join(source, WEIGHTS)
    if tf.io.gfile.exists(path):
        tf.io.gfile.copy(path, os.path.join(target, WEIGHTS), overwrite=True)


def weights(patterns: Sequence[str], split: str) -> tuple[float, float]:
    """Sums of the weights of the negatives and of the positives of a split.

    Args:
        patterns: the files, `<artifact>/Split-<name>/*`.
        split: its name.

    Raises:
        FailedError: an artifact does not say.
    """
    total = positives = 0.0
    for folder in sorted({p.rsplit("/", 2)[0] for p in patterns}):
        path = os.path.join(folder, WEIGHTS)
        if not tf.io.gfile.exists(path):
            raise FailedError(
                f"{path} is missing, which ingest writes beside examples with"
                " weights; run the pipeline again from ClickLogGen"
            )
        with tf.io.gfile.GFile(path) as file:
            sums = json.loads(file.read())[split]
        total += sums["rows"]
        positives += sums["positives"]
    return total - positives, positives


def check(reader: str, patterns: Sequence[str], found: int) -> None:
    """Compares rows that were read with those that were written.

    Args:
        reader: who read them, for the message.
        patterns: the files, `<artifact>/Split-<name>/*`.
        found: their rows.

    Raises:
        FailedError: files are missing, or there are some of another run.
    """
    splits = [pattern.rpartition("/")[0] for pattern in patterns]
    names = {s.rpartition("/")[2].removeprefix("Split-") for s in splits}
    expected = read(sorted({split.rpartition("/")[0] for split in splits}))
    if expected is None or not names <= expected.keys():
        return
    wanted = sum(expected[name] for name in names)
    if found != wanted:
        raise FailedError(
            f"{reader}: {', '.join(patterns)} hold {found:,} rows, but ingest"
            f" wrote {wanted:,}: files were added or removed since. Remove the"
            f" folder {splits[0].rpartition('/')[0]} and run again"
        )
