"""TFX Trainer's run_fn: transformed examples to an exported model."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft

import optimizers
from models import loop
from models.config import Features, ModelConfig, Negatives, TrainConfig
from models.errors import InputError
from models.export import Served, export
from models.inputs import batches
from models.layout import LABEL_COUNTS, Layout, layout
from models.registry import build_model
from optimizers.registry import build_optimizer

log = logging.getLogger("lionctr.train")
TRAINING = "training.json"


def run_fn(fn_args: Any) -> None:
    """Trains as `fn_args.custom_config` says and exports the model.

    custom_config holds the config sections `features`, `model`, `optimizer`,
    `train` and `data.negatives` as mappings. What happened goes to
    `training.json` in the model run's folder, beside the TensorBoard logs.
    """
    custom = fn_args.custom_config
    features = Features.model_validate(custom["features"])
    config = TrainConfig.model_validate(custom["train"])
    sampling = Negatives.model_validate(custom["negatives"])
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    transform = tft.TFTransformOutput(fn_args.transform_output)
    shape = layout(features, lambda name: len(_asset(transform, name)))
    negatives, positives = map(int, _asset(transform, LABEL_COUNTS))
    rows = negatives + positives
    if not positives or not negatives:
        raise InputError(
            f"All {rows:,} training rows have the label"
            f" {int(positives > 0)}: there is nothing to learn."
            " Check data.label"
        )
    model = build_model(
        shape,
        ModelConfig.model_validate(custom["model"]),
        positives / (positives + sampling.weight * negatives),
    )
    total = math.ceil(rows / config.batch_size) * config.epochs
    optimizer = build_optimizer(custom["optimizer"], total)
    log.info(
        "%s rows, %s parameters, %d steps",
        f"{rows:,}",
        f"{model.count_params():,}",
        total,
    )
    result = loop.train(
        model,
        optimizer,
        batches(
            fn_args.train_files,
            transform,
            config.batch_size,
            config.shuffle,
            config.seed,
        ),
        batches(fn_args.eval_files, transform, config.batch_size),
        rows,
        config,
        os.path.join(fn_args.model_run_dir, "tensorboard"),
        sampling,
    )
    described = _describe(result, shape, optimizer, custom)
    export(
        Served(model, transform, features, sampling.shift),
        fn_args.serving_model_dir,
        {"export_id": _export_id(model), "config": custom},
    )
    path = os.path.join(fn_args.model_run_dir, TRAINING)
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(described, indent=1))


def _asset(transform: tft.TFTransformOutput, name: str) -> list[bytes]:
    """Lines of an asset of the transform."""
    path = os.path.join(transform.transform_savedmodel_dir, "assets", name)
    with tf.io.gfile.GFile(path, "rb") as file:
        return [line for line in file.read().split(b"\n") if line]


def _export_id(model: Any) -> str:
    """The same for equal weights: pushing a model twice is seen."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.path.encode())
        digest.update(memoryview(variable.numpy()).cast("B"))
    return digest.hexdigest()[:32]


def _describe(
    result: loop.Result, shape: Layout, optimizer: Any, custom: dict[str, Any]
) -> dict[str, Any]:
    kernel, reason = optimizers.kernel_status()
    return {
        "steps": result.steps,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "train_examples_per_second": round(result.examples_per_second, 1),
        "stopped_early": result.stopped_early,
        "eval_logloss": result.eval_logloss,
        "eval_auc": result.eval_auc,
        "optimizer": custom["optimizer"],
        "lion_kernel": kernel,
        "lion_kernel_reason": reason,
        "slot_bytes": optimizers.slot_bytes(optimizer),
        "ids": sum(f.size for f in shape.ids),
    }
