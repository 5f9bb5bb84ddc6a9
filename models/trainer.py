"""TFX Trainer's run_fn: transformed examples to an exported model."""

from __future__ import annotations

import gc
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

import optimizers
from models import valid_json
from models.checkpointing import saved_state, warm_start
from models.checkpointing.checkpoint import Checkpoints, DamagedError
from models.config.search_space import applied, decoded
from models.config.training import ExportConfig, TrainConfig
from models.errors import InputError
from models.export import Served, export, export_id
from models.layers.compact_table import Precision, compact
from models.preprocessing import analyzers, ledger_file
from models.training import loss_report
from models.training.advice import warnings
from models.training.distribution import LOST
from models.training.export_logits import Calibrated, calibrated, shallow
from models.training.run import Files, Fitted, TrainingRun
from serving.object_store import fetch, is_store, new_folder

TRAINING = "training.json"
log = logging.getLogger("lionctr.train")


def run_fn(fn_args: Any) -> None:
    """Trains as `fn_args.custom_config` says (see `TrainingRun`), exports.

    A Tuner's `fn_args.hyperparameters` replace settings. What happened goes
    to `training.json` in the model run's folder, beside the TensorBoard logs;
    the state of the training stays beside the model, for the next to begin
    with. Of several processes that train together, each calls this; one
    writes.
    """
    tuned = decoded((fn_args.hyperparameters or {}).get("values", {}))
    custom = applied(fn_args.custom_config, tuned)
    transform = tft.TFTransformOutput(fn_args.transform_output)
    base, cold = _base(fn_args)
    job = TrainingRun(
        custom,
        Files(transform, fn_args.train_files, fn_args.eval_files),
        base,
    )
    kept = custom.get("checkpoints")
    checkpoints = os.path.join(kept, job.key) if kept else None
    fitted = job.fit(
        os.path.join(fn_args.model_run_dir, "tensorboard"),
        checkpoints=checkpoints,
    )
    custom, team = job.custom, fitted.team
    if team.chief:
        described = _describe(job, fitted, custom) | {"tuned": tuned}
        begun = fitted.warm_start or cold
        described["warm_start"] = asdict(begun) if begun else None
        model = fitted.model
        saved_state.save(
            state_folder(fn_args.serving_model_dir),
            model,
            fitted.optimizer,
            job.meaning,
            _beside(fn_args.transform_output),
        )
        described["admission"] = ledger_file.tallies(fn_args.transform_output)
        del fitted
        gc.collect()  # the slots make room: a SavedModel copies tables
        precision = ExportConfig.model_validate(custom.get("export", {})).tables
        described["export"] = _compacted(job, model, precision)
        described["shallow"] = shift = None
        if job.shape.shallow:
            described["shallow"] = left_out = shallow(job, model)
            others = left_out.get("outputs", {}).values()
            shift = np.array([left_out["served_shift"], *others])
        calibration = Calibrated()
        if custom.get("calibrate"):
            calibration = calibrated(job, model, custom["calibrate"])
        described["calibration"] = calibration.report
        described["warnings"] += calibration.warnings
        loss = described["loss"]
        loss["calibrated_by"] = (
            custom["calibrate"]["method"]
            if any(calibration.functions)
            else None
        )
        described["warnings"] += loss_report.warnings(
            loss,
            TrainConfig.model_validate(custom["train"]),
            any(calibration.functions),
        )
        for line in described["warnings"]:
            log.warning("warning: %s", line, extra={"keep": True})
        export(
            Served(
                model,
                transform,
                job.features,
                job.negatives.shift,
                job.own_code,
                analyzers.kept(job.features, transform),
                calibration.functions,
                0.0 if shift is None else np.squeeze(shift),
                job.labels,
            ),
            fn_args.serving_model_dir,
            {
                "export_id": export_id(
                    model,
                    transform,
                    custom,
                    *([] if shift is None else [shift]),
                    *calibration.arrays(),
                ),
                "trained_on": {
                    name: custom.get(name)
                    for name in ("data_version", "code_version")
                },
                "optimizer": custom["optimizer"],
                "loss": loss,
                "calibration": calibration.report,
                "config": custom,
                "asked": fn_args.custom_config,  # before it was tuned
            },
        )
        path = os.path.join(fn_args.model_run_dir, TRAINING)
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(valid_json.dumps(described))
    # Others wait: if the chief dies here, all go on from the checkpoint.
    try:
        team.gather_from_processes(0)
    except LOST:
        if not team.chief:
            raise
        log.info("the other processes have left; the model is exported")
    if checkpoints and team.chief:
        Checkpoints(checkpoints).clear()


