"""Compiled updates of a model: many in one call, no Python between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import tensorflow as tf

from models.config.losses import LossConfig
from models.layers.list_rows import padded
from models.losses.registry import Loss, build_loss
from models.preprocessing.input_layout import without_groups
from models.variables import local_replica
from optimizers.groups import variable_path
from optimizers.mirrored import mirrors_variables

Scalars = dict[str, Any]


class Stretch(NamedTuple):
    """Result of some steps.

    loss: mean over the rows. diverged: None, or the first variable with a
    gradient that is not finite, or "the loss".
    """

    loss: float
    rows: int
    steps: int
    diverged: str | None


class TrainStep:
    """Updates of `model` by `optimizer`.

    Args:
        model: maps inputs to logits [N], or [N, labels].
        optimizer: of Keras 3, or of Keras 2 if the model is.
        jit: whether XLA compiles the step.
        negative_weight: of a row without a click in the loss.
        strategy: where the replicas are; the model was made in its scope.
        mean_weight: of the rows of all batches, where rows have weights. The
            loss is divided by it: by the batch's own weights a batch of rows
            that hardly count would count as much as any other.
        loss: of the rows; None: log loss.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        jit: bool,
        negative_weight: float,
        strategy: Any,
        mean_weight: float = 1.0,
        loss: Loss | None = None,
    ) -> None:
        self._loss = loss or build_loss(LossConfig())
        # The model's call gives a logit for each label where the loss asks.
        self._both = {"both": True} if self._loss.logits == 2 else {}
        self._mean_weight = mean_weight
        self._model = model
        self._optimizer = optimizer
        self._negative_weight = negative_weight
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        # A user's model may look at lists in ways of its own.
        self._pads = jit and getattr(model, "takes_padding", False)
        self._variables = model.trainable_variables
        self._update = tf.function(
            self._replica_step, jit_compile=jit or None, reduce_retracing=True
        )
        self._many = tf.function(self._train_steps, reduce_retracing=True)
        self._next = tf.function(self._next_step, reduce_retracing=True)
        self._observed = tf.function(
            self._observed_steps, reduce_retracing=True
        )
        self._looked = tf.function(self._observed_step, reduce_retracing=True)
        self._names: list[str] = []

    def run(self, iterator: Any, count: int) -> Stretch:
        """Makes `count` steps, or as many as there are batches for.

        Replicas have to have batches for all of them.
        """
        if self._replicas == 1:
            outputs = self._many(iterator, tf.constant(count))
            loss, rows, steps, bad = (x.numpy() for x in outputs)
        else:
            loss, rows, steps, bad = self._together(iterator, count)
        return self._stretch(steps, loss, rows, bad)

    def _together(self, iterator: Any, count: int) -> tuple[Any, ...]:
        # One call a step: what replicas exchange may be longer in the next
        # one (lists, a short batch), which TensorFlow refuses within a call.
        loss, rows, steps, bad = 0.0, 0, 0, -1
        while steps < count and bad < 0:
            found, seen, now = self._next(iterator)
            loss, rows, bad = loss + float(found), rows + int(seen), int(now)
            steps += 1
        return loss, rows, steps, bad

    def observe(self, iterator: Any) -> tuple[Stretch, dict[str, float]]:
        """Makes two steps and tells how they moved the weights."""
        if self._replicas > 1:
            return self._observe_together(iterator)
        outputs, scalars = self._observed(iterator)
        return (
            self._stretch(2, *outputs),
            {name: float(value) for name, value in scalars.items()},
        )

    def _observe_together(
        self, iterator: Any
    ) -> tuple[Stretch, dict[str, float]]:
        states = [self._watched()]
        made = [self.run(iterator, 1)]
        states.append(self._watched())
        scalars: Scalars = {}
        if made[0].diverged is None:
            *outputs, scalars = self._looked(iterator)
            made.append(self._stretch(1, *outputs))
            states.append(self._watched())
            scalars = {**scalars, **_moves(states)}
        rows = sum(one.rows for one in made)
        loss = sum(one.loss * one.rows for one in made)
        return (
            Stretch(loss / max(rows, 1), rows, len(made), made[-1].diverged),
            {name: float(value) for name, value in scalars.items()},
        )

    def _stretch(self, steps: int, loss: Any, rows: Any, bad: Any) -> Stretch:
        bad = int(bad)
        return Stretch(
            float(loss) / max(int(rows), 1),
            int(rows),
            int(steps),
            [*self._names, "the loss"][bad] if bad >= 0 else None,
        )

    def _train_steps(self, iterator: Any, steps: tf.Tensor) -> Any:
        loss = tf.zeros([])
        rows = tf.zeros([], tf.int64)
        done = tf.zeros([], tf.int32)
        bad = tf.constant(-1)
        more = tf.constant(True)
        while more and done < steps and bad < 0:
            batch = iterator.get_next_as_optional()
            more = batch.has_value()
            if more:
                found, seen, bad = self._train_step(*batch.get_value())
                loss += found
                rows += seen
                done += 1
        return loss, rows, done, bad

    def _next_step(self, iterator: Any) -> Any:
        return self._train_step(*next(iterator))

    def _observed_step(self, iterator: Any) -> Any:
        """One step on all replicas, and what was looked at before it."""
        batch = next(iterator)
        seen = self._strategy.run(self._observe, batch)
        first = self._strategy.experimental_local_results
        return *self._train_step(*batch), {
            n: first(x)[0] for n, x in seen.items()
        }

    def _observed_steps(self, iterator: Any) -> Any:
        """Two steps, and what is different before, between and after."""
        loss, rows, bad = 0.0, tf.zeros([], tf.int64), -1
        states = [self._watched()]
        for _ in range(2):
            batch = next(iterator)
            touched = self._observe(*batch)
            found, seen, now = self._train_step(*batch)
            with tf.control_dependencies([found]):
                states.append(self._watched())
            loss, rows = loss + found, rows + seen
            bad = tf.where(bad < 0, now, bad)
        return (loss, rows, bad), {**touched, **_moves(states)}

    def _watched(self) -> list[tf.Tensor]:
        """The weights that are not tables, of the first replica here."""
        places = [v for v in self._variables if not _is_table(v)]
        return [tf.identity(local_replica(v)) for v in places]

    def _observe(self, inputs: Any, label: Any, weight: Any = None) -> Scalars:
        """Norm of the gradient, and distinct rows of tables in the batch.

        Of all replicas together, where each has a copy of the variables.
        """
        if self._replicas > 1 and not mirrors_variables():
            return {}
        # Not in training mode: looking must not move random states.
        _, gradients = self._gradients(inputs, label, weight, training=False)
        if self._replicas > 1:  # rows of tables are gathered, not made dense
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("SUM", gradients)
        norms, touched = [], []
        for gradient in gradients:
            if isinstance(gradient, tf.IndexedSlices):
                ids, segments = tf.unique(gradient.indices)
                gradient = tf.math.unsorted_segment_sum(
                    gradient.values, segments, tf.size(ids)
                )
                touched.append(tf.size(ids))
            norms.append(tf.cast(gradient, tf.float32))
        scalars: Scalars = {"gradient_norm": tf.linalg.global_norm(norms)}
        if touched:
            scalars["rows_touched"] = tf.add_n(touched)
        return scalars

    def _train_step(self, *batch: Any) -> Any:
        """One step on all replicas: sum of losses, rows, first bad one."""
        if self._replicas == 1:
            return self._update(*self._padded(*batch))
        if self._pads:
            batch = self._strategy.run(self._padded, batch)
        # Not from within a function: replicas may not meet in an inner one.
        found = self._strategy.run(self._update, batch)
        # They are those of all replicas already.
        return [self._strategy.experimental_local_results(x)[0] for x in found]

    def _padded(self, inputs: Any, *others: Any) -> tuple[Any, ...]:
        """A batch that XLA compiles for few numbers of list values."""
        return padded(inputs) if self._pads else inputs, *others

    def _replica_step(
        self,
        inputs: Mapping[str, Any],
        label: tf.Tensor,
        weight: tf.Tensor | None = None,
    ) -> Any:
        loss, gradients = self._gradients(inputs, label, weight, training=True)
        finite, self._names = _finite(gradients, self._variables)
        finite.append(tf.math.is_finite(loss))
        wrong = tf.cast(~tf.stack(finite), tf.float32)
        rows = tf.cast(tf.shape(label)[0], tf.float32)
        sums = tf.concat([[loss * rows, rows], wrong], 0)
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce("SUM", sums)
        wrong = tf.cast(sums[2:] > 0, tf.int32)
        bad = tf.where(
            tf.reduce_any(wrong > 0),
            tf.argmax(wrong, output_type=tf.int32),
            -1,
        )
        if hasattr(self._optimizer, "apply"):
            self._optimizer.apply(gradients, self._variables)
        else:  # Keras 2
            self._optimizer.apply_gradients(
                zip(gradients, self._variables, strict=True)
            )
        return sums[0], tf.cast(sums[1], tf.int64), bad

    def _gradients(
        self,
        inputs: Mapping[str, Any],
        label: tf.Tensor,
        weight: tf.Tensor | None,
        training: bool,
    ) -> Any:
        """Loss of these rows, and their part of its gradient.

        In training the gradient is `loss_scale_factor` times as large: the
        optimizer divides it again.
        """
        inputs, groups = without_groups(inputs)
        first = label if label.shape.rank == 1 else label[:, 0]
        weights = tf.where(first > 0, 1.0, self._negative_weight)
        total = tf.reduce_sum(weights)
        if weight is not None:
            weights *= weight
            total *= self._mean_weight
        everything = total
        share = 1.0  # of the rows
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            rows = tf.cast(tf.shape(label)[0], tf.float32)
            sums = context.all_reduce("SUM", tf.stack([total, rows]))
            everything, share = sums[0], rows / sums[1]
        with tf.GradientTape() as tape:
            logits = self._model(inputs, training=training, **self._both)
            losses = self._loss.of_rows(logits, label, weights, groups)
            loss = tf.reduce_sum(weights * losses)
            # Replicas' gradients are summed, so each has its share here.
            objective = loss / everything
            if self._model.losses:
                objective += tf.add_n(self._model.losses) * share
            if training and hasattr(self._optimizer, "scale_loss"):
                objective = self._optimizer.scale_loss(objective)
        gradients = tape.gradient(objective, self._variables)
        return loss / tf.maximum(total, 1e-30), gradients


