"""Lookups of FBGEMM's published shape."""

from __future__ import annotations

from typing import Any

import numpy as np

DISTINCT = 350_280
"""Distinct rows among FBGEMM's 1,048,570 lookups."""


def zipf_lookups(
    rows: int, lookups: int, distinct: int, rng: np.random.Generator
) -> Any:
    """Ids of `rows` rows, of which `distinct` appear, by Zipf's law."""
    chosen = rng.choice(rows, distinct, replace=False)
    ranks = (rng.zipf(1.05, lookups - distinct) - 1) % distinct
    return rng.permutation(np.concatenate([chosen, chosen[ranks]]))
