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
from models.config.labels import further_columns, outputs
from models.input_pipeline.dataset import Batches
from models.training.evaluation import Evaluation
from models.training.label_losses import judged
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


def named(name: str, output: str | None) -> str:
    """Name of an objective in records: `auc`, `cvr.auc`."""
    return name if output is None else f"{output}.{name}"


def objective(
    name: str, output: str | None, job: TrainingRun, fitted: Fitted
) -> dict[str, float]:
    """The value of an objective on the eval split, as a part of the record.

    Args:
        name: see `models.config.metric_registry.OBJECTIVES`.
        output: of several labels, the one that is judged, on the rows where
            its label counts; None: what every record has.
        job: the training.
        fitted: what came out of it.

    Raises:
        InputError: it is a metric of the user's own that cannot be used.
        FloatingPointError: the value is not finite.
    """
    if output is None and name in IN_EVERY_RECORD:
        return {}
    labels, probabilities, weights = _eval_rows(output, job, fitted)
    if metric_registry.OBJECTIVES.is_own(name):
        metric = metric_registry.own(name, metric_registry.OBJECTIVES)
        each = np.ones_like(labels) if weights is None else weights
        terms = each @ metric.terms(labels, probabilities)
        value = float(metric.value(np.concatenate([[each.sum()], terms])))
    else:
        value = of_rows(name, labels, probabilities, weights)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the eval {named(name, output)} is not finite"
        )
    return {named(name, output): value}


def _eval_rows(
    output: str | None, job: TrainingRun, fitted: Fitted
) -> tuple[Any, Any, Any]:
    """Labels, probabilities and weights (or None) of the rows that count."""
    held_out = Batches(
        job.files.eval,
        job.files.transform,
        job.custom["train"]["batch_size"],
        labels=further_columns(job.labels),
    )
    evaluation = Evaluation(fitted.model, job.negatives.shift, job.labels)
    labels, logits, weights, _ = evaluation.predict_weighted(held_out)
    if not job.labels:
        return labels, sigmoid(logits), weights
    (one,) = (o for o in outputs(job.labels) if o.name == output)
    rows, labels, probabilities = judged(one, labels, logits)
    return labels, probabilities, None if weights is None else weights[rows]