def _moves(states: Sequence[Sequence[tf.Tensor]]) -> Scalars:
    """Effect of two steps on weights, from those before, between, after."""
    moves = [
        [b - a for a, b in zip(old, new, strict=True)]
        for old, new in pairwise(states)
    ]
    if not moves[0]:
        return {}
    flips = [
        tf.math.count_nonzero(tf.sign(a) * tf.sign(b) < 0)
        for a, b in zip(*moves, strict=True)
    ]
    entries = sum(v.shape.num_elements() for v in moves[0])
    return {
        "update_norm": tf.linalg.global_norm(moves[-1]),
        "sign_flips": tf.add_n(flips) / entries,
    }


def _finite(
    gradients: Sequence[Any], variables: Sequence[Any]
) -> tuple[list[Any], list[str]]:
    """Finiteness of each gradient, and its variable.

    Those of tables are left out: what is not finite in them is so in the
    loss, or in the weights next to them.
    """
    flags, names = [], []
    for gradient, variable in zip(gradients, variables, strict=True):
        if isinstance(gradient, tf.Tensor):
            flags.append(tf.math.is_finite(tf.nn.l2_loss(gradient)))
            names.append(variable_path(variable))
    return flags, names


def _is_table(variable: Any) -> bool:
    return variable_path(variable).endswith("/table")
