"""The click log: late, repeated and unknown clicks among the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.synthetic.draw import Ints, Mask, lognormal

GRID = 1_000_000  # Probabilities are whole multiples of 1 / GRID.
WINDOW_SECONDS = 1800
_FIRST_ID = 1_000_000_000


def ids(row: Ints) -> Any:
    number = pa.array(row + _FIRST_ID).cast(pa.string())
    return pc.binary_join_element_wise("i", number, "")


def iso(time: Ints) -> Any:
    text = pa.array(time).cast(pa.timestamp("s", "UTC")).cast(pa.string())
    return pc.utf8_replace_slice(text, start=10, stop=11, replacement="T")


class ClickLog:
    """Draws the clicks of each chunk; gives them back in order of time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        # [time, row of the impression, dwell in ms or -1; click]
        self._waiting: Ints = np.zeros((3, 0), np.int64)
        self.counts = dict.fromkeys(
            ("clicks", "duplicates", "orphans", "late_clicks"), 0
        )

    def add(
        self,
        rng: np.random.Generator,
        start: int,
        time: Ints,
        chance: Ints,
        label: Mask,
    ) -> Any:
        """Returns the clicks that no click of a later chunk can precede."""
        late = ~label & (rng.random(len(label)) < 0.06 * chance / GRID)
        soon, later = np.flatnonzero(label), np.flatnonzero(late)
        delay = np.concatenate(
            [
                1 + lognormal(rng, len(soon), 25, 1.4, WINDOW_SECONDS - 2),
                1 + WINDOW_SECONDS + lognormal(rng, len(later), 7200, 1.0),
            ]
        )
        row = np.concatenate([soon, later])
        again = np.flatnonzero(rng.random(len(row)) < 0.04)
        pause = lognormal(rng, len(again), 60, 1.5)
        pause *= rng.random(len(again)) < 0.75  # The others are logged twice.
        second = delay[again] + pause
        second += second == WINDOW_SECONDS
        copied = np.flatnonzero(pause == 0)
        copy = len(row) + copied
        row = np.concatenate([row, row[again]])
        delay = np.concatenate([delay, second])
        orphans = int(rng.poisson(0.02 * len(soon)))
        stray = rng.integers(time[0], time[-1] + 1, orphans)
        unknown = self._rows + rng.integers(0, self._rows, orphans)
        dwell = 100 * lognormal(rng, len(row) + orphans, 200, 1.2)
        dwell[rng.random(len(dwell)) < 0.02] = -1
        dwell[copy] = dwell[again[copied]]
        when = np.concatenate([time[row] + delay, stray])
        new = np.stack([when, np.concatenate([start + row, unknown]), dwell])
        self._waiting = np.concatenate([self._waiting, new], axis=1)
        self.counts["clicks"] += new.shape[1]
        self.counts["duplicates"] += len(again)
        self.counts["orphans"] += orphans
        self.counts["late_clicks"] += int((delay > WINDOW_SECONDS).sum())
        return self._release(int(time[-1]))

    def rest(self) -> Any:
        return self._release(np.iinfo(np.int64).max)

    def _release(self, before: int) -> Any:
        click = self._waiting[:, np.lexsort(self._waiting[::-1])]
        due = int(np.searchsorted(click[0], before))
        self._waiting = click[:, due:]
        time, row, dwell = click[:, :due]
        seconds = pa.array(dwell / 1000, mask=dwell < 0)
        return pa.table(
            {
                "impression_id": ids(row),
                "timestamp": iso(time),
                "dwell_seconds": seconds,
            }
        )
