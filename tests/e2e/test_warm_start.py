"""Daily runs: the second begins with what the first has learned."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from models.checkpointing.checkpoint import Checkpoints, read_index
from tests.e2e.attempts import lionctr

pytestmark = pytest.mark.ci

SITES = [f"s{i}" for i in range(5)]
DAYS = {1: [f"u{i}" for i in range(30)], 2: [f"u{i}" for i in range(10, 45)]}


def write_log(path: Path, users: list[str], seed: int) -> None:
    """Every user is seen often enough for the vocabulary."""
    draw = random.Random(seed)
    lines = ["click\tuser\tsite\tprice\tpaid"]
    for row in range(1200):
        user, site = users[row % len(users)], draw.choice(SITES)
        chance = 0.1 + 0.5 * (int(user[1:]) % 3 == 0) + 0.2 * (site == "s1")
        click = int(draw.random() < chance)
        paid = f"{draw.random():.3f}" if click else ""
        lines.append(f"{click}\t{user}\t{site}\t{draw.random():.3f}\t{paid}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


class Home:
    """A pipeline whose log is another one each day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for day, users in DAYS.items():
            write_log(folder / f"{day}.tsv", users, day)
        config = {
            "name": "daily",
            "root": str(folder / "runs"),
            "data": {
                "impressions": {"path": "?", "format": "tsv", "header": True},
                "label": "click",
                "split": {"by": "hash", "eval": 0.2},
            },
            "features": {
                "numeric": [{"name": "price", "transform": "log1p"}],
                "categorical": [
                    {"name": "user", "dim": 4},
                    {"name": "site", "dim": 4},
                ],
                "crosses": [{"of": ["user", "site"], "buckets": 100}],
            },
            "model": {"hidden": [8], "dropout": 0.0, "embedding_l2": 0.0},
            "optimizer": {"name": "lion", "sparse": "decayed"},
            "train": {"batch_size": 32, "epochs": 1, "jit": False},
            "evaluate": {"metrics": {"auc": {"min": 0.01}}},
            "serving_gate": "off",
            "push": {"to": str(folder / "models")},
        }
        (folder / "daily.yaml").write_text(yaml.safe_dump(config))

    def words(self, day: int, *settings: str) -> list[str]:
        settings = (
            f"data.impressions.path={self.folder}/{day}.tsv",
            *settings,
        )
        return [
            *("run", "--json", str(self.folder / "daily.yaml")),
            *(word for setting in settings for word in ("--set", setting)),
        ]

    def run(self, day: int, *settings: str) -> dict[str, Any]:
        """The summary of a run."""
        code, out, console = lionctr(*self.words(day, *settings))
        found: dict[str, Any] = json.loads(out)
        assert (code == 0) == (found["status"] == "done")
        return found | {"console": console}


WARM = "train.warm_start=latest_blessed"
STILL = "optimizer.learning_rate=1.0e-12"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("daily"))


@pytest.fixture(scope="module")
def first(home: Home) -> dict[str, Any]:
    """The first day: there is nothing to begin with."""
    return home.run(1, WARM, "optimizer.learning_rate=0.01", "train.epochs=3")


@pytest.fixture(scope="module")
def second(home: Home, first: dict[str, Any]) -> dict[str, Any]:
    """The second day begins warm, and learns nothing."""
    assert first["status"] == "done", first["message"]
    return home.run(2, WARM, STILL)


def predictions(model: str, users: list[str]) -> Any:
    pairs = [(user, site) for user in users for site in SITES]
    answer = tf.saved_model.load(model).signatures["serving_default"]
    return answer(
        user=tf.constant([user for user, _ in pairs]),
        site=tf.constant([site for _, site in pairs]),
        price=tf.constant(np.linspace(0, 2, len(pairs)), tf.float32),
    )["ctr"].numpy()


def iterations(home: Home) -> list[int]:
    """Iterations of the states that are kept."""
    folders = (home.folder / "models/.training/daily").iterdir()
    found = [Checkpoints(str(folder)).newest() for folder in folders]
    return sorted(read_index(f or "")["state"]["iterations"] for f in found)


def test_the_first_day_begins_with_nothing(first: dict[str, Any]) -> None:
    assert first["status"] == "done", first["console"]
    assert first["warm_start"]["base"] is None
    assert "no model of another training" in first["warm_start"]["reason"]


