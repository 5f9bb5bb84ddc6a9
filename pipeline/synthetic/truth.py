"""Scores the probabilities that the labels were drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.synthetic.clicks import GRID
from pipeline.synthetic.draw import Ints, Mask


class Truth:
    """Scores the true probabilities on the labels, exactly.

    Probabilities lie on a grid, so a histogram of them per label is enough.
    """

    def __init__(self, rows: int) -> None:
        self._tail = rows - max(1, rows // 10)
        # [all or last tenth, label, probability * GRID]
        self._seen: Ints = np.zeros((2, 2, GRID + 1), np.int64)

    def add(self, start: int, chance: Ints, label: Mask) -> None:
        for part, begin in enumerate((0, max(0, self._tail - start))):
            for value in (0, 1):
                seen = chance[begin:][label[begin:] == value]
                if len(seen):
                    self._seen[part, value] += np.bincount(
                        seen, minlength=GRID + 1
                    )

    def scores(self) -> dict[str, Any]:
        result: dict[str, Any] = {"positives": int(self._seen[0, 1].sum())}
        p = np.arange(1, GRID) / GRID
        for part, suffix in enumerate(("", "_last_tenth")):
            no, yes = self._seen[part].astype(np.float64)
            loss = -(yes[1:-1] @ np.log(p) + no[1:-1] @ np.log1p(-p))
            logloss = float(loss / (yes.sum() + no.sum()))
            won = float(yes @ (np.cumsum(no) - no / 2))
            pairs = float(yes.sum() * no.sum())
            result["truth_logloss" + suffix] = round(logloss, 6)
            result["truth_auc" + suffix] = (
                round(won / pairs, 6) if pairs else None
            )
        return result
