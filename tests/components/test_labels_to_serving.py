"""Several labels from examples to the export, its answers and its gate."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from components.evaluator import gate
from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.outputs import evaluate_outputs, with_outputs
from components.evaluator.predictions import predictions
from components.serving_gate import reference
from models.checkpointing import saved_state
from models.checkpointing.warm_start import Base
from models.config.labels import UNKNOWN, labels_of
from models.export import UNCALIBRATED, Served, export
from models.input_pipeline.dataset import Batches
from models.input_pipeline.row_counts import ROWS
from models.preprocessing import analyzers
from models.training.calibration import ENOUGH
from models.training.export_logits import Calibrated, calibrated
from models.training.metrics import auc, calibration, logloss
from models.training.run import TrainingRun
from models.tuning.trial import attempt
from optimizers.registry import build_optimizer
from pipeline.prediction.chunk import Model
from serving import manifest, tf_serving, tf_serving_examples
from serving.errors import BadInputError
from serving.savedmodel import LoadedModel
from tests.components.transform import runs

pytestmark = pytest.mark.ci

LABELS = [
    {"name": "click", "of": None, "weight": 1.0},
    {"name": "buy", "of": "click", "weight": 2.0},
]
SPEC: dict[str, Any] = {
    "label": tf.io.VarLenFeature(tf.int64),
    "example_label_buy": tf.io.VarLenFeature(tf.int64),
    "site": tf.io.VarLenFeature(tf.string),
    "price": tf.io.VarLenFeature(tf.float32),
}
FEATURES = {
    "numeric": ["price"],
    "categorical": [{"name": "site", "min_count": 1}],
}
CUSTOM: dict[str, Any] = {
    "features": FEATURES,
    "model": {"name": "esmm", "hidden": [4], "dropout": 0.0},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "train": {"batch_size": 64, "epochs": 2, "jit": False},
    "negatives": {"keep": 0.5},
    "labels": LABELS,
}
NAMES = ["ctr", "cvr", "ctcvr"]


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Site 0 sells; the price decides about the click."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        site, price = int(rng.integers(5)), float(rng.normal())
        click = rng.random() < 1 / (1 + np.exp(1 - price))
        buy = click and rng.random() < (0.8 if site == 0 else 0.2)
        known = rng.random() < 0.8
        found.append(
            {
                "site": f"s{site}",
                "price": price,
                "label": int(click),
                "example_label_buy": int(buy) if known else UNKNOWN,
            }
        )
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows that are evaluated, the training, its model, and the export."""
    folder = tmp_path_factory.mktemp("labels")
    splits = {"train": rows(600, 1), "eval": rows(400, 2)}
    counts = {name: len(found) for name, found in splits.items()}
    job = runs.training(CUSTOM, folder, splits, SPEC, {ROWS: counts})
    model = job.fit().model
    path = folder / "7"
    served = Served(
        model,
        job.files.transform,
        job.features,
        job.negatives.shift,
        analysis=analyzers.kept(job.features, job.files.transform),
        labels=job.labels,
    )
    export(served, str(path), {"config": CUSTOM})
    return splits["eval"], job, model, path


def wanted(job: Any, model: Any) -> Any:
    """Probabilities of the network, corrected for the negatives."""
    further = [label.column for label in job.labels[1:]]
    data = Batches(job.files.eval, job.files.transform, 500, labels=further)
    logits = np.concatenate([model(inputs).numpy() for inputs, _ in data])
    p = 1 / (1 + np.exp(-(logits.astype(float) + [job.negatives.shift, 0])))
    return np.stack([p[:, 0], p[:, 1], p[:, 0] * p[:, 1]], 1)


def test_both_signatures_answer_each_output(trained: Any) -> None:
    found, job, model, path = trained
    expected = wanted(job, model)
    loaded = tf.saved_model.load(str(path))
    answers = loaded.signatures["serving_default"](
        site=tf.constant([row["site"] for row in found]),
        price=tf.constant([row["price"] for row in found], tf.float32),
    )
    assert sorted(answers) == sorted(NAMES)
    records = records_of(path)
    by_example = reference.predictions(str(path), records, NAMES)
    for number, name in enumerate(NAMES):
        by_column = answers[name].numpy()
        np.testing.assert_allclose(by_column, expected[:, number], rtol=1e-4)
        np.testing.assert_array_equal(by_column, by_example[:, number])


