"""`lionctr run` with `tune`, and `lionctr compare`: killed, and gone on."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from components.evaluator.config import EvaluateConfig
from models.config.search_space import applied, decoded
from models.errors import InputError
from models.input_pipeline.dataset import Batches
from pipeline.comparison import trainings
from pipeline.config import PipelineConfig
from pipeline.console import Console
from tests import forks
from tests.e2e.attempts import lionctr
from tests.pipeline.small import make_config, write_log
from tests.pipeline.test_tune import LOG, with_tune

TRIALS = 5
# Five trials of these six: one at least diverges, one at least does not.
TUNE = {
    "trials": TRIALS,
    "objective": "brier",
    "optimizer.learning_rate": {"choice": [3e-3, 3e-2, 1e30]},
    "model.hidden": {"choice": [[8], [4, 4]]},
}


@dataclass
class Home:
    """A folder with a log and a config."""

    folder: Path
    config: PipelineConfig

    @property
    def log(self) -> Path:
        """Output of the process of `start`."""
        return self.folder / "log.txt"

    def start(self, command: str, *words: str) -> Any:
        """Starts a command on the config."""
        config = str(self.folder / "small.yaml")
        arguments = ["pipeline.cli", command, config, *words]
        return forks.start(arguments, Path.cwd(), self.log)

    def records(self, folder: str) -> dict[str, int]:
        """Finished trainings -> when they were written."""
        found = (self.folder / "runs/Small_ctr" / folder).glob("*.json")
        return {path.name: path.stat().st_mtime_ns for path in found}

    def kill_after(
        self, process: Any, folder: str, count: int
    ) -> dict[str, int]:
        """Kills it once so many trainings are finished; returns those."""
        try:
            while len(self.records(folder)) < count:
                assert process.is_alive(), self.log.read_text()
                time.sleep(0.05)
        finally:
            process.kill()
            process.join()
        return self.records(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The small pipeline, with a test split that both commands share."""
    folder = tmp_path_factory.mktemp("tuning")
    write_log(folder / "log.tsv", 1000)
    config = make_config(
        folder,
        root=str(folder / "runs"),
        tune=TUNE,
        # Without weight decay there is less to search.
        optimizer={"name": "adamw", "weight_decay": 0},
        evaluate={"metrics": {"auc": {"min": 0.5}}},
        serving_gate="off",
    )
    split = config.data.split.model_copy(update={"test": 0.2})
    data = config.data.model_copy(update={"split": split})
    config = config.model_copy(update={"data": data})
    (folder / "small.yaml").write_text(
        yaml.safe_dump(config.resolved()), "utf-8"
    )
    return Home(folder, config)


def test_every_trial_is_a_config_within_the_bounds(tmp_path: Path) -> None:
    config = with_tune(
        tmp_path,
        {
            "optimizer.learning_rate": LOG,
            "model.hidden": {"choice": [[8], [16, 8]]},
            "model.dropout": {"linear": [0, 0.5]},
            "train.batch_size": {"int": [32, 64]},
            "train.early_stopping.patience": {"choice": [2, 5]},
            "features.categorical.site.dim": {"choice": [4, 8]},
        },
    )
    assert config.tune is not None
    space = config.tune.hyperparameters()
    for seed in range(20):
        values = {p.name: p.random_sample(seed) for p in space.space}
        changed = applied(config.resolved(), decoded(values))
        trial = PipelineConfig.model_validate(changed)
        assert 1e-5 <= trial.optimizer.spec()["learning_rate"] <= 1e-2
        assert trial.model.hidden in ((8,), (16, 8))
        assert 0 <= trial.model.dropout <= 0.5
        assert 32 <= trial.train.batch_size <= 64
        assert trial.train.early_stopping is not None
        assert {f.name: f.dim for f in trial.features.categorical}["site"] in (
            4,
            8,
        )
        assert trial.data == config.data


@pytest.fixture(scope="module")
def tuned(home: Home) -> tuple[dict[str, int], dict[str, Any], str]:
    """A run that was killed after two trials, then one to the end."""
    process = home.start("run")
    before = home.kill_after(process, "trials", 2)
    _, out, console = lionctr("run", str(home.folder / "small.yaml"), "--json")
    return before, json.loads(out), console


