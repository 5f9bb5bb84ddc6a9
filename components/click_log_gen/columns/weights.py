"""The weight of each row: from a column, an age, or a propensity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.arrow_masks import mask
from components.click_log_gen.columns.event_time import Times
from components.click_log_gen.columns.rows import Column, Verdicts
from components.click_log_gen.config.weight import Weight

Weights = npt.NDArray[np.float32]
LEAST = 1e-30  # of a weight by age: the oldest rows stay, without effect


def weights(
    array: pa.Array, column: Column, config: Weight, verdicts: Verdicts
) -> Weights:
    """Weight of each row; a row without a usable one is refused, and has 1.

    Args:
        array: the column's values.
        column: how they are read.
        config: the config section; not one by time.
    """
    values = column.float64(array, verdicts)
    missing = mask(values.is_null())
    found = values.fill_null(1.0).to_numpy()
    where = f"column {column.name}"
    if config.default is None:
        verdicts.refuse(missing, f"{where}: no {_what(config)}")
    if config.propensity is not None:
        bad = ~missing & ((found <= 0) | (found > 1))
        verdicts.refuse(
            bad, f"{where}: the propensity is not above 0 and up to 1"
        )
        found = 1 / np.where(bad, 1.0, found)
    elif config.half_life is not None:
        bad = ~missing & (found < 0)
        verdicts.refuse(bad, f"{where}: the age is negative")
        found = _halved(np.where(bad, 0.0, found) / float(config.half_life))
    if config.default is not None:
        found = np.where(missing, config.default, found)
    if config.clip is not None:
        found = np.minimum(found, config.clip)
    with np.errstate(over="ignore", under="ignore"):
        narrow: Weights = found.astype(np.float32)
    for bad, reason in (
        (narrow < 0, "is negative"),
        (narrow == 0, "is zero"),
        (np.isinf(narrow), "is too large for 32 bits"),
    ):
        verdicts.refuse(bad & ~missing, f"{where}: the weight {reason}")
    usable: Weights = np.where(verdicts.good, narrow, np.float32(1))
    return usable


def by_time(times: Times, newest: int, config: Weight) -> Weights:
    """Weights of rows of these times: 1 of the newest row.

    Args:
        times, newest: in microseconds since 1970.
        config: the config section, by time.
    """
    age = np.maximum(newest - times, 0)
    found: Weights = _halved(age / config.half_life_micros).astype(np.float32)
    return found


def _halved(half_lives: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.maximum(0.5**half_lives, LEAST)
    return found


def _what(config: Weight) -> str:
    if config.propensity is not None:
        return "propensity"
    return "weight" if config.half_life is None else "age"
