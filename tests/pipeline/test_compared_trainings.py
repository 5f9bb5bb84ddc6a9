"""Trainings of a comparison and of a search, on small transformed examples."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.transform.executor import Executor
from models.config.labels import UNKNOWN, labels_of
from models.config.training import TrainConfig
from models.input_pipeline.dataset import Batches
from models.training.label_losses import judged, probabilities
from models.training.metrics import auc, logloss
from models.training.run import Files
from models.tuning.trial_store import FinishedTrainings
from pipeline.comparison import baseline
from pipeline.comparison.command import _measured
from pipeline.comparison.intervals import judge, outputs_of
from pipeline.comparison.report import lines, table
from pipeline.comparison.trainings import Data, Trainings
from pipeline.console import Console
from tests.components.transform import runs

SPEC: dict[str, Any] = {
    "label": tf.io.FixedLenFeature([], tf.int64),
    "example_label_buy": tf.io.FixedLenFeature([], tf.int64),
    "site": tf.io.VarLenFeature(tf.string),
    "price": tf.io.VarLenFeature(tf.float32),
    "user": tf.io.VarLenFeature(tf.string),
}
FEATURES = {
    "numeric": ["price"],
    "categorical": [{"name": "site", "min_count": 1}],
}
LABELS = [
    {"name": "click", "of": None, "weight": 1.0},
    {"name": "buy", "of": "click", "weight": 1.0},
]


def train(loss: Any) -> dict[str, Any]:
    """The section, with every default."""
    given = {"batch_size": 64, "epochs": 1, "jit": False, "loss": loss}
    return TrainConfig.model_validate(given).model_dump(mode="json")


SECTIONS: dict[str, Any] = {
    "features": FEATURES,
    "group": "user",
    "model": {"name": "wide_deep", "hidden": [4], "dropout": 0.0},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "train": train("logloss"),
    "negatives": {},
}
ESMM = {
    **SECTIONS,
    "labels": LABELS,
    "model": {"name": "esmm", "hidden": [4], "dropout": 0.0},
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """The price decides about the click, the site about the purchase."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        site, price = int(rng.integers(5)), float(rng.normal())
        click = rng.random() < 1 / (1 + np.exp(1 - price))
        buy = int(click and rng.random() < (0.8 if site == 0 else 0.2))
        found.append(
            {
                "site": f"s{site}",
                "price": price,
                "user": f"u{rng.integers(60)}",
                "label": int(click),
                "example_label_buy": buy if rng.random() < 0.8 else UNKNOWN,
            }
        )
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The data of a comparison of models of one label; eval rows are tested."""
    folder = tmp_path_factory.mktemp("compared")
    splits = {"train": rows(800, 1), "eval": rows(600, 2)}
    transform = runs.run(
        Executor,
        folder,
        {name: {"part": found} for name, found in splits.items()},
        SPEC,
        FEATURES,
        custom_config=json.dumps({"features": FEATURES, "group": "user"}),
    )
    train, held_out = (
        [f"{folder}/transformed/Split-{name}/*"] for name in splits
    )
    return dataclasses.replace(
        Data(
            Files(transform, train, held_out),
            held_out,
            {},
            "row",
            folder,
            FinishedTrainings(str(folder / "trainings")),
            {},
            Console(io.StringIO()),
        ),
        rows=outputs_of(
            (), values_of(held_out, transform)[:, 0], None, None, 50
        ),
    )


def values_of(files: list[str], transform: Any) -> Any:
    """Labels of all rows, [N, 2]."""
    further = ["example_label_buy"]
    batches = Batches(files, transform, 1000, labels=further)
    return np.concatenate([label.numpy() for _, label in batches.epoch()])


def test_a_loss_of_groups_is_compared(data: Data) -> None:
    sections = {**SECTIONS, "train": train({"name": "jrc", "group": "user"})}
    trainings = Trainings("", sections, data)
    assert trainings.searched_by == "logloss"
    record = trainings.test(SECTIONS["optimizer"], 1)
    assert 0.6 < record["test"]["auc"] < 1
    assert record["train_seconds"] > 0 and record["curve"]


def test_search_of_a_loss_of_groups_goes_by_auc_where_it_gives_scores(
    data: Data,
) -> None:
    loss = {"name": "pairwise", "group": "user", "logloss_share": 0}
    trainings = Trainings("", {**SECTIONS, "train": train(loss)}, data)
    assert trainings.searched_by == "auc"
    assert 0 < trainings.eval_loss(SECTIONS["optimizer"]) < 0.4


def test_each_output_is_compared_and_one_is_searched_by(data: Data) -> None:
    labels = labels_of(ESMM)
    values = values_of(data.test, data.files.transform).astype(float)
    several = dataclasses.replace(
        data, rows=outputs_of(labels, values, None, None, 50)
    )
    assert list(several.rows) == ["ctr", "cvr", "ctcvr"]
    trainings = Trainings("", ESMM, several, "cvr")
    assert trainings.outputs == ["cvr", "ctr", "ctcvr"]
    loss = trainings.eval_loss(SECTIONS["optimizer"])
    told = several.console._stream.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert f"eval cvr.logloss {loss:.5f}" in told
    first = baseline.record(ESMM, several)
    result: dict[str, Any] = {
        "name": "shop",
        "budget": {"steps": 13},
        "rows": {"train": 800, "eval": 600, "test": 600},
        "seeds": 1,
        "searched_by": "logloss",
        "output": "cvr",
        "confidence": 0.9,
        "unit": "row",
        "baseline": {"logistic regression": {**first, "tried": []}},
        "models": {"esmm": {"optimizer": SECTIONS["optimizer"], "tried": [{}]}},
    }
    for name, record in (
        ("logistic regression", first),
        ("esmm", trainings.test(SECTIONS["optimizer"], 1)),
    ):
        line = lines(result)[name]
        line |= {"on_edge": False, **_measured([record], trainings)}
    judge(lines(result), "logistic regression", 0.9)
    for name in ("ctr", "ctcvr"):
        some = {k: v["outputs"][name] for k, v in lines(result).items()}
        judge(some, "logistic regression", 0.9)
    text = table(result)
    assert "settings were chosen by cvr:" in text
    for name in ("ctr", "ctcvr"):
        assert f"\n{name}, on the rows where its label counts:\n" in text
    assert text.count("\nesmm ") == text.count("\nlogistic regression ") == 3


def test_logistic_regression_is_of_each_label(data: Data) -> None:
    labels = labels_of(ESMM)
    values = values_of(data.test, data.files.transform).astype(float)
    several = dataclasses.replace(
        data, rows=outputs_of(labels, values, None, None, 50)
    )
    record = baseline.record(ESMM, several)
    assert record["optimizer"]["penalty"].keys() == {"ctr", "cvr"}
    assert record["rows"] == 800
    assert baseline.record(ESMM, several) == record  # done before
    fitted = record["outputs"]
    assert fitted["ctr"]["test"]["auc"] > 0.65
    assert fitted["cvr"]["test"]["auc"] > 0.65
    assert fitted["ctcvr"]["test"]["auc"] > 0.65
    # One label alone has the same regression of clicks.
    alone = baseline.record(SECTIONS, data)["outputs"]["ctr"]["test"]
    for metric, value in alone.items():
        assert fitted["ctr"]["test"][metric] == pytest.approx(value, abs=1e-6)


def test_rows_of_an_output_are_those_of_the_evaluator(data: Data) -> None:
    labels = labels_of(ESMM)
    values = values_of(data.test, data.files.transform).astype(float)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=values.shape)
    weights = rng.uniform(0.5, 2, len(values)).astype(np.float32)
    groups = rng.integers(-1, 40, len(values))
    found = outputs_of(labels, values, weights, groups, 20)
    predicted = probabilities(labels, logits)
    for output, name in ((1, "cvr"), (2, "ctcvr")):
        rows, own, p = judged(_outputs(labels)[output], values, logits)
        test = found[name].measure(predicted[name])["test"]
        for metric, function in (("auc", auc), ("logloss", logloss)):
            value = function(own, p, weights[rows].astype(float))
            assert test[metric] == pytest.approx(value, rel=1e-5)
    nothing = values.copy()
    nothing[:, 1] = UNKNOWN
    found = outputs_of(labels, nothing, weights, groups, 20)
    record = found["cvr"].measure(predicted["cvr"])
    assert np.isnan(record["test"]["auc"]) and not record["replicates"]


def _outputs(labels: Any) -> Any:
    from models.config.labels import outputs

    return outputs(labels)


@pytest.mark.ci  # imports TFX
@pytest.mark.parametrize(
    ("sections", "tune"),
    [
        (
            {"train": train({"name": "jrc", "group": "user"})},
            {},
        ),
        (ESMM, {"output": "cvr", "objective": "auc"}),
    ],
    ids=["jrc", "cvr"],
)
def test_search_takes_groups_and_an_output(
    data: Data, tmp_path: Path, sections: dict[str, Any], tune: dict[str, Any]
) -> None:
    from types import SimpleNamespace

    from models.tuner import tuner_fn

    tune = {
        "trials": 2,
        "parameters": {"optimizer.learning_rate": {"choice": [0.001, 0.03]}},
        "objective": "logloss",
        **tune,
    }
    tuner = tuner_fn(
        SimpleNamespace(
            custom_config={**SECTIONS, **sections, "tune": tune},
            transform_graph_path=str(data.folder / "graph"),
            train_files=data.files.train,
            eval_files=data.files.eval,
            working_dir=str(tmp_path),
        )
    ).tuner
    tuner.search()
    scores = [trial.score for trial in tuner.oracle.trials.values()]
    assert len(set(scores)) == 2 and all(0 < score < 1 for score in scores)
    (best,) = tuner.oracle.get_best_trials(1)
    wanted = max if tune["objective"] == "auc" else min
    assert best.score == wanted(scores)
