"""The training loop: what is done after which step."""

from __future__ import annotations

import logging
import math
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

import optimizers
from models.checkpointing.checkpoint import Checkpoints
from models.config.labels import Label
from models.config.training import Negatives, TrainConfig
from models.input_pipeline.dataset import Batches
from models.input_pipeline.epoch_iterator import EpochIterator
from models.losses.registry import Loss, build_loss
from models.training.advice import Course
from models.training.averages import Averages
from models.training.callbacks import callback_list, release
from models.training.distribution import Team, use_jit
from models.training.divergence import advice, diverged, not_finite
from models.training.early_stopping import EarlyStopper, deciding
from models.training.evaluation import Evaluation, Scores
from models.training.progress import Progress
from models.training.signals import caught_signals, leave
from models.training.train_state import TrainState, resume
from models.training.train_step import Stretch, TrainStep
from models.variables import named_variables

log = logging.getLogger("lionctr.train")
_STRETCH_SECONDS = 0.5  # of compiled steps, between looks at the clock
_FIT_ROWS = 20_000  # of the training's own, that the model is measured on
_ALL = Negatives()


@dataclass(frozen=True)
class Result:
    """Result of a training loop.

    train_logloss, train_auc: of rows of the training, after it; a negative
        counts for those that were left out.
    """

    steps: int
    examples: int
    seconds: float
    stopped_early: bool
    eval_logloss: float
    eval_auc: float
    resumed_at: int = 0
    course: Course = field(default_factory=Course)
    train_logloss: float = math.nan
    train_auc: float = math.nan

    @property
    def examples_per_second(self) -> float:
        """Training rows a second, evaluations not counted."""
        return self.examples / self.seconds if self.seconds else 0.0


def train(
    model: Any,
    optimizer: Any,
    train_data: Any,
    eval_data: Any,
    rows: int,
    config: TrainConfig,
    log_dir: str | None = None,
    negatives: Negatives = _ALL,
    callbacks: Sequence[Any] = (),
    checkpoints: str | None = None,
    team: Team | None = None,
    mean_weight: float = 1.0,
    loss: Loss | None = None,
    labels: Sequence[Label] = (),
) -> Result:
    """Trains `model` in place for `config.epochs` passes over the data.

    With `checkpoints` it goes on where an earlier call stopped, and ends with
    the same weights, bit for bit, as if it had not (on CPUs, with as many
    threads).

    Args:
        model: of Keras 3 or 2; maps inputs to logits [N].
        optimizer: of the same Keras.
        train_data: `input_pipeline.dataset.Batches`, or a dataset of
            (inputs, label) that gives the same pass each time.
        eval_data: `Batches`, or a dataset of (inputs, label); one pass.
        rows: how many one pass of `train_data` gives; `Batches` know it.
        config: the config section.
        log_dir: where TensorBoard scalars go.
        negatives: which of them `train_data` holds; `eval_data` has all.
        callbacks: Keras's; a batch is one stretch of compiled steps to them.
        checkpoints: folder of this very training's checkpoints.
        team: of the strategy in whose scope the model and the optimizer
            were made; None: of the one in scope.
        mean_weight: of the training rows, where `train_data` has weights.
        loss: of the rows; None: that of `config`.
        labels: of the model, where there are several.

    Raises:
        FloatingPointError: the loss or a weight is no longer a number.
        OSError: a checkpoint cannot be written.
    """
    team = team or Team(tf.distribute.get_strategy())
    with team.strategy.scope():
        optimizer.build(model.trainable_variables)
    with tempfile.TemporaryDirectory() as scratch:
        training = _Training(
            model,
            optimizer,
            EpochIterator(train_data, rows, config, team.strategy),
            eval_data,
            config,
            negatives,
            Checkpoints(checkpoints) if checkpoints else None,
            f"{checkpoints or scratch}/best",
            team,
            mean_weight,
            loss or build_loss(config.loss),
            labels,
        )
        result = training.run(log_dir, callbacks)
    release(model)
    return result


