"""A Keras optimizer in which sparse gradients stay sparse up to the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from optimizers import gradients
from optimizers.mirrored import mirrors_variables, on_this_device
from optimizers.ops.library import in_xla
from optimizers.ops.rows import check_ids


class SparseOptimizer(keras.optimizers.Optimizer):
    """Base class: loss scaling, accumulation and clipping of tf.IndexedSlices.

    Keras's own base has no division for tf.IndexedSlices and turns them into
    dense tensors to clip or accumulate them. Here an `update_step` gets
    tf.IndexedSlices wherever the model's gradient was one. Accumulated
    gradients carry the union of the rows seen since the last update, which
    costs one bool per row (the slot `accumulated_row`). They are
    tf.IndexedSlices too, or `MarkedRows` in a function that XLA compiles.

    Under MirroredStrategy and MultiWorkerMirroredStrategy the gradients are
    summed over the replicas before anything else; tf.IndexedSlices are
    gathered, not made dense. So each device can do all the rest by itself,
    with the same result: clipping sees the whole batch's gradient, and
    accumulation works, both unlike in Keras's own base.
    """

    @property
    def row_wise(self) -> bool:
        """True if a sparse gradient updates its own rows and no other."""
        return True

    def build_row_marks(self, var_list: Sequence[Any]) -> None:
        """Creates the marks of accumulated rows; call it after other slots."""
        if self._marks_rows():
            self._accumulated_rows = [
                self.add_slot(v, "accumulated_row", v.shape[:1], "bool")
                for v in var_list
            ]

    def add_slot(self, variable: Any, slot: str, shape: Any, dtype: str) -> Any:
        """Returns a new optimizer variable that belongs to `variable`."""
        if self._overwrite_variable_with_gradient(variable):
            return None
        is_keras = isinstance(variable, keras.Variable)
        path = variable.path if is_keras else variable.name
        value = variable.value if is_keras else variable
        strategy = self._distribution_strategy
        with strategy.extended.colocate_vars_with(value):
            return self.add_variable(
                shape=shape,
                dtype=dtype,
                name=f"{path}_{slot}".replace("/", "_").replace(":", "_"),
            )

    def apply(
        self, grads: Sequence[Any], trainable_variables: Any = None
    ) -> None:
        """Updates the variables; a gradient may be tf.IndexedSlices."""
        super().apply([self._wrap(g) for g in grads], trainable_variables)

    def _wrap(self, gradient: Any) -> Any:
        if isinstance(gradient, tf.IndexedSlices):
            return gradients.SparseGradient(gradient, self._accumulate)
        return gradient

    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        if not mirrors_variables():
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        context = tf.distribute.get_replica_context()
        local = [gradients.unwrap(g) for g in grads]
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, local)
        apply = super()._backend_apply_gradients

        # The variable that TensorFlow hands over only names the device.
        def apply_on_one_device(_: tf.Variable, total: Sequence[Any]) -> None:
            apply([self._wrap(g) for g in total], trainable_variables)

        context.strategy.extended.update(
            _tensorflow_variable(trainable_variables[0]),
            apply_on_one_device,
            args=(total,),
            group=False,
        )

    def _backend_update_step(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[Any],
        learning_rate: Any,
    ) -> None:
        if not mirrors_variables():
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(
                gradient, _tensorflow_variable(variable), learning_rate
            )

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables: Sequence[Any]
    ) -> None:
        if not mirrors_variables():
            super()._overwrite_model_variables_with_average_value(
                trainable_variables
            )
            return
        for variable, average in zip(
            trainable_variables,
            self._model_variables_moving_average,
            strict=True,
        ):
            variable.assign(average)

    def _clip_gradients(self, grads: Sequence[Any]) -> Any:
        grads = [gradients.unwrap(g) for g in grads]
        limits = (self.clipnorm, self.global_clipnorm, self.clipvalue)
        rows = (tf.IndexedSlices, gradients.MarkedRows)
        sparse = any(isinstance(g, rows) for g in grads)
        if sparse and any(limits):
            return gradients.clip(grads, *limits)
        return super()._clip_gradients(grads)

    def _marks_rows(self) -> bool:
        return bool(self.gradient_accumulation_steps) and self.row_wise

    def _accumulate(self, slices: tf.IndexedSlices, accumulator: Any) -> Any:
        """Returns slices plus accumulator, of the rows seen so far."""
        if not self._marks_rows():
            return accumulator + gradients.densify(slices, accumulator)
        self._add_rows(slices, accumulator)
        marks = on_this_device(self._marks_of(accumulator))
        total = on_this_device(accumulator.value)
        if not in_xla():
            rows = tf.where(marks)[:, 0]
            return tf.IndexedSlices(tf.gather(total, rows), rows)
        return gradients.MarkedRows(
            tf.convert_to_tensor(total), tf.convert_to_tensor(marks)
        )

    def _add_rows(self, slices: tf.IndexedSlices, accumulator: Any) -> None:
        values = tf.cast(slices.values, accumulator.dtype)
        ids = check_ids(slices.indices, accumulator.shape[0])
        accumulator.value.scatter_add(tf.IndexedSlices(values, ids))
        seen = tf.fill(tf.shape(ids), True)
        self._marks_of(accumulator).scatter_update(tf.IndexedSlices(seen, ids))

    def _marks_of(self, accumulator: Any) -> tf.Variable:
        for candidate, marks in zip(
            self._accumulated_gradients, self._accumulated_rows, strict=True
        ):
            if candidate is accumulator:
                return marks.value
        raise AssertionError(f"{accumulator} accumulates for no variable")

    def _backend_increment_gradient_accumulators(
        self, grads: Sequence[Any], acc_grads: Sequence[Any]
    ) -> None:
        for gradient, accumulator in zip(grads, acc_grads, strict=True):
            slices = gradients.unwrap(gradient)
            if not self._marks_rows():
                accumulator.assign_add(gradients.densify(slices, accumulator))
            elif isinstance(slices, tf.IndexedSlices):
                self._add_rows(slices, accumulator)
            else:
                marks = self._marks_of(accumulator)
                marks.assign(tf.fill(marks.shape, True))
                accumulator.assign_add(gradient)

    def _backend_reset_gradient_accumulators(self) -> None:
        if not self._marks_rows():
            super()._backend_reset_gradient_accumulators()
            return
        for accumulator, marks in zip(
            self._accumulated_gradients, self._accumulated_rows, strict=True
        ):
            if accumulator is None or marks is None:
                continue
            if len(accumulator.shape) == 0 or in_xla():
                accumulator.assign(
                    tf.zeros(accumulator.shape, accumulator.dtype)
                )
            else:
                rows = tf.where(marks.value)[:, 0]
                zeros = tf.zeros(
                    tf.concat([tf.shape(rows), accumulator.shape[1:]], 0),
                    accumulator.dtype,
                )
                accumulator.value.scatter_update(tf.IndexedSlices(zeros, rows))
            marks.value.assign(tf.zeros(marks.shape, tf.bool))


def _tensorflow_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
