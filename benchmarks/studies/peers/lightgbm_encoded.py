"""LightGBM with target encoding of the ids; for quality.py alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import turns
from lightgbm_trees import Contender

sys.path.append(str(Path(__file__).parents[3]))
from benchmarks.studies.target_statistics import statistics


def build(rows: turns.Rows, settings: turns.Settings) -> Contender:
    """Trees on numbers, and on clicks of each id in the rows before.

    Rows to choose by and to test know the rows to train alone.
    """
    known = statistics(rows.ids, rows.label, rows.splits[0])
    encoded = np.column_stack(list(known.values())).astype(np.float32)
    dense = np.concatenate([rows.dense, encoded], 1)
    none = rows.ids[:, :0]
    return Contender(
        turns.Rows(none, dense, rows.label, [], rows.splits), settings
    )


if __name__ == "__main__":
    turns.main(build)
