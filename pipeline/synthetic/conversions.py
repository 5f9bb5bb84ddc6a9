"""Conversions after clicks, some of them later than the log ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.synthetic.draw import DAY, Floats, Ints, Mask

WINDOW_SECONDS = DAY  # from an impression to its conversion
_MEAN_SECONDS = 8 * 3600
_KINDS = 3000  # numbers of ads and of sites are below
_LEVEL, _LIKED = -0.4, 0.7


class Converted(NamedTuple):
    """Conversions of some rows.

    columns: `conversion`, 1 or 0 within WINDOW_SECONDS of the impression, and
        missing where the log ends before; `converted`, 1 if the log knows of
        one. rate: probability of `conversion` after a click. rows, seconds:
        the conversions that the log knows, and how long after the impression
        each came.
    """

    columns: dict[str, Any]
    rate: Floats
    rows: Ints
    seconds: Ints


class Conversions:
    """Conversions: what is clicked is bought too, and ads and sites differ.

    Args:
        seed: of the world.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, _KINDS])
        self._ads = 0.5 * rng.standard_normal(_KINDS)
        self._sites = 0.3 * rng.standard_normal(_KINDS)

    def draw(
        self,
        rng: np.random.Generator,
        columns: dict[str, Any],
        logit: Floats,
        clicked: Mask,
        left: Ints,
    ) -> Converted:
        """Draws the conversions of some rows.

        Args:
            rng: of the rows.
            columns: of them, with `ad_id` and `site_id`.
            logit: of a click.
            clicked: whether there was one.
            left: seconds from each row to the end of the log.
        """
        found = _LEVEL + _LIKED * (logit - logit.mean())
        found += self._ads[_numbers(columns["ad_id"])]
        found += self._sites[_numbers(columns["site_id"])]
        rate = 1 / (1 + np.exp(-found))
        buys = clicked & (rng.random(len(logit)) < rate)
        wait = 1 + rng.exponential(_MEAN_SECONDS, len(logit)).astype(np.int64)
        inside = buys & (wait <= WINDOW_SECONDS)
        known = left >= WINDOW_SECONDS
        share = 1 - np.exp(-WINDOW_SECONDS / _MEAN_SECONDS)
        told = np.flatnonzero(buys & (wait <= left))
        return Converted(
            {
                "conversion": pa.array(inside.astype(np.int64), mask=~known),
                "converted": pa.array(
                    (inside & (wait <= left)).astype(np.int64)
                ),
            },
            rate * share,
            told,
            wait[told],
        )


def _numbers(ids: Any) -> Ints:
    """Numbers of ids, which are a letter and a number."""
    text = pc.utf8_slice_codeunits(ids, 1)
    found: Ints = pc.cast(text, pa.int64()).to_numpy() % _KINDS
    return found