def records_of(path: Path) -> list[bytes]:
    files = sorted((path.parent / "raw" / "Split-eval").glob("*"))
    data = tf.data.TFRecordDataset([str(file) for file in files])
    return [record.numpy() for record in data]


def test_server_and_batch_scoring_give_each_output(trained: Any) -> None:
    found, job, model, path = trained
    loaded = LoadedModel(path)
    request = tf_serving.decode(
        json.dumps(
            {
                "instances": [
                    {"site": row["site"], "price": row["price"]}
                    for row in found[:3]
                ]
            }
        ).encode(),
        loaded.inputs,
    )
    outputs = loaded.predict(request.signature, request.columns)
    answer = json.loads(tf_serving.encode(outputs, request.by_row))
    expected = wanted(job, model)
    for row, values in zip(answer["predictions"], expected, strict=False):
        assert row == pytest.approx(
            dict(zip(NAMES, values, strict=True)), rel=1e-4
        )
    regressed = json.loads(tf_serving_examples.encode_values(outputs))
    ctr = [row["ctr"] for row in answer["predictions"]]
    assert regressed["results"] == pytest.approx(ctr)
    del outputs["ctr"]
    with pytest.raises(BadInputError, match="the output 'ctr', or with one"):
        tf_serving_examples.encode_values(outputs)
    scores = Model(str(path)).predict(
        {
            "site": pa.array([row["site"] for row in found]),
            "price": pa.array([row["price"] for row in found], pa.float32()),
        },
        {},
    )
    assert list(scores) == ["ctr", "ctcvr", "cvr"]
    for number, name in enumerate(NAMES):
        np.testing.assert_allclose(scores[name], expected[:, number], rtol=1e-4)


def test_warm_start_goes_on_with_the_same_labels(
    trained: Any, tmp_path: Path
) -> None:
    _, job, model, _ = trained
    optimizer = build_optimizer(CUSTOM["optimizer"], 10, 3)
    optimizer.build(model.trainable_variables)
    saved_state.save(str(tmp_path), model, optimizer, job.meaning)
    base = Base(str(tmp_path))
    labels = [LABELS[0], {**LABELS[1], "weight": 1.0}]  # which may change
    train = {**CUSTOM["train"], "epochs": 1}
    custom = {**CUSTOM, "train": train, "labels": labels}
    report = TrainingRun(custom, job.files, base).fit().warm_start
    assert report is not None and not report.initialised and not report.left

    renamed = dataclasses.replace(job.meaning, labels=["click", "cart"])
    saved_state.save(str(tmp_path / "2"), model, optimizer, renamed)
    base = Base(str(tmp_path / "2"))
    report = TrainingRun(custom, job.files, base).fit().warm_start
    assert report is not None
    carried = {"model/deep/embedding_16/table"}
    new = {name for name in report.initialised if name.startswith("model/")}
    assert new and not new & carried and "model/deep/out/kernel" in new


