"""Split of a study's rows, and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np


def judged(label: Any, chance: Any) -> tuple[float, float]:
    """AUC and logloss."""
    from sklearn.metrics import log_loss, roc_auc_score

    auc = roc_auc_score(label, chance)
    return float(auc), float(log_loss(label, chance, labels=[0, 1]))


def parts(rows: int) -> tuple[slice, slice, slice]:
    """Rows to train, eval and test."""
    a, b = int(rows * 0.8), int(rows * 0.9)
    return slice(0, a), slice(a, b), slice(b, rows)


def show(name: str, scores: list[dict[str, float]]) -> None:
    """A line: logloss, AUC, seconds."""
    cells = []
    for part in ("validation", "test"):
        if f"{part}_logloss" in scores[0]:
            loss = [one[f"{part}_logloss"] for one in scores]
            auc = np.mean([one[f"{part}_auc"] for one in scores])
            cells.append(
                f"{part} {np.mean(loss):.5f} ± {np.std(loss):.5f} / {auc:.4f}"
            )
    cpu = np.mean([one["cpu_seconds"] for one in scores])
    print(f"  {name:44} {'  '.join(cells)}  {cpu:.0f} s of CPU", flush=True)
