"""Where `lionctr compare` looks for an optimizer's best settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from optimizers.registry import validate
from pipeline.comparison import candidates


def bowl(rate: float, decay: float = 0.0) -> Callable[[dict[str, Any]], float]:
    """A loss that is least at this rate and decay, in logarithms."""

    def loss(spec: dict[str, Any]) -> float:
        away = abs(math.log10(spec["learning_rate"] / rate))
        if decay:
            away += abs(math.log10(spec["weight_decay"] / decay))
        return away

    return loss


def test_lion_starts_where_the_paper_says() -> None:
    adamw = {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.02}
    spec = candidates.start("lion", {"name": "adam"}, adamw)
    assert 3 <= adamw["learning_rate"] / spec["learning_rate"] <= 10
    assert 3 <= spec["weight_decay"] / adamw["weight_decay"] <= 10
    own = {"name": "lion", "learning_rate": 1.0, "sparse": "decayed"}
    spec = candidates.start("lion", own, adamw)
    assert spec["sparse"] == "decayed"
    assert spec["learning_rate"] < adamw["learning_rate"]


@pytest.mark.parametrize("name", sorted(candidates.RATES) + ["lion"])
def test_every_start_is_a_section_and_keeps_the_schedule(name: str) -> None:
    schedule = {"name": "cosine", "warmup": 0.1}
    spec = candidates.start(name, {"name": "adam", "schedule": schedule})
    validate(spec)
    # FTRL's weights would go to 0 with the rate.
    assert ("schedule" in spec) == (name != "ftrl")


def test_the_configs_own_settings_are_the_start_of_its_optimizer() -> None:
    own = {"name": "adagrad", "learning_rate": 0.5, "epsilon": 1e-5}
    assert candidates.start("adagrad", own) == own


def test_the_grid_goes_on_until_the_best_is_inside_it() -> None:
    spec = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01}
    best, on_edge = candidates.search(spec, bowl(1e-1, 1e-3))
    assert best["learning_rate"] == pytest.approx(1e-1)
    assert best["weight_decay"] == pytest.approx(1e-3)
    assert not on_edge


def test_an_end_of_the_search_is_told() -> None:
    best, on_edge = candidates.search(
        {"name": "adagrad", "learning_rate": 1e-1}, bowl(1e-30)
    )
    assert on_edge
    assert best["learning_rate"] < 1e-2


def test_rates_that_diverge_are_not_the_best() -> None:
    def loss(spec: dict[str, Any]) -> float:
        rate = spec["learning_rate"]
        return math.inf if rate > 1e-3 else bowl(1e-2)(spec)

    spec = {"name": "sgd", "learning_rate": 1e-1}
    best, on_edge = candidates.search(spec, loss)
    assert best["learning_rate"] == pytest.approx(1e-3)
    assert not on_edge