def calibrated_export(
    trained: Any, found: Calibrated, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Signature -> its answers to the eval rows, and the rows' files."""
    _, job, model, path = trained
    served = Served(
        model,
        job.files.transform,
        job.features,
        job.negatives.shift,
        analysis=analyzers.kept(job.features, job.files.transform),
        calibrations=found.functions,
        labels=job.labels,
    )
    export(served, str(folder), {"config": CUSTOM})
    files = [str(f) for f in (path.parent / "raw" / "Split-eval").glob("*")]
    records = tf.data.TFRecordDataset(sorted(files)).batch(1000)
    (examples,) = list(records)
    loaded = tf.saved_model.load(str(folder))
    return {
        name: {
            output: values.numpy()
            for output, values in signature(examples=examples).items()
        }
        for name, signature in loaded.signatures.items()
        if name != "serving_default"
    }, files


def test_each_label_is_calibrated_by_the_rows_where_it_counts(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is scikit-learn's on the network's logits."""
    monkeypatch.setitem(ENOUGH, "platt", 20)
    rows, job, model, _ = trained
    click = np.array([row["label"] for row in rows])
    buy = np.array([row["example_label_buy"] for row in rows])
    counts = (click > 0) & (buy >= 0)
    ctr, cvr = job.held_out_rows(model, 0)
    assert len(ctr.labels) == len(rows) and len(cvr.labels) == counts.sum()
    assert cvr.labels.sum() == (buy[counts] > 0).sum()
    assert len(cvr.ids) == counts.sum()
    found = calibrated(job, model, {"method": "platt"})
    assert not found.warnings
    assert found.report["outputs"]["cvr"]["functions"][0]["name"] == "all rows"
    answers, files = calibrated_export(trained, found, tmp_path / "m")
    before, after = answers[UNCALIBRATED], answers["examples"]
    expected = wanted(job, model)
    for number, name in enumerate(NAMES):
        np.testing.assert_allclose(before[name], expected[:, number], rtol=1e-4)
    for name, labels, some in (
        ("ctr", click, slice(None)),
        ("cvr", buy, counts),
    ):
        logits = np.log(before[name] / (1 - before[name]))[:, None]
        reference = LogisticRegression(penalty=None, tol=1e-10)
        reference.fit(logits[some], labels[some])
        p = reference.predict_proba(logits)[:, 1]
        np.testing.assert_allclose(after[name], p, rtol=1e-3)
        mean = calibration(labels[some].astype(float), after[name][some])
        assert mean == pytest.approx(1, abs=1e-3)
    product = after["ctr"] * after["cvr"]
    np.testing.assert_allclose(after["ctcvr"], product, rtol=1e-6)
    assert (after["ctcvr"] < after["ctr"]).all()
    columns = predictions(
        files, {"candidate": str(tmp_path / "m")}, {}, labels=job.labels
    )
    config = EvaluateConfig.model_validate(
        {"replicates": 100, "calibrate": "platt"}
    )
    reports = evaluate_outputs(columns, job.labels, config, "eval")
    reports["ctr"] = evaluate(columns, config, "eval")
    for name, some in (
        ("ctr", click >= 0),
        ("cvr", counts),
        ("ctcvr", buy >= 0),
    ):
        labels = {"ctr": click, "cvr": buy, "ctcvr": buy * click}[name][some]
        entry = reports[name]["calibration"]["metrics"]["logloss"]
        for key, values in (("baseline", before), ("value", after)):
            value = logloss(labels.astype(float), values[name][some])
            assert entry[key] == pytest.approx(value, rel=1e-3)


def test_label_with_too_few_rows_is_not_calibrated(
    trained: Any, tmp_path: Path
) -> None:
    _, job, model, _ = trained
    found = calibrated(job, model, {"method": "platt", "by": "site"})
    (warning,) = found.warnings
    assert warning.startswith("no calibration of cvr: ")
    assert "too few" in found.report["outputs"]["cvr"]["why"]
    assert found.report["why"] is None and found.functions[1] is None
    answers, files = calibrated_export(trained, found, tmp_path / "m")
    before, after = answers[UNCALIBRATED], answers["examples"]
    np.testing.assert_array_equal(before["cvr"], after["cvr"])
    assert (before["ctr"] != after["ctr"]).any()
    columns = predictions(
        files, {"candidate": str(tmp_path / "m")}, {}, labels=job.labels
    )
    config = EvaluateConfig.model_validate(
        {"replicates": 100, "calibrate": "platt"}
    )
    reports = evaluate_outputs(columns, job.labels, config, "eval")
    assert reports["cvr"]["calibration"] is None
    assert reports["ctcvr"]["calibration"] is not None


def test_search_scores_several_labels(trained: Any) -> None:
    _, job, *_ = trained
    record = attempt(CUSTOM, job.files)
    assert 0 < record["logloss"] < 1 and 0.5 < record["auc"] <= 1


def test_each_output_is_judged_where_its_label_counts(trained: Any) -> None:
    found, job, model, path = trained
    p = wanted(job, model)
    files = sorted((path.parent / "raw" / "Split-eval").glob("*"))
    columns = predictions(
        [str(file) for file in files],
        {"candidate": str(path)},
        {"site": "string"},
        ["site"],
        labels=labels_of(CUSTOM),
    )
    config = EvaluateConfig.model_validate(
        {
            "slices": [["site"]],
            "outputs": {"cvr": {"auc": {"min": 0.999}}},
            "replicates": 100,
        }
    )
    report = evaluate(columns, config, "eval")
    reports = evaluate_outputs(columns, labels_of(CUSTOM), config, "eval")
    click = np.array([row["label"] for row in found]) > 0
    buy = np.array([row["example_label_buy"] for row in found])
    for name, rows, labels, probabilities in (
        ("cvr", click & (buy >= 0), buy, p[:, 1]),
        ("ctcvr", buy >= 0, buy * click, p[:, 2]),
    ):
        part = reports[name]
        assert part["label"] == "buy"
        assert part["rows"] == rows.sum()
        assert part["positives"] == labels[rows].sum()
        for metric, function in (("auc", auc), ("logloss", logloss)):
            entry = part["metrics"][metric]
            value = function(labels[rows], probabilities[rows])
            assert entry["value"] == pytest.approx(value, rel=1e-3)
            low, high = entry["interval"]
            assert low < entry["value"] < high
        site = np.array([row["site"] for row in found])
        for one in part["slices"]:
            within = rows & (site == one["key"]["site"])
            assert one["rows"] == within.sum()
            assert one["positives"] == labels[within].sum()
    verdict = with_outputs(gate.judge(report, config), reports)
    assert not verdict["passed"]
    (line,) = [line for line in verdict["refusals"] if "0.999" in line]
    assert line.startswith("cvr: auc is ")
    metrics = {check["metric"] for check in verdict["checks"]}
    assert {"logloss", "cvr.auc", "ctcvr.normalized_entropy"} <= metrics


def test_baseline_of_one_label_is_none_of_another_output(trained: Any) -> None:
    *_, path = trained
    files = sorted((path.parent / "raw" / "Split-eval").glob("*"))
    older = path.parent / "older"
    loaded = tf.saved_model.load(str(path))

    class Older(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loaded = loaded

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def examples(self, examples: Any) -> dict[str, Any]:
            answers = self.loaded.signatures["examples"](examples=examples)
            return {"ctr": answers["ctr"]}

    module = Older()
    tf.saved_model.save(
        module, str(older), signatures={"examples": module.examples}
    )
    columns = predictions(
        [str(file) for file in files],
        {"candidate": str(path), "baseline": str(older)},
        {},
        labels=labels_of(CUSTOM),
    )
    config = EvaluateConfig.model_validate({"replicates": 100})
    report = evaluate(columns, config, "eval")
    assert report["metrics"]["auc"]["difference"] == 0
    cvr = evaluate_outputs(columns, labels_of(CUSTOM), config, "eval")["cvr"]
    assert cvr["models"] == ["candidate"]
    assert cvr["metrics"]["auc"]["value"] is not None


@pytest.mark.parametrize("name", ["buy", "cart"])
def test_baseline_is_compared_by_the_label_of_an_output(
    trained: Any, tmp_path: Path, name: str
) -> None:
    *_, path = trained
    older = tmp_path / "older"
    shutil.copytree(path, older)
    about = older / manifest.NAME
    told = json.loads(about.read_text())
    told["config"]["labels"][1]["name"] = name
    about.write_text(json.dumps(told))
    files = sorted((path.parent / "raw" / "Split-eval").glob("*"))
    columns = predictions(
        [str(file) for file in files],
        {"candidate": str(path), "baseline": str(older)},
        {},
        labels=labels_of(CUSTOM),
    )
    count = 2 if name == "buy" else 1
    assert [len(one) for one in columns.outputs.values()] == [count] * 2
