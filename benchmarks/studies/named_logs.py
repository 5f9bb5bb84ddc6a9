"""Logs of the studies by their names, such as `criteo-1`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.logs import Shape, draw

DAYS = 10
_CURVED = Shape(
    300_000, 0.1, (50, 2000, 20_000), 12, 0.5, 0.4, curved=0.8, pairs=0.3
)
_MIXED = Shape(
    300_000, 0.05, (5, 30, 200, 2000, 50_000, 100_000), 8,
    0.7, 0.4, 0.4, 0.4, 0.3,
)  # fmt: skip
_RARE = Shape(300_000, 0.02, (20, 200, 3000, 100_000, 200_000), additive=1.2)
_FRESH = Shape(
    300_000, 0.05, (20, 300, 5000, 20_000, 3000), 3, 0.9, 0.3,
    local=(3, 4), drift=0.7,
)  # fmt: skip


class Rows(NamedTuple):
    """A log: codes [N, F], numbers [N, D] with NaN, labels, true chances."""

    ids: Any
    numbers: Any
    label: Any
    truth: Any


def generated(
    kind: type[Any],
    rows: int,
    seed: int,
    scale: float = 1.0,
    shift: float = 0.0,
) -> Rows:
    """Rows of `lionctr generate`, without lists of values.

    Args:
        kind: the world.
        rows: how many.
        seed: of world and rows.
        scale: of the logit.
        shift: of the scaled logit.
    """
    rng = np.random.default_rng([seed, rows])
    columns, logit = kind(rng).draw(rng, np.arange(rows) * 10)
    return _rows(rng, columns, scale * logit + shift)


def drifting(rows: int, seed: int) -> Rows:
    """Rows of `lionctr generate --drift 0.2`, a tenth of them on each day."""
    import pyarrow as pa

    from pipeline.synthetic.ads import Ads

    rng = np.random.default_rng([seed, rows])
    ads, days = Ads(rng), []
    for day in range(DAYS):
        if day:
            ads.drift(rng, 0.2)
        days.append(ads.draw(rng, day * 86_400 + np.arange(rows // DAYS)))
    tables = [pa.table(columns) for columns, _ in days]
    columns = {n: pa.concat_tables(tables)[n] for n in tables[0].column_names}
    return _rows(rng, columns, np.concatenate([logit for _, logit in days]))


def _rows(rng: Any, columns: dict[str, Any], logit: Any) -> Rows:
    import pyarrow as pa

    truth = 1 / (1 + np.exp(-logit))
    ids, numbers = [], []
    for values in map(_one_array, columns.values()):
        if pa.types.is_string(values.type):
            codes = values.dictionary_encode().indices
            ids.append(codes.fill_null(-1).to_numpy(zero_copy_only=False) + 1)
        elif not pa.types.is_list(values.type):
            wide = values.cast(pa.float64())
            numbers.append(wide.to_numpy(zero_copy_only=False))
    label = (rng.random(len(truth)) < truth).astype(np.float32)
    return Rows(np.stack(ids, 1), np.stack(numbers, 1), label, truth)


def _one_array(values: Any) -> Any:
    combined = getattr(values, "combine_chunks", None)
    return combined() if combined else values


def shaped(shape: Shape, seed: int) -> Rows:
    """Rows of a shape of `logs`."""
    log = draw(shape, seed)
    return Rows(log.ids, log.numbers, log.label.astype(np.float32), log.truth)


def log_of(name: str) -> Rows:
    """The log of a name such as `criteo-1`: its kind and its seed."""
    from pipeline.synthetic.ads import Ads
    from pipeline.synthetic.criteo import Criteo

    kind, _, seed = name.partition("-")
    made: dict[str, Callable[[int], Rows]] = {
        "criteo": lambda seed: generated(Criteo, 300_000, seed),
        # The best possible of seed 2 is AUC .818, logloss .420.
        "million": lambda seed: generated(
            Criteo, 1_000_000, seed, 1.164, -0.0517
        ),
        "ads": lambda seed: generated(Ads, 300_000, seed),
        "curved": lambda seed: shaped(_CURVED, seed),
        "mixed": lambda seed: shaped(_MIXED, seed),
        "rare": lambda seed: shaped(_RARE, seed),
        "fresh": lambda seed: shaped(_FRESH, seed),
        "days": lambda seed: drifting(300_000, seed),
    }
    return made[kind](int(seed or 1))
