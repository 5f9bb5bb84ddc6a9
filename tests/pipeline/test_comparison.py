"""Where `lionctr compare` looks for an optimizer's best settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from models.training.automatic import choose
from optimizers.registry import asked, names, resolved, validate
from pipeline.comparison import candidates, command, report


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


@pytest.mark.parametrize("name", names())
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


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "section", ["{name}", "no decay", "groups"], ids=lambda s: s
)
def test_a_config_without_a_rate_is_searched(name: str, section: str) -> None:
    """The search reads settings as `run` does, with every default."""
    config: dict[str, Any] = {"name": name}
    if section == "no decay":
        config["weight_decay"] = None
    if section == "groups":
        config = {"groups": [{"match": ".*", "name": name}]}
    validate(config)
    sections = {"model": {"name": "wide_deep"}, "train": {"batch_size": 64}}
    # Settings that the log chooses, as `Trainings` does before the search.
    chosen_by_log, _ = choose({**sections, "optimizer": asked(config)}, 900, 9)
    config = chosen_by_log["optimizer"]

    class Trainings:
        """Trains nothing: the loss is that of a bowl."""

        def eval_loss(self, spec: dict[str, Any]) -> float:
            validate(spec)
            assert resolved(spec) == spec
            return bowl(3e-3)(spec)

    chosen = list(dict.fromkeys([name, "lion"]))
    found = command._search(config, chosen, Trainings())  # type: ignore[arg-type]
    assert set(found) == set(chosen)
    for one in found.values():
        assert one["optimizer"]["learning_rate"] > 0
        assert all(t["optimizer"]["learning_rate"] > 0 for t in one["tried"])


def test_what_the_config_says_is_tried_in_full() -> None:
    class Trainings:
        """The rate that the config means by default is the best."""

        def eval_loss(self, spec: dict[str, Any]) -> float:
            return float(spec["learning_rate"] != 0.001)

    spec = {"name": "adagrad", "learning_rate": 0.001}
    found = command._search(spec, ["adagrad"], Trainings())  # type: ignore[arg-type]
    assert found["adagrad"]["optimizer"] == resolved(spec)


def test_metrics_of_one_label_are_a_dash_in_the_table_and_said() -> None:
    def spread(value: float) -> dict[str, Any]:
        return {"mean": value, "deviation": None, "values": [value]}

    one = {
        "optimizer": {"learning_rate": 1e-3},
        "on_edge": False,
        "test": {
            "auc": spread(math.nan),
            "logloss": spread(0.2),
            "calibration": spread(math.nan),
        },
        "seconds": spread(1.0),
        "slot_bytes": 8,
        "failed": [],
    }
    results = {
        "name": "ads",
        "budget": {"steps": 3},
        "rows": {"train": 8, "eval": 2, "test": 2},
        "seeds": 1,
        "optimizers": {"lion": one},
    }
    *_, row, last = report.table(results).splitlines()
    assert row.split()[:4] == ["lion", "-", "0.2000", "-"]
    assert last == "- is not defined: all test rows have one label"
    results["optimizers"] = {"lion": {**one, "test": {}, "failed": ["NaN"]}}
    assert report.table(results).endswith("failed: NaN")
