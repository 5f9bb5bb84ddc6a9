"""The training loop: steps, evaluations, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import keras
import tensorflow as tf

import optimizers
from models.checkpoint import Checkpoints, local_replica, named_variables
from models.config import Negatives, TrainConfig
from models.evaluation import Evaluation, Scores
from models.progress import Progress
from models.registry import keras_version
from models.steps import Steps, Stretch
from models.strategy import Team
from optimizers.groups import variable_path

log = logging.getLogger("lionctr.train")
_STRETCH_SECONDS = 0.5  # of compiled steps, between looks at the clock
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
    resumed_at: int = 0

    @property
    def examples_per_second(self) -> float:
        """Training rows a second, evaluations not counted."""
        return self.examples / self.seconds if self.seconds else 0.0


@dataclass
class _State:
    """Where a training is; goes into its checkpoints."""

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    best: float = math.inf
    waited: int = 0
    stop: bool = False
    logloss: float = math.nan
    auc: float = math.nan


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
    strategy: Any = None,
) -> Result:
    """Trains `model` in place for `config.epochs` passes over the data.

    With `checkpoints` it goes on where an earlier call stopped, and ends with
    the same weights, bit for bit, as if it had not (on CPUs, with as many
    threads).

    Args:
        model: of Keras 3 or 2; maps inputs to logits [N].
        optimizer: of the same Keras.
        train_data: `models.inputs.Batches`, or a dataset of (inputs, label)
            that gives the same pass each time.
        eval_data: a dataset of (inputs, label), one pass.
        rows: how many rows one pass of `train_data` gives.
        config: the config section.
        log_dir: where TensorBoard scalars go.
        negatives: which of them `train_data` holds; `eval_data` has all.
        callbacks: Keras's; a batch is one stretch of compiled steps to them.
        checkpoints: folder of this very training's checkpoints.
        strategy: a tf.distribute.Strategy, in whose scope the model and the
            optimizer were made.

    Raises:
        FloatingPointError: the loss or a weight is no longer a number.
        OSError: a checkpoint cannot be written.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        optimizer.build(model.trainable_variables)
    with tempfile.TemporaryDirectory() as scratch:
        training = _Training(
            model,
            optimizer,
            _source(train_data, strategy),
            eval_data,
            max(1, math.ceil(rows / config.batch_size)),
            config,
            negatives,
            Checkpoints(checkpoints) if checkpoints else None,
            f"{checkpoints or scratch}/best",
            strategy,
        )
        result = training.run(log_dir, callbacks)
    object.__setattr__(model, "optimizer", None)  # see _callback_list
    return result


def use_jit(setting: str | bool) -> bool:
    """Whether XLA compiles steps: on accelerators only, by itself."""
    if isinstance(setting, bool):
        return setting
    chosen = bool(tf.config.list_logical_devices("GPU")) or bool(
        tf.config.list_logical_devices("TPU")
    )
    log.info(
        "jit: auto: steps are %s (XLA pays on GPU and TPU)",
        "compiled by XLA" if chosen else "TensorFlow graphs",
    )
    return chosen


