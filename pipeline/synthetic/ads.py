"""Impressions of advertisements, and their click probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.synthetic.draw import (
    Field,
    Floats,
    Ints,
    drifted,
    effects_of,
    lognormal,
)

_TOPICS = 40
_CATEGORIES = (
    "news sport games music video travel food cars health shopping science kids"
)
_COUNTRIES = (
    "US IN BR ID DE GB FR JP MX TR IT ES PL NL CA VN TH PH EG NG KR AR CO ZA "
    "UA AU SE CZ PT GR"
)
# Which fields have effects together, and how large they are.
_CROSSES = (
    ("device", "position", 0.5),
    ("device", "site_category", 0.25),
    ("campaign_id", "site_category", 0.05),
)


BANNERS = 8
PAGE = 8  # impressions that a ranker puts into slots 1 to PAGE


def ranked(
    rng: np.random.Generator, world: int, advertisers: Any, logit: Floats
) -> Ints:
    """Slots of rows in pages of PAGE, by a ranker that favours advertisers.

    Args:
        rng: of the rows.
        world: seed of the favours.
        advertisers: their ids, a letter and a number.
        logit: of the rows.
    """
    favours = np.random.default_rng(world).standard_normal(1000)
    number = pc.cast(pc.utf8_slice_codeunits(advertisers, 1), pa.int64())
    seen = logit / logit.std() + 2 * favours[number.to_numpy() % 1000]
    seen += 0.5 * rng.standard_normal(len(logit))
    page = np.arange(len(logit)) // PAGE
    order = np.lexsort((-seen, page))
    slot: Ints = np.empty(len(logit), np.int64)
    slot[order] = 1 + np.arange(len(logit)) - PAGE * page
    return slot


def shown(
    rng: np.random.Generator, bias: float, logit: Floats
) -> tuple[Ints, Floats, Floats]:
    """Banners that a policy of the past chose, one of BANNERS a row.

    Args:
        rng: of the rows.
        bias: what the best banner adds to a logit, and the worst takes away.
            The policy favours banners as their clicks do, and by chance.
        logit: of the rows, [N].

    Returns:
        The number of each row's banner from 0 on, the probability with which
        the policy chose it, and what it adds to the logit.
    """
    effect = bias * np.linspace(-1, 1, BANNERS)
    favour = effect + 0.5 * rng.standard_normal((len(logit), BANNERS))
    chance = np.exp(favour)
    chance /= chance.sum(axis=1, keepdims=True)
    drawn = rng.random((len(logit), 1))
    banner: Ints = (chance.cumsum(axis=1)[:, :-1] < drawn).sum(axis=1)
    return banner, chance[np.arange(len(logit)), banner], effect[banner]


def click_rate(bias: float, logit: Floats) -> Floats:
    """Click probability of each row if its banner were drawn uniformly."""
    effect = bias * np.linspace(-1, 1, BANNERS)
    rate: Floats = (1 / (1 + np.exp(-(logit[:, None] + effect)))).mean(axis=1)
    return rate


class Ads:
    """Impressions of advertisements on sites."""

    def __init__(self, rng: np.random.Generator) -> None:
        user = Field(rng, ("u", 20_000), 0.1, 1.1)
        ad = Field(rng, ("a", 2000), 0.12, 1.2)
        campaign = Field(rng, ("c", 100), 0.2, group="ad_id", of=ad.weight)
        advertiser = Field(
            rng, ("v", 30), 0.2, group="campaign_id", of=campaign.weight
        )
        site = Field(rng, ("s", 500), 0.2, 1.2)
        category = Field(
            rng, _CATEGORIES, 0.25, group="site_id", of=site.weight
        )
        device = Field(rng, "mobile desktop tablet tv console", 0.25)
        position = Field(rng, "feed top sidebar footer", 0.25, 0.7)
        self._fields = {
            "user_id": user,
            "ad_id": ad,
            "campaign_id": campaign,
            "advertiser_id": advertiser,
            "site_id": site,
            "site_category": category,
            "device": device,
            "position": position,
            "country": Field(rng, _COUNTRIES, 0.25, missing=0.03),
            "connection": Field(rng, "wifi 4g 5g 3g", 0.2, 0.7, 0.1),
        }

        self._crosses = [
            (one, other, spread, self._cross(rng, one, other, spread))
            for one, other, spread in _CROSSES
        ]
        self._level = -2.3
        self._peak = rng.uniform(0, 24, len(category.names))
        self._price = np.array([-0.4, 0.3, -0.3, 0.4, 0.0])  # by device
        users = len(user.names)
        topic = (_TOPICS * rng.random((users, 5)) ** 2).astype(np.int64)
        liked = np.zeros((users, _TOPICS), np.bool_)
        who, which = np.nonzero(rng.random((users, 5)) < 0.45)
        liked[who, topic[who, which]] = True
        who, what = np.nonzero(liked)
        count = liked.sum(axis=1)
        names = pa.array([f"t{number}" for number in range(_TOPICS)])
        ends = np.append(0, np.cumsum(count)).astype(np.int32)
        lists = pa.ListArray.from_arrays(ends, names.take(pa.array(what)))
        joined = pc.binary_join(lists, "|")
        self._interests = pc.if_else(pa.array(count > 0), joined, None)
        effect = rng.normal(0, 0.2, _TOPICS)[what]
        self._liking = np.bincount(who, effect, users) / np.maximum(1, count)

    def _cross(
        self, rng: np.random.Generator, one: str, other: str, spread: float
    ) -> Floats:
        """Effects of each pair of two fields' ids."""
        weights = [self._fields[name].weight for name in (one, other)]
        return effects_of(rng, np.outer(*weights), spread)

    def drift(self, rng: np.random.Generator, share: float) -> None:
        """A day passes: users, ads and what makes them click change.

        Args:
            rng: of the day.
            share: of users and ads that are replaced by new ones, and of the
                variance of effects that is redrawn. The logit of all
                moves by a deviation of `share` too.
        """
        for name, field in self._fields.items():
            # A campaign outlives its ads, a site its visitors.
            field.drift(rng, share, renew=name in ("user_id", "ad_id"))
        self._crosses = [
            (
                one,
                other,
                spread,
                drifted(effect, self._cross(rng, one, other, spread), share),
            )
            for one, other, spread, effect in self._crosses
        ]
        self._level += share * rng.standard_normal()

    def draw(
        self, rng: np.random.Generator, time: Ints
    ) -> tuple[dict[str, Any], Floats]:
        """Returns the columns and the logit of one row for each `time`."""
        size = len(time)
        logit: Floats = np.full(size, self._level)
        columns: dict[str, Any] = {}
        index: dict[str, Ints] = {}
        for name, field in self._fields.items():
            if field.group:
                index[name] = field.member[index[field.group]]
            else:
                index[name] = field.draw(rng, size)
            hidden = index[name] < 0
            columns[name] = field.names.take(pa.array(index[name], mask=hidden))
            logit += field.effect[index[name]]
        for one, other, _, effect in self._crosses:
            logit += effect[index[one], index[other]]
        columns["interests"] = self._interests.take(pa.array(index["user_id"]))
        logit += self._liking[index["user_id"]]

        def number(
            name: str, value: Any, effect: Floats, missing: float = 0.0
        ) -> None:
            hidden = rng.random(size) < missing
            columns[name] = pa.array(value, mask=hidden)
            logit[:] += np.where(hidden, 0.0, effect)

        hour = time // 3600 % 24
        late = hour - self._peak[index["site_category"]]
        number("hour", hour, 0.3 * np.cos(2 * np.pi * late / 24))
        log = rng.standard_normal(size)
        price = np.round(0.01 + 1.5 * np.exp(0.8 * log), 2)
        number("price", price, self._price[index["device"]] * log, 0.05)
        depth = np.round(rng.beta(1.2, 1.8, size), 3)
        number("page_depth", depth, 0.3 - 5 * (depth - 0.4) ** 2, 0.1)
        age = lognormal(rng, size, 40, 1.3, 1e6)
        bump = np.exp(-(((np.log1p(age) - 3.5) / 0.8) ** 2))
        number("ad_age_hours", age, 1.1 * (bump - 0.5))
        session = lognormal(rng, size, 90, 1.2, 1e6)
        number("session_seconds", session, 0.1 * np.log1p(session) - 0.45, 0.03)
        shown = lognormal(rng, size, 3, 1.4, 1e6)
        number("user_impressions", shown, 0.35 - 0.25 * np.log1p(shown))
        clicks = lognormal(rng, size, 0.8, 1.4, 1e6)
        number("user_clicks", clicks, 0.25 * np.log1p(clicks) - 0.15, 0.15)
        return columns, logit
