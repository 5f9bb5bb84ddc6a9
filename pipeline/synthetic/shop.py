"""Impressions of a shop's items, to users whose tastes only clicks show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.synthetic.draw import Field, Floats, Ints, lognormal, mixed

_ITEMS = 500
_TOPICS = 40  # No column tells an item's.
_CATEGORIES = 8  # of five topics each
_TASTES = 5  # topics that a user likes; some are drawn twice
_ROWS = 150  # of a user, on average
_AT_ONCE = 40  # users that take turns
_KNOWN = 0.4  # share of rows that a recommender chose from the tastes
_LIKED = 2.4  # added to the log-odds of a click


class Shop:
    """Impressions of a shop's items.

    A user comes, sees some 150 items, and never returns: the id tells
    nothing. Liked are items of the user's topics, and of no other column than
    the items clicked before can a model tell which these are.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._item = Field(rng, ("p", _ITEMS), 0.3, 1.0)
        self._device = Field(rng, "mobile desktop tablet", 0.2)
        self._topic = rng.permutation(_ITEMS) % _TOPICS
        self._by_topic = np.argsort(self._topic, kind="stable")
        self._ends = np.cumsum(self._item.weight[self._by_topic])
        share = np.bincount(self._topic, self._item.weight, _TOPICS)
        edges = np.append(0, np.cumsum(share))
        self._low, self._share = edges[:-1], share
        by_chance = 1 - (1 - 1 / _TOPICS) ** _TASTES
        chosen = _KNOWN / _TOPICS
        rest = (1 - _KNOWN) * share
        self._liked_share = (chosen + rest * by_chance) / (chosen + rest)
        numbers = rng.permutation(_CATEGORIES)
        self._categories = pa.array([f"k{1 + number}" for number in numbers])
        self._key = rng.integers(0, 2**63, dtype=np.uint64)
        self._drawn = 0

    def draw(
        self, rng: np.random.Generator, time: Ints
    ) -> tuple[dict[str, Any], Floats, dict[str, Any]]:
        """Draws the next rows, one for each `time`.

        Returns:
            The columns, the logit, and columns of the truth: the item's
            `topic`, and `typical`, the probability of a click where the
            user's tastes are unknown.
        """
        size = len(time)
        row = self._drawn + np.arange(size)
        self._drawn += size
        user = row // _ROWS + rng.integers(0, _AT_ONCE, size)
        tastes = self._tastes(user)
        item = self._item.draw(rng, size)
        known = np.flatnonzero(rng.random(size) < _KNOWN)
        wanted = tastes[known, rng.integers(0, _TASTES, len(known))]
        item[known] = self._of(wanted, rng.random(len(known)))
        topic = self._topic[item]
        device = self._device.draw(rng, size)
        log = rng.standard_normal(size)
        wait = lognormal(rng, size, 20, 1.2)
        rest = -2.9 + self._item.effect[item] + self._device.effect[device]
        rest += 0.15 * log - 0.1 * (np.log1p(wait) - 3)
        liked = (tastes == topic[:, None]).any(axis=1)
        share = self._liked_share[topic]
        typical = share / (1 + np.exp(-rest - _LIKED))
        typical += (1 - share) / (1 + np.exp(-rest))
        names = pa.array(user + 1).cast(pa.string())
        columns = {
            "user_id": pc.binary_join_element_wise("u", names, ""),
            "item_id": self._item.names.take(pa.array(item)),
            "category": self._categories.take(
                pa.array(topic * _CATEGORIES // _TOPICS)
            ),
            "device": self._device.names.take(pa.array(device)),
            "price": pa.array(np.round(0.5 + 20 * np.exp(0.7 * log), 2)),
            "page_seconds": pa.array(wait),
        }
        truth = {"topic": pa.array(topic), "typical": pa.array(typical)}
        return columns, rest + _LIKED * liked, truth

    def _tastes(self, user: Ints) -> Ints:
        """Topics that users like, [N, _TASTES]; the same in every row."""
        number = user[:, None] * _TASTES + np.arange(_TASTES)
        found = mixed(number.astype(np.uint64), self._key)
        return ((found >> np.uint64(32)) % np.uint64(_TOPICS)).astype(np.int64)

    def _of(self, topic: Ints, chance: Floats) -> Ints:
        """Items of these topics, by their popularity there."""
        at = self._low[topic] + chance * self._share[topic]
        place = np.searchsorted(self._ends, at, "right")
        ends = np.searchsorted(self._topic[self._by_topic], topic, "right")
        item: Ints = self._by_topic[np.minimum(place, ends - 1)]
        return item
