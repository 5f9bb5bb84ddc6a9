"""Inputs of a model from a log in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.studies.logs import Log
from benchmarks.studies.scores import parts


def encoded(log: Log, least: int | Sequence[int] = 2) -> tuple[Any, Any]:
    """Layout and inputs, as Transform's defaults make them.

    Args:
        log: whose ids below 0 are missing.
        least: rows from which an id is kept, or those of each feature.
    """
    from models.preprocessing.input_layout import IdFeature, Layout

    train = parts(len(log.label))[0]
    inputs, single = {}, []
    columns = []
    leasts = np.broadcast_to(least, log.ids.shape[1])
    for f, values in enumerate(log.ids.T):
        present = values[train][values[train] >= 0]
        counts = np.bincount(present, minlength=values.max() + 1)
        kept = np.flatnonzero(counts >= leasts[f])
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        place = np.full(len(counts), 1 + len(kept))
        place[kept] = 1 + np.arange(len(kept))
        columns.append(np.where(values < 0, 0, place[values]))
        single.append(IdFeature(f"c{f}", 2 + len(kept), 16))
    if columns:
        inputs["ids"] = np.stack(columns, 1).astype(np.int64)
    x = np.sign(log.numbers) * np.log1p(np.abs(log.numbers))
    if x.shape[1]:
        spread = np.maximum(x[train].std(0), 1e-9)
        inputs["dense"] = ((x - x[train].mean(0)) / spread).astype(np.float32)
    names = tuple(f"n{i}" for i in range(x.shape[1]))
    return Layout(tuple(single), (), names), inputs
