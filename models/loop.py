"""The training loop: compiled steps, progress, evaluation, early stopping."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import optimizers
from models.config import Negatives, TrainConfig
from models.metrics import auc, logloss_of_logits

log = logging.getLogger("lionctr.train")
_REPORT_SECONDS = 2.0
_STEPS_PER_CALL = 20
_ALL = Negatives()


@dataclass(frozen=True)
class Result:
    """What came out of a training."""

    steps: int
    examples: int
    seconds: float
    stopped_early: bool
    eval_logloss: float
    eval_auc: float

    @property
    def examples_per_second(self) -> float:
        """Training rows a second, evaluations not counted."""
        return self.examples / self.seconds if self.seconds else 0.0


def predict(model: Any, data: Any) -> tuple[npt.NDArray[np.float64], ...]:
    """Labels and logits of all rows of `data`, in order."""
    labels, logits = [], []
    forward = tf.function(
        lambda inputs: model(inputs, training=False), reduce_retracing=True
    )
    for inputs, label in data:
        labels.append(label.numpy())
        logits.append(forward(inputs).numpy())
    if not labels:
        return np.zeros(0), np.zeros(0)
    return (
        np.concatenate(labels).astype(np.float64),
        np.concatenate(logits).astype(np.float64),
    )


def train(
    model: Any,
    optimizer: Any,
    train_data: Any,
    eval_data: Any,
    rows: int,
    config: TrainConfig,
    log_dir: str | None = None,
    negatives: Negatives = _ALL,
) -> Result:
    """Trains `model` in place for `config.epochs` passes over the data.

    Args:
        model: maps inputs to logits [N].
        optimizer: a keras.optimizers.Optimizer.
        train_data, eval_data: datasets of (inputs, label), one pass each.
        rows: how many rows one pass of `train_data` gives.
        config: the config section.
        log_dir: where TensorBoard scalars go.
        negatives: which of them `train_data` holds; `eval_data` has all.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    steps_per_epoch = max(1, math.ceil(rows / config.batch_size))
    total = steps_per_epoch * config.epochs
    optimizer.build(model.trainable_variables)
    run = _compiled(model, optimizer, use_jit(config.jit), negatives.weight)
    writer = (
        tf.summary.create_file_writer(log_dir)
        if log_dir
        else tf.summary.create_noop_writer()
    )
    watch = _Watch(model, config, negatives.shift)
    progress = _Progress(total)
    iterator = iter(train_data.repeat(config.epochs))
    # Short stretches at first, so that a slow start shows signs of life.
    step, examples, seconds, stretch = 0, 0, 0.0, 1
    eval_every = config.eval_steps or steps_per_epoch
    with writer.as_default():
        while step < total and not watch.stop:
            until_eval = eval_every - step % eval_every
            count = min(stretch, total - step, until_eval)
            began = time.perf_counter()
            loss, seen, done = (x.numpy() for x in run(iterator, count))
            seconds += time.perf_counter() - began
            if not done:
                break
            step, examples = step + int(done), examples + int(seen)
            stretch = _STEPS_PER_CALL
            if not math.isfinite(loss):
                raise FloatingPointError(_not_finite(model, step))
            rates = optimizers.learning_rates(optimizer)
            _scalars(step, rates, loss / seen, examples / seconds)
            progress.show(step, examples / seconds, loss / seen, rates)
            if step % eval_every == 0 or step == total:
                watch.look(eval_data, step)
    watch.restore()
    return Result(step, examples, seconds, watch.stop, watch.logloss, watch.auc)


def use_jit(setting: str | bool) -> bool:
    """Whether to compile steps with XLA: on accelerators only, by itself."""
    if isinstance(setting, bool):
        return setting
    return bool(tf.config.list_logical_devices("GPU")) or bool(
        tf.config.list_logical_devices("TPU")
    )