@pytest.mark.ci
def test_a_killed_run_does_not_repeat_its_trials(
    home: Home, tuned: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    before, summary, console = tuned
    assert summary["status"] == "done", console
    after = home.records("trials")
    assert len(after) == TRIALS
    assert {name: after[name] for name in before} == before
    assert console.count("done before") == len(before)
    for number in range(1, TRIALS + 1):
        assert f"trial {number}/{TRIALS}: " in console


@pytest.mark.ci
def test_a_trial_that_diverges_is_a_failed_one(
    tuned: tuple[dict[str, int], dict[str, Any], str],
) -> None:
    lines = [line for line in tuned[2].splitlines() if "trial " in line]
    failed = [line for line in lines if "learning_rate 1e+30" in line]
    assert failed
    assert all("failed: " in line for line in failed)
    assert sum("failed: " in line for line in lines) == len(failed)


@pytest.mark.ci
def test_the_best_values_reach_the_trainer(
    home: Home, tuned: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    _, summary, _ = tuned
    folder = home.folder / "runs/Small_ctr"
    records = [
        json.loads(path.read_text())
        for path in (folder / "trials").glob("*.json")
    ]
    best = min(
        (r for r in records if "failed" not in r["record"]),
        key=lambda r: r["record"]["brier"],
    )
    (path,) = folder.glob("artifacts/Trainer/model_run/*/training.json")
    training = json.loads(path.read_text())
    # With a rate that was searched there is none to choose for tables.
    searched = dict(best["made_from"]["optimizer"])
    assert searched.pop("table_rate", "auto") == "auto"
    for found in (training, summary):
        assert found["optimizer"] == searched
        assert found["tuned"] == {
            "optimizer.learning_rate": best["made_from"]["optimizer"][
                "learning_rate"
            ],
            "model.hidden": best["made_from"]["model"]["hidden"],
        }
    assert training["eval_logloss"] == pytest.approx(
        best["record"]["logloss"], rel=1e-4
    )


@pytest.mark.slow
def test_a_search_without_a_result_names_the_last_failure(
    home: Home,
    tuned: tuple[dict[str, int], dict[str, Any], str],
    tmp_path: Path,
) -> None:
    from models.tuner import tuner_fn

    artifacts = home.folder / "runs/Small_ctr/artifacts/Transform"
    (graph,) = (artifacts / "transform_graph").iterdir()
    (examples,) = (artifacts / "transformed_examples").iterdir()
    sections = home.config.resolved()
    parameters = {"optimizer.learning_rate": {"choice": [1e30, 1e31]}}
    tuner = tuner_fn(
        SimpleNamespace(
            custom_config=sections
            | {"negatives": sections["data"]["negatives"]}
            | {"tune": {"trials": 3, "parameters": parameters}},
            transform_graph_path=str(graph),
            train_files=[f"{examples}/Split-train/*"],
            eval_files=[f"{examples}/Split-eval/*"],
            working_dir=str(tmp_path),
        )
    ).tuner
    with pytest.raises(InputError, match=r"all 2 trials failed.*diverged"):
        tuner.search()


@pytest.mark.slow
def test_a_search_by_a_metric_of_ones_own(
    home: Home,
    tuned: tuple[dict[str, int], dict[str, Any], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from models.tuner import tuner_fn

    (tmp_path / "own_aims.py").write_text(
        "import numpy as np\n"
        "class Aim:\n"
        "    better = 'higher'\n"
        "    def terms(self, labels, probabilities):\n"
        "        return np.stack([probabilities], 1)\n"
        "    def value(self, sums):\n"
        "        return sums[..., 1] / sums[..., 0]\n"
    )
    monkeypatch.chdir(tmp_path)
    artifacts = home.folder / "runs/Small_ctr/artifacts/Transform"
    (graph,) = (artifacts / "transform_graph").iterdir()
    (examples,) = (artifacts / "transformed_examples").iterdir()
    sections = home.config.resolved()
    tune = {
        "trials": 2,
        "objective": "own_aims:Aim",
        "parameters": {"optimizer.learning_rate": {"choice": [3e-3, 3e-2]}},
    }
    tuner = tuner_fn(
        SimpleNamespace(
            custom_config=sections
            | {"negatives": sections["data"]["negatives"], "tune": tune},
            transform_graph_path=str(graph),
            train_files=[f"{examples}/Split-train/*"],
            eval_files=[f"{examples}/Split-eval/*"],
            working_dir=str(tmp_path / "search"),
        )
    ).tuner
    tuner.search()
    scores = [trial.score for trial in tuner.oracle.trials.values()]
    assert len(set(scores)) == 2 and all(0 < score < 1 for score in scores)
    (best,) = tuner.oracle.get_best_trials(1)
    assert best.score == max(scores)


@pytest.mark.ci  # as the trials of a killed run
def test_a_training_of_a_comparison_is_done_once(
    home: Home, tuned: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    assert tuned
    artifacts = home.folder / "runs/Small_ctr/artifacts"
    made = {
        component: {
            output.name: str(next(output.iterdir()))
            for output in (artifacts / component).iterdir()
        }
        for component in ("ClickLogGen", "Transform")
    }
    told = io.StringIO()
    data = trainings.Data.of(
        made,
        EvaluateConfig(group="site", replicates=100),
        home.folder / "once",
        "a version",
        Console(told),
    )
    sections = home.config.resolved()
    sections["negatives"] = sections["data"]["negatives"]
    one = trainings.Trainings("", sections, data)
    asked = {**one.optimizer, "learning_rate": 0.02}
    loss = one.eval_loss(asked)
    first = one.test(asked, 1)
    assert "done before" not in told.getvalue()
    assert one.eval_loss(asked) == loss and one.test(asked, 1) == first
    assert told.getvalue().count("done before") == 2
    assert one.eval_loss({**asked, "learning_rate": 1e30}) == math.inf
    assert "failed: " in told.getvalue()

    # Scores of a loss that is not calibrated are searched by their ranking.
    train = {**sections["train"], "loss": {"name": "focal", "gamma": 2.0}}
    scores = trainings.Trainings("", {**sections, "train": train}, data)
    loss = scores.eval_loss(asked)
    last = told.getvalue().splitlines()[-1]
    auc = float(last.split("AUC ")[1].split()[0])
    assert loss == pytest.approx(1 - auc, abs=1e-4)

    labels = np.concatenate(
        [
            label
            for _, label in Batches(data.test, data.files.transform, 50).epoch()
        ]
    )
    rate = labels.mean()
    constant = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
    assert 0.2 < first["test"]["logloss"] < constant
    assert 0.6 < first["test"]["auc"] < 1
    assert data.unit == "site"
    # AdamW keeps two floats for each weight.
    assert first["slot_bytes"] % 8 == 0 and first["slot_bytes"] > 0
    assert first["curve"][-1]["examples"] == first["examples"]


COMPARE = ("--optimizers", "lion,adagrad", "--seeds", "2", "--json")


@pytest.fixture(scope="module")
def compared(
    home: Home, tuned: tuple[dict[str, int], dict[str, Any], str]
) -> tuple[dict[str, int], dict[str, Any], str]:
    """A comparison that was killed, then one to the end."""
    trainings = "compare/trainings"
    process = home.start("compare", *COMPARE)
    before = home.kill_after(process, trainings, 3)
    config = str(home.folder / "small.yaml")
    code, out, console = lionctr("compare", config, *COMPARE)
    assert code == 0, console
    return before, json.loads(out), console


@pytest.mark.slow
def test_a_killed_comparison_does_not_repeat_its_trainings(
    home: Home, compared: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    before, _, console = compared
    after = home.records("compare/trainings")
    assert {name: after[name] for name in before} == before
    assert console.count("done before") == len(before)
    # It shares ingest and Transform with `run`.
    for name in ("ClickLogGen", "Transform"):
        assert f"{name:<17} cached" in console


@pytest.mark.slow
def test_a_comparison_judges_on_rows_that_nothing_was_chosen_by(
    home: Home, compared: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    _, results, _ = compared
    rows = results["rows"]
    assert sum(rows.values()) == 1000
    assert list(results["optimizers"]) == ["lion", "adagrad"]
    (first,) = results["baseline"].items()
    assert first[0] == "logistic regression" and not first[1]["difference"]
    for name, one in results["optimizers"].items():
        low, high = one["intervals"]["logloss"]
        assert low < one["test"]["logloss"]["mean"] < high
        assert one["difference"]["logloss"]["interval"]
        assert one["optimizer"]["name"] == name
        best = min(one["tried"], key=lambda tried: tried["eval_logloss"])
        assert one["optimizer"] == best["optimizer"]
        assert len(one["tried"]) >= 5
        for metric, low, high in (
            ("auc", 0.6, 1),
            ("logloss", 0.2, 0.65),
            ("calibration", 0.5, 2),
        ):
            assert low < one["test"][metric]["mean"] < high
            assert len(one["test"][metric]["values"]) == 2
            assert one["test"][metric]["deviation"] >= 0
        assert one["slot_bytes"] > 0
        for curve in one["curves"]:
            examples = [point["examples"] for point in curve]
            assert len(curve) >= 10
            assert examples == sorted(examples)
            assert examples[-1] == 3 * rows["train"]
            assert curve[-1]["logloss"] < curve[0]["logloss"]


@pytest.mark.slow
def test_a_comparison_leaves_its_results_and_a_plot(
    home: Home, compared: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    folder = home.folder / "runs/Small_ctr/compare"
    assert json.loads((folder / "compare.json").read_text()) == compared[1]
    png = (folder / "compare.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000


@pytest.mark.slow
def test_a_comparison_has_lines_on_pieces_and_buckets_of_the_numbers(
    home: Home, compared: tuple[dict[str, int], dict[str, Any], str]
) -> None:
    config = str(home.folder / "small.yaml")
    names = ["wide_deep+buckets", "wide_deep+pieces"]
    models = ("--models", ",".join(names), "--seeds", "1", "--json")
    code, out, console = lionctr("compare", config, *models)
    assert code == 0, console
    results = json.loads(out)
    # The first line and its rows are those of the numbers alone.
    (before,) = compared[1]["baseline"].values()
    (first,) = results["baseline"].values()
    for metric in ("auc", "logloss"):
        values = [one["test"][metric]["values"][0] for one in (first, before)]
        assert values[0] == values[1]
    assert results["rows"] == compared[1]["rows"]
    assert list(results["models"]) == names
    for one in results["models"].values():
        assert one["difference"]["logloss"]["interval"]
        assert 0.6 < one["test"]["auc"]["mean"] < 1
    assert console.count(f"{'Transform':<17} done") == 2