class _Training:
    """One training, from its checkpoint or from the start to its end."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        batches: Callable[[int, int], Any],
        eval_data: Any,
        steps_per_epoch: int,
        config: TrainConfig,
        negatives: Negatives,
        checkpoints: Checkpoints | None,
        best: str,
        strategy: Any,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._batches = batches
        self._eval_data = eval_data
        self._per_epoch = steps_per_epoch
        self._total = steps_per_epoch * config.epochs
        self._eval_every = config.eval_steps or steps_per_epoch
        self._config = config
        self._checkpoints = checkpoints
        self._team = Team(strategy)
        # Without checkpoints its folder is each process's own.
        self._keeps_best = self._team.chief or checkpoints is None
        self._best = Checkpoints(best, keep=1)
        self._evaluation = Evaluation(model, negatives.shift)
        self._steps = Steps(
            model, optimizer, use_jit(config.jit), negatives.weight, strategy
        )
        self._state = _State()

    def run(self, log_dir: str | None, callbacks: Sequence[Any]) -> Result:
        """To the end, or to a signal."""
        first = self._resume()
        state = self._state
        self._progress = Progress(
            self._total, first, log_dir if self._team.chief else None
        )
        self._callbacks = _callback_list(
            callbacks, self._model, self._optimizer, self._config, self._total
        )
        with self._progress.writing(), _signals() as caught:
            self._callbacks.on_train_begin()
            while state.step < self._total and not self._stopped():
                if not self._epoch(caught):
                    break
            self._callbacks.on_train_end()
        if self._config.early_stopping and math.isfinite(state.best):
            self._best.restore(named_variables(self._model))
        self._must_be_finite()
        return Result(
            state.step,
            state.examples,
            state.seconds,
            self._stopped(),
            state.logloss,
            state.auc,
            first,
        )

    def _epoch(self, caught: list[int]) -> bool:
        """The rest of a pass; whether there was anything in it."""
        state = self._state
        epoch, done = divmod(state.step, self._per_epoch)
        iterator = iter(self._batches(epoch, done))
        end = (epoch + 1) * self._per_epoch
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
        logs = {"logloss": state.logloss, "auc": state.auc}
        self._callbacks.on_epoch_end(epoch, logs)
        return not empty

    def _look_around(self, seconds: float, caught: list[int]) -> float:
        """The chief's seconds; leaves if a process was told to."""
        number = caught[0] if caught else 0
        clocks, numbers = self._team.gather(seconds, number).T
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
            raise self._diverged(stretch)
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
        state, rule = self._state, self._config.early_stopping
        self._callbacks.on_test_begin()
        scores = Scores(
            # The chief's: another processor may differ in the last bit.
            *self._team.gather(*self._evaluation.scores(self._eval_data))[0]
        )
        self._callbacks.on_test_end(scores._asdict())
        self._progress.scalars(
            state.step, {f"eval/{k}": v for k, v in scores._asdict().items()}
        )
        log.info(
            "step %d: eval logloss %.5f, AUC %.4f", state.step, *scores[:2]
        )
        if rule is None or scores.logloss < state.best - rule.min_delta:
            state.best, state.waited = scores.logloss, 0
            state.logloss, state.auc = scores[:2]
            if rule is not None and self._keeps_best:
                self._best.save(state.step, named_variables(self._model), {})
            return
        state.waited += 1
        state.stop = state.waited >= rule.patience

    def _stopped(self) -> bool:
        wanted = bool(getattr(self._model, "stop_training", False))
        return self._state.stop or bool(self._team.gather(wanted).any())

    def _resume(self) -> int:
        if self._checkpoints is None:
            return 0
        named = named_variables(self._model, self._optimizer)
        found = self._checkpoints.restore(named)
        self._state = _State(**found) if found else self._state
        steps = self._team.gather(self._state.step)
        if steps.min() < steps.max():
            raise OSError(
                "The processes of this training do not read the same"
                f" checkpoints in {self._checkpoints.folder}: they would go"
                f" on from steps {sorted({int(step) for step in steps[:, 0]})}"
            )
        if found is None:
            return 0
        log.info("going on from the checkpoint of step %d", self._state.step)
        return self._state.step

    def _save(self) -> None:
        if self._checkpoints is None or not self._team.chief:
            return
        try:
            self._checkpoints.save(
                self._state.step,
                named_variables(self._model, self._optimizer),
                asdict(self._state),
            )
        except FloatingPointError as error:
            raise FloatingPointError(
                f"Training diverged by step {self._state.step}: {error}."
                f" {self._advice()}"
            ) from None

    def _leave(self, number: int) -> None:
        """On a signal: what was learned is kept, the process ends."""
        self._save()
        self._team.gather(0)  # none leaves before it is saved
        if self._checkpoints is not None:
            log.info(
                "stopped by %s at step %d; the next run goes on from there",
                signal.Signals(number).name,
                self._state.step,
            )
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _diverged(self, stretch: Stretch) -> FloatingPointError:
        step = self._state.step + stretch.steps
        where = stretch.diverged or ""
        if where != "the loss":
            where = f"the gradient of {where}"
        return FloatingPointError(
            f"Training diverged at step {step}: {where} is not finite."
            f" {self._advice()}"
        )

    def _must_be_finite(self) -> None:
        """Of the weights that are not tables: those are seen when saved."""
        for variable in self._model.trainable_variables:
            value = local_replica(variable)
            if value.shape.num_elements() > 1 << 24:
                continue
            if not bool(tf.reduce_all(tf.math.is_finite(value))):
                raise FloatingPointError(
                    f"Training diverged by step {self._state.step}:"
                    f" {variable_path(variable)} holds values that are not"
                    f" finite. {self._advice()}"
                )

    def _advice(self) -> str:
        advice = "Lower optimizer.learning_rate"
        if self._checkpoints is not None:
            advice += (
                "; the last good checkpoint is kept in"
                f" {self._checkpoints.folder}"
            )
        return advice


def _source(data: Any, strategy: Any) -> Callable[[int, int], Any]:
    """(epoch, batches to leave out) -> the batches for this process."""
    if strategy.num_replicas_in_sync == 1:
        if not hasattr(data, "epoch"):
            return lambda epoch, skip: data.skip(skip)
        return lambda epoch, skip: data.epoch(epoch, skip)
    if not hasattr(data, "epoch"):
        raise ValueError(
            "`train_data` must be `models.inputs.Batches` where there are"
            f" several replicas. Received: {data!r}"
        )
    # Replicas have equally many batches, and steps are counted.
    strategy.extended.experimental_enable_get_next_as_optional = False

    def distributed(epoch: int, skip: int) -> Any:
        def here(context: Any) -> Any:
            replicas = context.num_replicas_in_sync
            each = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * each
            pieces = range(first, first + each)
            return data.epoch(epoch, skip, pieces, replicas)

        return strategy.distribute_datasets_from_function(here)

    return distributed


def _callback_list(
    callbacks: Sequence[Any],
    model: Any,
    optimizer: Any,
    config: TrainConfig,
    total: int,
) -> Any:
    library = keras
    if keras_version(model) == 2:
        import tf_keras

        library = tf_keras
    # Not by assignment: a tracked optimizer would be exported.
    object.__setattr__(model, "optimizer", optimizer)
    object.__setattr__(model, "stop_training", False)
    return library.callbacks.CallbackList(
        list(callbacks), model=model, epochs=config.epochs, steps=total
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Catches SIGTERM and SIGINT; a second SIGINT is not waited for."""
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
