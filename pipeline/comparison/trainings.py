"""The trainings of a comparison: each is done once, whatever happens."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

import optimizers
from components.evaluator.config import EvaluateConfig
from components.evaluator.predictions import predictions
from models.config.labels import CTR, Label, further_columns
from models.config.losses import LossConfig
from models.input_pipeline.dataset import Batches
from models.losses.registry import build_loss
from models.training import loop
from models.training.evaluation import Evaluation
from models.training.label_losses import probabilities
from models.training.run import Files, Fitted, TrainingRun
from models.tuning.trial import attempt, named, objective
from models.tuning.trial_store import FinishedTrainings, fingerprint
from pipeline.comparison.intervals import TestRows, outputs_of
from pipeline.comparison.report import rates
from pipeline.console import Console

_POINTS = 20  # of a curve
_BATCH = 8192  # rows, where nothing is learned


@dataclass(frozen=True)
class Data:
    """Rows, files and records that all trainings of a comparison share.

    rows: of the test split, for each output. unit: of its bootstrap, "row" or
    a column.
    made_from: fingerprints of the examples and of the code.
    """

    files: Files
    test: list[str]
    rows: Mapping[str, TestRows]
    unit: str
    folder: Path
    finished: FinishedTrainings
    made_from: Mapping[str, str]
    console: Console

    def measured(
        self, predictions: Mapping[str, npt.NDArray[np.float64]]
    ) -> dict[str, Any]:
        """Output -> its metrics on test rows, see `TestRows.measure`."""
        return {
            name: rows.measure(predictions[name])
            for name, rows in self.rows.items()
        }

    @classmethod
    def of(
        cls,
        made: Mapping[str, Mapping[str, str]],
        evaluate: EvaluateConfig,
        folder: Path,
        code_version: str,
        console: Console,
        labels: Sequence[Label] = (),
    ) -> Data:
        """Finds the data in the artifacts of `local.prepare`.

        Args:
            made: component -> output -> URI.
            evaluate: the config section.
            folder: where finished trainings and TensorBoard's logs are kept.
            code_version: of this project and of the user's own code; another
                one trains anew.
            console: gets a line for each training.
            labels: of the models, where there are several.
        """
        examples = made["Transform"]["transformed_examples"]
        transform = tft.TFTransformOutput(made["Transform"]["transform_graph"])
        files = Files(
            transform,
            [f"{examples}/Split-train/*"],
            [f"{examples}/Split-eval/*"],
        )
        test = [f"{examples}/Split-test/*"]
        values, weights = _judged(test, transform, labels)
        groups = None
        if evaluate.group is not None:
            raw = f"{made['ClickLogGen']['examples']}/Split-test/*"
            groups = _groups(raw, evaluate.group, values)
        return cls(
            files,
            test,
            outputs_of(labels, values, weights, groups, evaluate.replicates),
            "row" if groups is None else str(evaluate.group),
            folder,
            FinishedTrainings(str(folder / "trainings")),
            {
                "data": fingerprint(files),
                "test": fingerprint(Files(transform, test, [])),
                "code_version": code_version,
                "unit": f"{evaluate.group}, {evaluate.replicates}",
            },
            console,
        )


def _judged(
    files: Sequence[str],
    transform: tft.TFTransformOutput,
    labels: Sequence[Label],
) -> tuple[Any, Any]:
    """Labels of the rows, and their weights, or None."""
    found, weights = [], []
    for _, label, *weight in _batches(files, transform, labels).epoch():
        found.append(label.numpy())
        weights += [one.numpy() for one in weight]
    return np.concatenate(found), np.concatenate(weights) if weights else None


def _batches(
    files: Sequence[str],
    transform: tft.TFTransformOutput,
    labels: Sequence[Label],
) -> Batches:
    further = further_columns(labels)
    return Batches(files, transform, _BATCH, labels=further)


def _groups(pattern: str, column: str, values: Any) -> Any:
    """Groups of the rows, from the raw examples; None if these differ."""
    kinds = {column: "string"}
    parts = [
        predictions([file], {}, kinds, group=column)
        for file in sorted(tf.io.gfile.glob(pattern))
    ]
    first = values.reshape(len(values), -1)[:, 0]
    if not np.array_equal(np.concatenate([p.labels for p in parts]), first):
        return None
    return np.concatenate([part.groups for part in parts])


class Trainings:
    """Trains with one optimizer or another; all else stays the same.

    Args:
        label: of the line, in front of what is shown; "" for none.
        sections: see `TrainingRun`; `optimizer` is replaced.
        data: what it trains on.
        output: of several labels, the one that a search goes by.
    """

    def __init__(
        self,
        label: str,
        sections: Mapping[str, Any],
        data: Data,
        output: str = CTR,
    ) -> None:
        self._label, self._data = label, data
        job = TrainingRun(sections, data.files)
        self._output = output if job.labels else None
        self.outputs = [output, *(n for n in data.rows if n != output)]
        # Settings chosen from the log are the same for all.
        self._sections = job.custom
        self.model: dict[str, Any] = job.custom["model"]
        self.optimizer: dict[str, Any] = job.custom["optimizer"]
        self.train: dict[str, Any] = job.custom["train"]
        self.steps = job.steps
        loss = build_loss(LossConfig.model_validate(self.train["loss"]))
        self.searched_by = "logloss" if loss.calibrated else "auc"
        self._taken: list[float] = []

    def eval_loss(self, optimizer: Mapping[str, Any]) -> float:
        """The value that a search lowers, after a training with one seed.

        The eval logloss, or 1 - AUC where the loss gives scores, whose logloss
        tells nothing of them.
        """
        train = dict(self._sections["train"])
        if train["early_stopping"] is None:
            train["eval_steps"] = None
        record = self._train(optimizer, train, "search")
        if self.searched_by == "logloss" or "failed" in record:
            name = named("logloss", self._output)
            return float(record.get(name, math.inf))
        auc = record["auc"]
        return 1.0 - auc if auc is not None and auc >= 0 else math.inf

    def test(self, optimizer: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The record of a training with a seed that nothing was chosen by."""
        train = dict(self._sections["train"])
        train["seed"] += number
        if train["early_stopping"] is None:
            train["eval_steps"] = max(1, self.steps // _POINTS)
        record = self._train(optimizer, train, f"seed {train['seed']}")
        of_output = record.get("outputs", {}).get(self.outputs[0], {})
        return {**record, **of_output}

    def taken(self) -> tuple[int, float]:
        """Trainings since the last call, and their seconds."""
        taken, self._taken = self._taken, []
        return len(taken), sum(taken)

    def _train(
        self, optimizer: Mapping[str, Any], train: dict[str, Any], what: str
    ) -> dict[str, Any]:
        sections = {
            **self._sections,
            "optimizer": dict(optimizer),
            "train": train,
        }
        tested = what != "search"
        made_from = {**sections, **self._data.made_from, "tested": tested}
        if not tested and self._output is not None:
            made_from["output"] = self._output
        data = self._data
        record = data.finished.get(made_from)
        known = record is not None
        name = f"{self._label or optimizer['name']}, {what}"
        if record is None:
            with data.console.running(name):
                record = (
                    self._tested(sections, name)
                    if tested
                    else attempt(
                        sections,
                        data.files,
                        describe=partial(objective, "logloss", self._output),
                    )
                )
            data.finished.put(made_from, record)
        self._taken.append(float(record["seconds"]))
        data.console.line(_line(name, optimizer, record, known))
        return record

    def _tested(self, sections: dict[str, Any], name: str) -> dict[str, Any]:
        data = self._data
        folder = re.sub(r"[^\w.-]+", "-", name)
        log_dir = data.folder / "tensorboard" / folder
        # A leftover of a training that was killed.
        shutil.rmtree(log_dir, ignore_errors=True)

        def describe(job: TrainingRun, fitted: Fitted) -> dict[str, Any]:
            evaluation = Evaluation(
                fitted.model, job.negatives.shift, job.labels
            )
            test = _batches(data.test, data.files.transform, job.labels)
            _, logits = evaluation.predict(test.epoch())
            return {
                "outputs": data.measured(probabilities(job.labels, logits)),
                "slot_bytes": optimizers.slot_bytes(fitted.optimizer),
                "curve": curve(log_dir, fitted.result),
            }

        return attempt(sections, data.files, str(log_dir), describe)


def curve(log_dir: Path, result: loop.Result) -> list[dict[str, float]]:
    """Eval logloss on the way, from TensorBoard's logs.

    Seconds are those of the steps alone: evaluations, which are as many for
    each optimizer, would hide what they cost.
    """
    events = EventAccumulator(str(log_dir), size_guidance={"tensors": 0})
    events.Reload()
    return [
        {
            "examples": round(result.examples * event.step / result.steps),
            "seconds": round(result.seconds * event.step / result.steps, 3),
            "logloss": float(tf.make_ndarray(event.tensor_proto)),
        }
        for event in events.Tensors("eval/logloss")
    ]


def _line(
    name: str,
    optimizer: Mapping[str, Any],
    record: Mapping[str, Any],
    known: bool,
) -> str:
    settings = rates(optimizer)
    if "failed" in record:
        result = f"failed: {record['failed']}"
    else:
        (by,) = [n for n in record if n.endswith(".logloss")] or ["logloss"]
        result = f"eval {by} {record[by]:.5f}"
        if record["auc"] is not None:
            result += f", AUC {record['auc']:.4f}"
    took = "done before" if known else f"{record['seconds']:.1f} s"
    return f"  {name:<27} {settings:<28} {result}  {took}"
