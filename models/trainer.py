"""TFX Trainer's run_fn: transformed examples to an exported model."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

import optimizers
from models.checkpoint import Checkpoints, rows_of
from models.export import Served, export
from models.job import Files, Fitted, Job
from models.space import applied, decoded
from optimizers.groups import variable_path

TRAINING = "training.json"


def run_fn(fn_args: Any) -> None:
    """Trains as `fn_args.custom_config` says (see `Job`), exports the model.

    A Tuner's `fn_args.hyperparameters` replace settings. What happened goes
    to `training.json` in the model run's folder, beside the TensorBoard logs.
    Of several processes that train together, each calls this; one writes.
    """
    tuned = decoded((fn_args.hyperparameters or {}).get("values", {}))
    custom = applied(fn_args.custom_config, tuned)
    transform = tft.TFTransformOutput(fn_args.transform_output)
    job = Job(custom, Files(transform, fn_args.train_files, fn_args.eval_files))
    kept = custom.get("checkpoints")
    checkpoints = os.path.join(kept, job.key) if kept else None
    fitted = job.fit(
        os.path.join(fn_args.model_run_dir, "tensorboard"),
        checkpoints=checkpoints,
    )
    if fitted.team.chief:
        described = _describe(job, fitted, custom) | {"tuned": tuned}
        export(
            Served(fitted.model, transform, job.features, job.negatives.shift),
            fn_args.serving_model_dir,
            {"export_id": _export_id(fitted.model), "config": custom},
        )
        path = os.path.join(fn_args.model_run_dir, TRAINING)
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(json.dumps(described, indent=1))
    # Others wait: if the chief dies here, all go on from the checkpoint.
    fitted.team.gather(0)
    if checkpoints and fitted.team.chief:
        Checkpoints(checkpoints).clear()


def _export_id(model: Any) -> str:
    """The same for equal weights: pushing a model twice is seen."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable_path(variable).encode())
        for values in rows_of(variable):
            flat = np.ascontiguousarray(values).reshape(-1)
            digest.update(flat.view(np.uint8).data)
    return digest.hexdigest()[:32]


def _describe(
    job: Job, fitted: Fitted, custom: dict[str, Any]
) -> dict[str, Any]:
    kernel, reason = optimizers.kernel_status()
    result = fitted.result
    return {
        "steps": result.steps,
        "resumed_at_step": result.resumed_at,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "train_examples_per_second": round(result.examples_per_second, 1),
        "stopped_early": result.stopped_early,
        "eval_logloss": result.eval_logloss,
        "eval_auc": result.eval_auc,
        "optimizer": custom["optimizer"],
        "lion_kernel": kernel,
        "lion_kernel_reason": reason,
        "slot_bytes": optimizers.slot_bytes(fitted.optimizer),
        "ids": sum(f.size for f in job.shape.ids),
    }
