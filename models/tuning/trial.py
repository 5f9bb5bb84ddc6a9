"""One training of a search or a comparison, as a record."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models.checkpointing.checkpoint import Checkpoints
from models.config import metric_registry
from models.input_pipeline.dataset import Batches
from models.training.evaluation import Evaluation
from models.training.metrics import of_rows, sigmoid
from models.training.run import Files, Fitted, TrainingRun

IN_EVERY_RECORD = ("logloss", "auc")


def attempt(
    sections: Mapping[str, Any],
    files: Files,
    log_dir: str | None = None,
    describe: Callable[[TrainingRun, Fitted], dict[str, Any]] | None = None,
    checkpoints: str | None = None,
) -> dict[str, Any]:
    """Trains once; a record of JSON types.

    A training that diverges, or that this combination of settings does not
    allow, is a record too, with what was `failed`.

    Args:
        sections: see `TrainingRun`.
        files: see `TrainingRun`.
        log_dir: where TensorBoard's scalars go.
        describe: what else to note of a training that ended well.
        checkpoints: folder in which a training that was stopped finds where
            it was.
    """
    began = time.monotonic()
    kept = None
    try:
        job = TrainingRun(sections, files)
        kept = os.path.join(checkpoints, job.key) if checkpoints else None
        fitted = job.fit(log_dir, checkpoints=kept)
        result = fitted.result
        if not math.isfinite(result.eval_logloss):
            raise FloatingPointError("the eval logloss is not finite")
        record: dict[str, Any] = {
            "logloss": result.eval_logloss,
            "auc": result.eval_auc,
            "steps": result.steps,
            "examples": result.examples,
            "train_seconds": round(result.seconds, 3),
        }
        if describe is not None:
            record |= describe(job, fitted)
    except (FloatingPointError, ValueError) as error:
        record = {"failed": str(error)}
    if kept:
        Checkpoints(kept).clear()
    return record | {"seconds": round(time.monotonic() - began, 3)}


def objective(name: str, job: TrainingRun, fitted: Fitted) -> dict[str, float]:
    """The value of an objective on the eval split, as a part of the record.

    Args:
        name: see `models.config.metric_registry.OBJECTIVES`.
        job: the training.
        fitted: what came out of it.

    Raises:
        InputError: it is a metric of the user's own that cannot be used.
        FloatingPointError: the value is not finite.
    """
    if name in IN_EVERY_RECORD:
        return {}
    held_out = Batches(
        job.files.eval,
        job.files.transform,
        job.custom["train"]["batch_size"],
    )
    evaluation = Evaluation(fitted.model, job.negatives.shift)
    labels, logits, weights, _ = evaluation.predict_weighted(held_out)
    probabilities = sigmoid(logits)
    if metric_registry.OBJECTIVES.is_own(name):
        metric = metric_registry.own(name, metric_registry.OBJECTIVES)
        each = np.ones_like(labels) if weights is None else weights
        terms = each @ metric.terms(labels, probabilities)
        value = float(metric.value(np.concatenate([[each.sum()], terms])))
    else:
        value = of_rows(name, labels, probabilities, weights)
    if not math.isfinite(value):
        raise FloatingPointError(f"the eval {name} is not finite")
    return {name: value}
