"""The trainings of a comparison: each is done once, whatever happens."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

import optimizers
from models.input_pipeline.dataset import Batches
from models.training import loop
from models.training.evaluation import Evaluation
from models.training.run import Files, Fitted, TrainingRun
from models.tuning.trial import attempt
from models.tuning.trial_store import FinishedTrainings, fingerprint
from pipeline.console import Console

_POINTS = 20  # of a curve


class Trainings:
    """Trains with one optimizer or another; all else stays the same.

    Args:
        sections: see `TrainingRun`; `optimizer` is replaced.
        graph, examples: URIs of what Transform left.
        folder: where finished trainings and TensorBoard's logs are kept.
        code_version: of this project and of the user's own code; another one
            trains again.
        console: gets a line for each training.
    """

    def __init__(
        self,
        sections: Mapping[str, Any],
        graph: str,
        examples: str,
        folder: Path,
        code_version: str,
        console: Console,
    ) -> None:
        self._files = Files(
            tft.TFTransformOutput(graph),
            [f"{examples}/Split-train/*"],
            [f"{examples}/Split-eval/*"],
        )
        self._test = [f"{examples}/Split-test/*"]
        self._folder = folder
        self._finished = FinishedTrainings(str(folder / "trainings"))
        test = Files(self._files.transform, self._test, [])
        self._made_from = {
            "data": fingerprint(self._files),
            "test": fingerprint(test),
            "code_version": code_version,
        }
        self._console = console
        job = TrainingRun(sections, self._files)
        # Settings chosen from the log are the same for all.
        self._sections = job.custom
        self.optimizer: dict[str, Any] = job.custom["optimizer"]
        self.train: dict[str, Any] = job.custom["train"]
        self.steps, self.rows = job.steps, job.rows

    def eval_loss(self, optimizer: Mapping[str, Any]) -> float:
        """The eval logloss after training with the config's own seed."""
        train = dict(self._sections["train"])
        if train["early_stopping"] is None:
            train["eval_steps"] = None
        record = self._train(optimizer, train, "search")
        return float(record.get("logloss", math.inf))

    def test(self, optimizer: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The record of a training with a seed that nothing was chosen by."""
        train = dict(self._sections["train"])
        train["seed"] += number
        if train["early_stopping"] is None:
            train["eval_steps"] = max(1, self.steps // _POINTS)
        return self._train(optimizer, train, f"seed {train['seed']}")

    def _train(
        self, optimizer: Mapping[str, Any], train: dict[str, Any], what: str
    ) -> dict[str, Any]:
        sections = {
            **self._sections,
            "optimizer": dict(optimizer),
            "train": train,
        }
        tested = what != "search"
        made_from = {**sections, **self._made_from, "tested": tested}
        record = self._finished.get(made_from)
        known = record is not None
        name = f"{optimizer['name']}, {what}"
        if record is None:
            with self._console.running(name):
                record = (
                    self._tested(sections, name)
                    if tested
                    else attempt(sections, self._files)
                )
            self._finished.put(made_from, record)
        self._console.line(_line(name, optimizer, record, known))
        return record

    def _tested(self, sections: dict[str, Any], name: str) -> dict[str, Any]:
        log_dir = self._folder / "tensorboard" / name.replace(", ", "-")
        # A leftover of a training that was killed.
        shutil.rmtree(log_dir, ignore_errors=True)

        def describe(job: TrainingRun, fitted: Fitted) -> dict[str, Any]:
            scores = Evaluation(fitted.model, job.negatives.shift).scores(
                Batches(
                    self._test,
                    self._files.transform,
                    sections["train"]["batch_size"],
                )
            )
            return {
                "test": scores._asdict(),
                "slot_bytes": optimizers.slot_bytes(fitted.optimizer),
                "curve": curve(log_dir, fitted.result),
            }

        return attempt(sections, self._files, str(log_dir), describe)


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
    settings = f"rate {optimizer['learning_rate']:g}"
    if optimizer.get("weight_decay"):
        settings += f", decay {optimizer['weight_decay']:g}"
    result = (
        f"failed: {record['failed']}"
        if "failed" in record
        else f"eval logloss {record['logloss']:.5f}"
    )
    took = "done before" if known else f"{record['seconds']:.1f} s"
    return f"  {name:<17} {settings:<28} {result}  {took}"
