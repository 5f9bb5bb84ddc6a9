"""One training: the config's sections and Transform's output to a model."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft

from models import loop
from models.config import Features, ModelConfig, Negatives, TrainConfig
from models.errors import InputError
from models.inputs import batches
from models.layout import LABEL_COUNTS, Layout, layout
from models.registry import build_model
from optimizers.registry import build_optimizer

log = logging.getLogger("lionctr.train")


@dataclass(frozen=True)
class Files:
    """What Transform left: its graph, and examples (paths or globs)."""

    transform: tft.TFTransformOutput
    train: Sequence[str]
    eval: Sequence[str]


@dataclass(frozen=True)
class Fitted:
    """What came out of a training."""

    model: Any
    optimizer: Any
    result: loop.Result


class Job:
    """A training, ready to run.

    Args:
        custom: the config sections `features`, `model`, `optimizer`, `train`
            and `data.negatives` (as `negatives`), as mappings.
        files: what it trains on.

    Raises:
        InputError: there is nothing to learn from these rows.
    """

    def __init__(self, custom: Mapping[str, Any], files: Files) -> None:
        self.files = files
        self.features = Features.model_validate(custom["features"])
        self.negatives = Negatives.model_validate(custom["negatives"])
        self._model = ModelConfig.model_validate(custom["model"])
        self._optimizer = custom["optimizer"]
        self._train = TrainConfig.model_validate(custom["train"])
        self.shape: Layout = layout(
            self.features, lambda name: len(asset_lines(files.transform, name))
        )
        negatives, positives = map(
            int, asset_lines(files.transform, LABEL_COUNTS)
        )
        self.rows = negatives + positives
        if not positives or not negatives:
            raise InputError(
                f"All {self.rows:,} training rows have the label"
                f" {int(positives > 0)}: there is nothing to learn."
                " Check data.label"
            )
        self.base_rate = positives / (
            positives + self.negatives.weight * negatives
        )

    @property
    def steps(self) -> int:
        """Updates in all epochs."""
        per_epoch = math.ceil(self.rows / self._train.batch_size)
        return per_epoch * self._train.epochs

    def fit(self, log_dir: str | None = None) -> Fitted:
        """Builds the model and trains it.

        Args:
            log_dir: where TensorBoard's scalars go.
        """
        keras.utils.set_random_seed(self._train.seed)
        keras.config.set_dtype_policy(self._train.precision)
        model = build_model(self.shape, self._model, self.base_rate)
        optimizer = build_optimizer(self._optimizer, self.steps)
        log.info(
            "%s rows, %s parameters, %d steps",
            f"{self.rows:,}",
            f"{model.count_params():,}",
            self.steps,
        )
        result = loop.train(
            model,
            optimizer,
            batches(
                self.files.train,
                self.files.transform,
                self._train.batch_size,
                self._train.shuffle,
                self._train.seed,
            ),
            batches(
                self.files.eval, self.files.transform, self._train.batch_size
            ),
            self.rows,
            self._train,
            log_dir,
            self.negatives,
        )
        return Fitted(model, optimizer, result)


def asset_lines(transform: tft.TFTransformOutput, name: str) -> list[bytes]:
    """Lines of an asset of Transform's graph."""
    path = os.path.join(transform.transform_savedmodel_dir, "assets", name)
    with tf.io.gfile.GFile(path, "rb") as file:
        return [line for line in file.read().split(b"\n") if line]
