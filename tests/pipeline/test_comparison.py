"""Where `lionctr compare` looks for an optimizer's best settings."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.predictions import Columns
from models.config.architectures import ARCHITECTURES
from models.config.labels import Label
from models.config.numeric import NumericFeature
from models.config.training import ModelConfig
from models.training.automatic import choose
from optimizers.registry import asked, names, resolved, validate
from pipeline.comparison import (
    candidates,
    command,
    intervals,
    progress,
    report,
)
from pipeline.config import ConfigError
from pipeline.console import Console


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

        searched_by = "logloss"

        def eval_loss(self, spec: dict[str, Any]) -> float:
            validate(spec)
            assert resolved(spec) == spec
            return bowl(3e-3)(spec)

    chosen = list(dict.fromkeys([name, "lion"]))
    found = dict(command._search(config, chosen, Trainings()))  # type: ignore[arg-type]
    assert set(found) == set(chosen)
    for one in found.values():
        assert one["optimizer"]["learning_rate"] > 0
        assert all(t["optimizer"]["learning_rate"] > 0 for t in one["tried"])


def test_what_the_config_says_is_tried_in_full() -> None:
    class Trainings:
        """The rate that the config means by default is the best."""

        searched_by = "logloss"

        def eval_loss(self, spec: dict[str, Any]) -> float:
            return float(spec["learning_rate"] != 0.001)

    spec = {"name": "adagrad", "learning_rate": 0.001}
    found = dict(command._search(spec, ["adagrad"], Trainings()))  # type: ignore[arg-type]
    assert found["adagrad"]["optimizer"] == resolved(spec)


def test_a_search_by_auc_is_recorded_as_such() -> None:
    class Trainings:
        """A higher rate has the higher AUC."""

        searched_by = "auc"

        def eval_loss(self, spec: dict[str, Any]) -> float:
            return 1 - min(0.9, 0.6 + float(spec["learning_rate"]))

    tried = command.Tried(Trainings())  # type: ignore[arg-type]
    spec = {"name": "adagrad", "learning_rate": 0.1}
    tried(spec)
    (one,) = tried.record(spec, False)["tried"]
    assert one["eval_auc"] == pytest.approx(0.7) and "eval_logloss" not in one


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
        "tried": [],
        "intervals": {"auc": None, "logloss": [0.1, 0.3]},
        "difference": {},
    }
    results = {
        "name": "ads",
        "budget": {"steps": 3},
        "rows": {"train": 8, "eval": 2, "test": 2},
        "seeds": 1,
        "searched_by": "logloss",
        "confidence": 0.95,
        "unit": "row",
        "optimizers": {"lion": one},
    }
    *_, row, last = report.table(results).splitlines()
    assert row.split()[:5] == ["lion", "-", "0.2000", "0.1000", "0.3000"]
    assert last == "- is not defined: all test rows have one label"
    results["searched_by"] = "auc"
    *_, last = report.table(results).splitlines()
    assert last.startswith("settings were chosen by eval AUC: train.loss")
    results["searched_by"] = "logloss"
    results["optimizers"] = {"lion": {**one, "test": {}, "failed": ["NaN"]}}
    assert report.table(results).endswith("failed: NaN")


def test_all_models_are_ours_and_a_wrong_one_is_named() -> None:
    ours = [n for n, s in ARCHITECTURES.items() if not s.takes_labels]
    assert candidates.models("all") == ours
    with pytest.raises(ConfigError, match=r"'esmm' without data.labels; acc"):
        candidates.models("esmm")
    click, buy, like = Label("click"), Label("buy", "click"), Label("like")
    several = ["shared_bottom", "mmoe", "esmm"]
    assert candidates.models("all", labels=[click, buy]) == several
    assert candidates.models("all", labels=[click, like]) == several[:2]
    with pytest.raises(ConfigError, match=r"'dlrm' with data.labels; .*: sha"):
        candidates.models("dlrm", labels=[click, buy])
    assert candidates.models("dlrm, dcn_v2,dlrm") == ["dlrm", "dcn_v2"]
    with pytest.raises(ConfigError, match=r"--models: received 'dcn'; .*dlrm"):
        candidates.models("dlrm,dcn")


def test_all_has_the_configs_model_on_pieces_and_on_buckets() -> None:
    ours = candidates.models("all")
    found = candidates.models("all", own="dcn_v2", numbers=True)
    assert found == [*ours, "dcn_v2+pieces", "dcn_v2+buckets"]
    assert candidates.models("all", own="dcn_v2") == ours
    assert candidates.models("all", own="my:build", numbers=True) == ours
    named = "dlrm+pieces, dlrm,dlrm+pieces,dlrm+buckets"
    found = candidates.models(named, numbers=True)
    assert found == ["dlrm+pieces", "dlrm", "dlrm+buckets"]
    config = ModelConfig.model_validate({"name": "dlrm", "hidden": [8]})
    lines = candidates.contenders(config, {"name": "lion"}, found, [])
    assert [one.label for one in lines] == found
    assert [one.numbers for one in lines] == ["+pieces", "", "+buckets"]
    assert all(one.model == lines[0].model for one in lines)
    assert lines[0].model["name"] == "dlrm"
    for wrong, why in (
        ("all+pieces", r"received 'all\+pieces'; .*each with \+pieces or"),
        ("dcn+pieces", r"received 'dcn\+pieces'; .*dlrm"),
        ("dlrm+piece", r"received 'dlrm\+piece'; .*dlrm"),
        ("esmm+buckets", r"received 'esmm\+buckets' without data.labels"),
    ):
        with pytest.raises(ConfigError, match=why):
            candidates.models(wrong, numbers=True)
    with pytest.raises(ConfigError, match=r"'dlrm\+pieces'; accepted with num"):
        candidates.models("dlrm+pieces")


def test_numbers_change_where_they_have_neither_pieces_nor_buckets() -> None:
    def numbers(*given: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            NumericFeature.model_validate(one).model_dump(mode="json")
            for one in given
        ]

    kept = {"name": "a", "pieces": 4}, {"name": "b", "transform": "log_buckets"}
    plain = {"name": "c", "clip": [1e-05, None], "default": 2.0}
    marked = {"name": "d", "missing": "indicator"}
    assert [candidates.is_plain(n) for n in numbers(*kept, plain, marked)] == [
        False, False, True, True,
    ]  # fmt: skip
    for way, wanted in (
        ("+pieces", {"pieces": 8, "missing": "indicator"}),
        ("+buckets", {"transform": "buckets", "missing": "default"}),
    ):
        found = candidates.numbers_as(way, numbers(*kept, plain, marked))
        assert found == numbers(
            *kept, {**plain, **wanted}, {**marked, **wanted}
        )


def test_options_that_all_have_count_for_all() -> None:
    given = {"name": "dcn_v2", "hidden": [8], "cross_layers": 2}
    config, lion = ModelConfig.model_validate(given), {"name": "lion"}
    names = ["wide_deep", "dcn_v2"]
    first, second = candidates.contenders(config, lion, names, [])
    assert (first.label, second.label) == ("wide_deep", "dcn_v2")
    assert first.model["hidden"] == second.model["hidden"] == [8]
    assert first.model["dropout"] == second.model["dropout"] == "auto"
    assert second.model["cross_layers"] == 2
    assert "cross_layers" not in first.model
    assert first.optimizer == second.optimizer == lion
    several = candidates.contenders(config, lion, names, ["lion", "adam"])
    assert [one.label for one in several] == [
        "wide_deep, lion", "wide_deep, adam", "dcn_v2, lion", "dcn_v2, adam",
    ]  # fmt: skip
    assert several[1].optimizer == {"name": "adam", "learning_rate": "auto"}


def test_every_search_may_take_as_many_trainings() -> None:
    tried = []

    def falling(spec: dict[str, Any]) -> float:
        tried.append(spec)
        return float(spec["learning_rate"])  # the least is never inside

    counts = []
    for decay in ({}, {"weight_decay": 0.1}):
        tried.clear()
        spec = {"name": "sgd", "learning_rate": 1.0, **decay}
        _, on_edge = candidates.search(spec, falling)
        counts.append(len(tried))
        assert on_edge
    assert max(counts) <= 16 and counts[0] == 16


def test_rates_of_tables_go_with_the_others() -> None:
    spec = {"name": "lion", "learning_rate": 1e-4, "table_rate": 1e-2}
    best, _ = candidates.search(spec, bowl(1e-3))
    assert best["learning_rate"] == pytest.approx(1e-3)
    assert best["table_rate"] == pytest.approx(1e-1)
    assert report.rates(best) == "rate 0.001, tables 0.1"


def test_groups_are_trained_as_they_are() -> None:
    groups = [{"match": ".*", "name": "lion", "learning_rate": 0.1}]
    tried: list[Any] = []
    best, _ = candidates.search(
        {"groups": groups}, lambda spec: tried.append(spec) or 0.5
    )
    assert tried == [best] == [{"groups": groups}]
    assert report.rates(best) == "rate 0.1"


@pytest.mark.parametrize("group", [None, "user"])
def test_metrics_and_intervals_are_the_evaluators(group: str | None) -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(900) < 0.3).astype(float)
    first, second = (
        np.clip(0.3 + 0.2 * (labels - 0.3) + rng.normal(0, s, 900), 0.01, 0.99)
        for s in (0.1, 0.2)
    )
    users = rng.integers(0, 90, 900) if group else None
    wanted = evaluate(
        Columns(
            labels > 0,
            (second.astype(np.float32), first.astype(np.float32)),
            users,
            {},
        ),
        EvaluateConfig(group=group),
        "test",
    )["metrics"]
    rows = intervals.TestRows(labels, users, 1000)
    lines = {}
    for label, predictions in (("a", first), ("b", second)):
        record = rows.measure(predictions)
        lines[label] = {
            "test": {k: report.spread([v]) for k, v in record["test"].items()},
            "replicates": [record["replicates"]],
        }
    intervals.judge(lines, "a", 0.95)
    assert "replicates" not in lines["b"] and not lines["a"]["difference"]
    for metric in intervals.METRICS:
        entry, line = wanted[metric], lines["b"]
        assert line["test"][metric]["mean"] == entry["value"]
        assert lines["a"]["test"][metric]["mean"] == entry["baseline"]
        apart = line["difference"][metric]
        for found, its in (
            (line["intervals"][metric], entry["interval"]),
            (apart["interval"], entry["difference_interval"]),
            ([apart["mean"]], [entry["difference"]]),
        ):
            assert found == pytest.approx(its, abs=1e-7)


def test_seeds_make_one_interval() -> None:
    record = {"logloss": [0.1, 0.2, 0.3] * 40}
    later = {"logloss": [0.3, 0.4, 0.5] * 40}
    line = {
        "test": {"logloss": report.spread([0.2, 0.4])},
        "replicates": [record, later],
    }
    lost = {"test": {}, "replicates": []}
    intervals.judge({"a": line, "b": lost}, "a", 0.9)
    assert line["intervals"]["logloss"] == pytest.approx([0.2, 0.4])
    assert lost["intervals"] == {}


def test_logistic_regression_comes_first() -> None:
    results = {"optimizers": {"adam": {}}, "baseline": {"lr": {}}}
    assert list(report.lines(results)) == ["lr", "adam"]
    assert report.rates({"penalty": {"ctr": 30.0, "cvr": 0.3}}) == (
        "penalty 30, 0.3"
    )


def test_a_line_says_what_is_left() -> None:
    out = io.StringIO()
    told = progress.Progress(3, Console(out))
    told.ended("wide_deep", 10, 120.0)
    told.ended("dcn_v2", 12, 240.0)
    told.ended("dlrm", 10, 7200.0)
    _, first, second, last = out.getvalue().splitlines()
    assert first == (
        "  line 1 of 3, wide_deep: 10 trainings in 2 min; about 4 min left"
    )
    assert second.endswith("12 trainings in 4 min; about 3 min left")
    assert last.endswith("line 3 of 3, dlrm: 10 trainings in 2.0 h")