class _Training:
    """One training, from its checkpoint or from the start to its end."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        epochs: EpochIterator,
        eval_data: Any,
        config: TrainConfig,
        negatives: Negatives,
        checkpoints: Checkpoints | None,
        best: str,
        team: Team,
        mean_weight: float,
        loss: Loss,
        labels: Sequence[Label],
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._epochs = epochs
        # Batches would be traced anew at each evaluation.
        whole = isinstance(eval_data, Batches)
        self._eval_data = eval_data.epoch() if whole else eval_data
        self._total = epochs.steps * config.epochs
        self._eval_every = config.eval_steps or epochs.steps
        self._config = config
        self._checkpoints = checkpoints
        self._team = team
        self._left_out = 1 / negatives.keep
        self._averages = Averages(model, optimizer, team.strategy)
        self._evaluation = Evaluation(model, negatives.shift, labels)
        self._stopping = EarlyStopper(
            model,
            config.early_stopping,
            deciding(config.early_stopping, loss),
            Checkpoints(best, keep=1),
            # Without checkpoints its folder is each process's own.
            self._team.chief or checkpoints is None,
        )
        self._steps = TrainStep(
            model,
            optimizer,
            use_jit(config.jit, team.strategy),
            negatives.weight,
            team.strategy,
            mean_weight,
            loss,
        )
        self._state = TrainState()
        self._newest, self._loss = Scores(), math.nan
        self._loss_name = loss.name

    def run(self, log_dir: str | None, callbacks: Sequence[Any]) -> Result:
        """To the end, or to a signal."""
        if self._checkpoints is not None:
            named = named_variables(self._model, self._optimizer)
            self._state = resume(self._checkpoints, named, self._team)
        state = self._state
        first, best_evaluation = state.step, state.best_evaluation
        if not first:
            self._averages.begin()
        self._stopping.best_evaluation = best_evaluation
        self._progress = Progress(
            self._total, log_dir if self._team.chief else None
        )
        self._callbacks = callback_list(
            callbacks,
            self._model,
            self._optimizer,
            self._config.epochs,
            self._total,
        )
        with self._progress.writing(), caught_signals() as caught:
            self._callbacks.on_train_begin()
            if self._config.linear_start and not state.step:
                self._evaluate()  # the start may stay the best
            while state.step < self._total and not self._stopped():
                if not self._epoch(caught):
                    break
            self._callbacks.on_train_end()
        self._averages.put()
        self._stopping.end()
        if wrong := not_finite(self._model):
            raise diverged(
                f"by step {state.step}",
                f"{wrong} holds values that are not finite",
                self._checkpoints,
            )
        fit = self._evaluation.scores(
            self._epochs.sample(_FIT_ROWS), self._left_out
        )
        return Result(
            state.step,
            state.examples,
            state.seconds,
            self._stopped(),
            best_evaluation.logloss,
            best_evaluation.auc,
            first,
            state.course,
            fit.logloss,
            fit.auc,
        )

    def _epoch(self, caught: list[int]) -> bool:
        """The rest of a pass; whether there was anything in it."""
        state = self._state
        epoch = state.step // self._epochs.steps
        iterator = self._epochs.at(state.step)
        end = (epoch + 1) * self._epochs.steps
        count, empty = 1, True
        self._callbacks.on_epoch_begin(epoch)
        while state.step < end and not self._stopped():
            limit = min(end, self._next_stop()) - state.step
            began = time.perf_counter()
            stretch = self._run(iterator, min(count, limit))
            seconds = time.perf_counter() - began
            if not stretch.steps:
                break
            empty = False
            self._after(stretch, seconds)
            # Short at first, so that a slow start shows signs of life.
            if self._look_around(seconds, caught) < _STRETCH_SECONDS:
                count *= 2
        self._callbacks.on_epoch_end(epoch, self._logs())
        return not empty

    def _logs(self) -> dict[str, float]:
        """An epoch's, for callbacks: what there is of `callbacks.LOGS`."""
        logs = {"loss": self._loss}
        if not math.isnan(self._newest.logloss):
            logloss, auc = self._newest[:2]
            logs |= {"logloss": logloss, "auc": auc, "val_loss": logloss}
            logs |= {"val_logloss": logloss, "val_auc": auc}
        return logs

    def _look_around(self, seconds: float, caught: list[int]) -> float:
        """The chief's seconds; leaves if a process was told to."""
        number = caught[0] if caught else 0
        clocks, numbers = self._team.gather_from_processes(seconds, number).T
        if numbers.any():
            self._leave(int(numbers.max()))
        return float(clocks[0])

    def _next_stop(self) -> int:
        """The next step before which something else is to be done."""
        step = self._state.step
        return min(
            step - step % every + every
            for every in (
                self._eval_every,
                self._config.checkpoint_steps,
                self._config.observe_steps,
            )
        )

    def _run(self, iterator: Any, count: int) -> Stretch:
        step = self._state.step
        if step and count > 1 and step % self._config.observe_steps == 0:
            stretch, scalars = self._steps.observe(iterator)
            named = {f"train/{name}": x for name, x in scalars.items()}
            self._progress.scalars(step, named)
            return stretch
        self._callbacks.on_train_batch_begin(step)
        return self._steps.run(iterator, count)

    def _after(self, stretch: Stretch, seconds: float) -> None:
        state = self._state
        if stretch.diverged:
            where = stretch.diverged
            if where != "the loss":
                where = f"the gradient of {where}"
            raise diverged(
                f"at step {state.step + stretch.steps}",
                f"{where} is not finite",
                self._checkpoints,
                advice(state.step + stretch.steps, self._loss_name),
            )
        self._loss = stretch.loss
        state.step += stretch.steps
        state.examples += stretch.rows
        state.seconds += seconds
        self._progress.stretch(
            state.step,
            stretch.rows,
            seconds,
            stretch.loss,
            optimizers.learning_rates(self._optimizer),
        )
        self._callbacks.on_train_batch_end(
            state.step - 1, {"loss": stretch.loss}
        )
        if state.step % self._eval_every == 0 or state.step == self._total:
            self._evaluate()
        if state.step % self._config.checkpoint_steps == 0:
            self._save()

    def _evaluate(self) -> None:
        step = self._state.step
        self._callbacks.on_test_begin()
        with self._averages.in_model():
            scores = Scores(
                # The chief's: another processor may differ in the last bit.
                *self._team.gather_from_processes(
                    *self._evaluation.scores(self._eval_data)
                )[0]
            )
            self._stopping.judge(step, scores)
        self._newest = scores
        constant = self._evaluation.constant
        self._state.course.add(step, scores.logloss, constant)
        self._callbacks.on_test_end(scores.named())
        self._progress.scalars(
            step, {f"eval/{k}": v for k, v in scores.named().items()}
        )
        log.info("step %d: eval %s", step, scores.line)

    def _stopped(self) -> bool:
        wanted = bool(getattr(self._model, "stop_training", False))
        stop = self._state.best_evaluation.stop
        return stop or bool(self._team.gather_from_processes(wanted).any())

    def _save(self) -> None:
        if self._checkpoints is None or not self._team.chief:
            return
        try:
            self._checkpoints.save(
                self._state.step,
                named_variables(self._model, self._optimizer),
                self._state.flat(),
            )
        except FloatingPointError as error:
            when = f"by step {self._state.step}"
            raise diverged(when, str(error), self._checkpoints) from None

    def _leave(self, number: int) -> None:
        """On a signal: what was learned is kept, the process ends."""
        self._save()
        self._team.gather_from_processes(0)  # none leaves before it is saved
        if self._checkpoints is not None:
            log.info(
                "stopped by %s at step %d; the next run goes on from there",
                signal.Signals(number).name,
                self._state.step,
            )
        leave(number)