def test_before_any_step_it_answers_as_the_model_it_began_with(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert second["status"] == "done", second["console"]
    old, new = first["pushed_model"], second["pushed_model"]
    assert old != new
    # Known ones, new ones, and some that nobody knows.
    users = [*DAYS[1][10:], *DAYS[2][20:], "nobody", ""]
    before, now = predictions(old, users), predictions(new, users)
    np.testing.assert_allclose(now, before, atol=1e-6)
    assert before.std() > 0.05


def test_ids_and_variables_are_counted(second: dict[str, Any]) -> None:
    report = second["warm_start"]
    assert report["features"] == {
        "user": {"kept": 20, "new": 15, "gone": 10},
        "site": {"kept": 5, "new": 0, "gone": 0},
        "user_x_site": {"kept": 100, "new": 0, "gone": 0},
    }
    assert report["initialised"] == [] and report["left"] == []
    assert report["carried"] > 10
    told = "ids 125 kept, 15 new, 10 gone; variables"
    assert told in second["console"]


def test_the_steps_of_all_days_are_counted(
    home: Home, first: dict[str, Any], second: dict[str, Any]
) -> None:
    steps = [-(-day["rows"]["train"] // 32) for day in (first, second)]
    three = 3 * steps[0]  # epochs, then one of the second day
    assert iterations(home) == [three, three + steps[1]]


def test_a_run_that_is_repeated_comes_from_the_cache(
    home: Home, second: dict[str, Any]
) -> None:
    again = home.run(2, WARM, STILL)
    assert "Trainer           cached" in again["console"]
    assert again["warm_start"] == second["warm_start"]
    assert again["pushed_model"] == second["pushed_model"]


def test_data_unlike_the_pushed_models_are_named(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert first["drift"]["found"] == [] and first["drift"]["base"] is None
    assert "no drift is measured: no model of other data" in first["console"]
    (found,) = second["drift"]["found"]
    assert second["drift"]["base"] == int(Path(first["pushed_model"]).name)
    assert found["feature"] == "user"
    assert found["distance"] == pytest.approx(15 / 35, abs=0.02)
    assert [one["value"] for one in found["moved"][:2]] == ["(new)", "(gone)"]
    assert "warning: user: infinity norm" in second["console"]
    assert second["leaks"]["found"] == []


def test_a_run_stops_at_drift_and_leaks_where_it_is_asked_to(
    home: Home, second: dict[str, Any]
) -> None:
    found = home.run(
        1,
        "data.drift=stop",
        "data.leaks=stop",
        "features.numeric=[paid]",
        "features.crosses=[]",
    )
    assert found["status"] == "refused"
    assert "Transform" not in found["seconds"]
    assert "user: infinity norm" in found["message"]
    assert "paid: its values alone give an AUC of 1.0" in found["message"]
    assert [one["feature"] for one in found["leaks"]["found"]] == ["paid"]
    assert {one["feature"] for one in found["drift"]["found"]} == {"user"}


@pytest.mark.slow
def test_killed_it_goes_on_from_its_own_checkpoint(
    home: Home, second: dict[str, Any]
) -> None:
    settings = (WARM, "train.epochs=40", "train.checkpoint_steps=10")
    folder = home.folder / "runs/daily/checkpoints"
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *home.words(2, *settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not [
            step for step in folder.glob("*/step-*") if step.name[-3:] >= "050"
        ]:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (origin,) = folder.glob("*/origin.json")
    graph = Path(json.loads(origin.read_text())["graph"])
    assert home.folder.joinpath(graph, "saved_model.pb").exists()
    found = home.run(2, *settings)
    assert found["status"] == "done", found["console"]
    assert "removed" not in found["console"]
    assert not list(folder.iterdir())
    # On top of those of the model it began with.
    assert iterations(home)[-1] == 123 + 40 * 30


@pytest.mark.slow
def test_it_answers_the_same_where_fewer_negatives_are_kept(
    home: Home, second: dict[str, Any]
) -> None:
    path = second["pushed_model"]
    found = home.run(
        2, f"train.warm_start={path}", STILL, "data.negatives.keep=0.25"
    )
    assert found["status"] == "done", found["console"]
    assert found["warm_start"]["bias_moved"] == pytest.approx(np.log(4))
    before = predictions(path, DAYS[2])
    now = predictions(found["pushed_model"], DAYS[2])
    np.testing.assert_allclose(now, before, atol=1e-6)
    assert before.mean() < 0.5


@pytest.mark.slow
def test_without_the_state_it_begins_anew_and_says_why(
    home: Home, second: dict[str, Any]
) -> None:
    shutil.rmtree(home.folder / "models/.training")
    found = home.run(1, WARM, "optimizer.learning_rate=0.02")
    assert found["status"] == "done", found["console"]
    assert "was pushed without the state" in found["warm_start"]["reason"]
    assert "training starts from new weights" in found["console"]
    # The next day has a state again, though that of days before is lost.
    assert len(iterations(home)) == 1


def test_a_path_without_a_model_is_an_error(
    home: Home, second: dict[str, Any]
) -> None:
    found = home.run(1, "train.warm_start=nowhere/1")
    assert found["status"] == "input_error"
    assert "train.warm_start: no model in 'nowhere/1'" in found["message"]