def _compiled(
    model: Any, optimizer: Any, jit: bool, negative_weight: float
) -> Callable[[Any, int], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """A function of (iterator, steps) -> (sum of losses, rows, steps done)."""

    @tf.function(jit_compile=jit or None, reduce_retracing=True)
    def one(inputs: Mapping[str, Any], label: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
            weights = tf.where(label > 0, 1.0, negative_weight)
            loss = tf.reduce_sum(weights * losses) / tf.reduce_sum(weights)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss * tf.cast(tf.size(label), loss.dtype)

    @tf.function(reduce_retracing=True)
    def many(
        iterator: Any, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        loss = tf.zeros([])
        seen = tf.zeros([], tf.int64)
        done = tf.zeros([], tf.int64)
        for _ in tf.range(steps):
            batch = iterator.get_next_as_optional()
            if batch.has_value():
                inputs, label = batch.get_value()
                loss += one(inputs, label)
                seen += tf.size(label, tf.int64)
                done += 1
        return loss, seen, done

    def run(
        iterator: Any, steps: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor] = many(
            iterator, tf.constant(steps)
        )
        return outputs

    return run


class _Watch:
    """Evaluates, remembers the best weights, says when to stop."""

    def __init__(self, model: Any, config: TrainConfig, shift: float) -> None:
        self._model = model
        self._shift = shift
        self._rule = config.early_stopping
        self._best = math.inf
        self._waited = 0
        self._folder = (
            tempfile.TemporaryDirectory() if self._rule is not None else None
        )
        self.stop = False
        self.logloss = math.nan
        self.auc = math.nan

    def look(self, data: Any, step: int) -> None:
        """Evaluates now."""
        labels, logits = predict(self._model, data)
        logits += self._shift
        logloss, area = logloss_of_logits(labels, logits), auc(labels, logits)
        tf.summary.scalar("eval/logloss", logloss, step)
        tf.summary.scalar("eval/auc", area, step)
        log.info("step %d: eval logloss %.5f, AUC %.4f", step, logloss, area)
        if self._rule is None or logloss < self._best - self._rule.min_delta:
            self._best, self._waited = logloss, 0
            self.logloss, self.auc = logloss, area
            if self._folder is not None:
                self._model.save_weights(self._path())
            return
        self._waited += 1
        self.stop = self._waited >= self._rule.patience

    def restore(self) -> None:
        """Goes back to the best weights seen."""
        if self._folder is not None:
            if math.isfinite(self._best):
                self._model.load_weights(self._path())
            self._folder.cleanup()

    def _path(self) -> str:
        assert self._folder is not None
        return f"{self._folder.name}/best.weights.h5"


class _Progress:
    """A line now and then: step, rate, loss, learning rate, time left."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = self._shown = time.perf_counter()

    def show(
        self,
        step: int,
        rate: float,
        loss: float,
        rates: Mapping[str, float],
    ) -> None:
        """Logs if the last line is old enough."""
        now = time.perf_counter()
        if now - self._shown < _REPORT_SECONDS and step < self._total:
            return
        self._shown = now
        left = (now - self._began) / step * (self._total - step)
        log.info(
            "step %d/%d  %s examples/s  loss %.4f  rate %s  %s left",
            step,
            self._total,
            f"{rate:,.0f}",
            loss,
            " ".join(f"{value:.2g}" for value in rates.values()),
            f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min",
        )


def _scalars(
    step: int, rates: Mapping[str, float], loss: float, rate: float
) -> None:
    tf.summary.scalar("train/loss", loss, step)
    tf.summary.scalar("train/examples_per_second", rate, step)
    for group, value in rates.items():
        tf.summary.scalar(f"learning_rate/{group}", value, step)


def _not_finite(model: Any, step: int) -> str:
    for variable in model.trainable_variables:
        if not bool(tf.reduce_all(tf.math.is_finite(variable.value))):
            return (
                f"Training diverged by step {step}: {variable.path} holds"
                " values that are not finite. Lower optimizer.learning_rate"
            )
    return (
        f"Training diverged by step {step}: the loss is not finite."
        " Lower optimizer.learning_rate"
    )