def state_folder(serving_model_dir: str) -> str:
    """Where the state of a training is left: beside the model."""
    above = serving_model_dir.rstrip("/").rpartition("/")[0]
    return os.path.join(above, saved_state.FOLDER)


def _beside(transform: str) -> dict[str, str]:
    """Folders of a transform that the next run needs: name -> folder."""
    ledgers = os.path.join(transform, ledger_file.FOLDER)
    if not tf.io.gfile.isdir(ledgers):
        return {}
    return {ledger_file.FOLDER: ledgers}


def _base(
    fn_args: Any,
) -> tuple[warm_start.Base | None, warm_start.Report | None]:
    """Weights to start from, or else a report of why there are none."""
    source = fn_args.custom_config["train"].get("warm_start")
    if source is None:
        return None, None
    with tf.io.gfile.GFile(
        os.path.join(fn_args.base_model, saved_state.BASE)
    ) as file:
        found = json.loads(file.read())
    folder, reason = found["state"], found["reason"]
    if folder is not None:
        try:
            if is_store(folder):
                uri, folder = folder, str(new_folder())
                fetch(uri, Path(folder))
            return warm_start.Base(folder), None
        except (DamagedError, OSError, tf.errors.OpError) as error:
            reason = f"the state of {found['model']} cannot be read: {error}"
    if source != "latest_blessed":
        raise InputError(f"train.warm_start: {reason}")
    if found["model"] is None:
        log.info("warm start: %s; training starts from new weights", reason)
    else:
        log.warning(
            "warm start: %s; training starts from new weights",
            reason,
            extra={"keep": True},
        )
    return None, warm_start.Report(reason=reason)


def _compacted(
    job: TrainingRun, model: Any, precision: Precision
) -> dict[str, Any]:
    """Keeps the tables in fewer bits; size and metrics before and after."""
    if precision == "float32":
        return {"tables": precision}
    before = job.scores(model)
    sizes = compact(model, precision)
    after = job.scores(model)
    report = {
        "tables": precision,
        "table_bytes": sizes,
        "eval": {"before": before.named(), "after": after.named()},
    }
    log.info(
        "tables in %s: %.2f MB instead of %.2f; eval logloss %.5f, was %.5f",
        precision,
        sizes["after"] / 1e6,
        sizes["before"] / 1e6,
        after.logloss,
        before.logloss,
        extra={"keep": True},
    )
    return report


def _describe(
    job: TrainingRun, fitted: Fitted, custom: dict[str, Any]
) -> dict[str, Any]:
    kernel, reason = optimizers.kernel_status()
    result = fitted.result
    course = result.course
    return {
        "steps": result.steps,
        "resumed_at_step": result.resumed_at,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "train_examples_per_second": round(result.examples_per_second, 1),
        "stopped_early": result.stopped_early,
        "eval_logloss": result.eval_logloss,
        "eval_auc": result.eval_auc,
        "eval_constant": course.constant,
        "best_step": course.best,
        "loss": loss_report.describe(
            fitted.loss,
            fitted.pairs,
            TrainConfig.model_validate(custom["train"]),
            custom.get("group"),
        ),
        "warnings": warnings(
            result.steps, course, result.stopped_early, fitted.loss.calibrated
        ),
        "train_logloss": result.train_logloss,
        "train_auc": result.train_auc,
        "optimizer": optimizers.used(custom["optimizer"]),
        "model": custom["model"],
        "train": custom["train"],
        "chosen": [asdict(choice) for choice in job.chosen],
        "lion_kernel": kernel,
        "lion_kernel_reason": reason,
        "slot_bytes": optimizers.slot_bytes(fitted.optimizer),
        "ids": sum(f.size for f in job.shape.ids + job.shape.shallow),
        "linear_start": fitted.linear_start and asdict(fitted.linear_start),
        "pretrained": [asdict(one) for one in fitted.pretrained],
    }
