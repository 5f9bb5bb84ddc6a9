"""Updates that XLA compiles one by one: few programs, any number of ids."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tables import needs_library

from optimizers import Lion
from optimizers.ops import xla

pytestmark = needs_library
RULE = (0.1, 0.9, 0.99, 0.05)


@pytest.fixture(autouse=True)
def fresh() -> None:
    xla._compiled.cache_clear()


def traces(name: str) -> int:
    return xla._compiled(name).experimental_get_tracing_count()


def test_variables_of_one_shape_share_a_program() -> None:
    variables = [
        keras.Variable(np.zeros((64, 16), np.float32), name=f"v{i}")
        for i in range(20)
    ]
    lion = Lion(1e-3, kernel="xla", weight_decay=0.1, momentum_dtype="bfloat16")
    lion.build(variables)
    for _ in range(3):
        lion.apply([tf.ones((64, 16))] * 20, variables)
    assert traces("resource_apply_lion") == 1
    # Each rounds by a seed of its own.
    first, second = (lion._momentums[i].numpy() for i in (0, 1))
    assert (first != second).any()


def test_other_rates_and_steps_trace_nothing_anew() -> None:
    var, m = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.zeros([4, 2]))
    for step in range(1, 4):
        rule = (0.1 / step, 0.9 - step / 100, 0.99, 0.1 * step)
        xla.resource_apply_lion(
            var, m, *rule, tf.ones([4, 2]), seed=step, step=step
        )
    assert traces("resource_apply_lion") == 1


@pytest.mark.parametrize("mode", ["lazy", "decayed"])
def test_any_number_of_ids_needs_few_programs(mode: str) -> None:
    rng = np.random.default_rng(0)
    var = tf.Variable(rng.normal(size=(500, 3)).astype(np.float32))
    m, last = (
        tf.Variable(tf.zeros([500, 3])),
        tf.Variable(tf.zeros(500, "int32")),
    )
    name = "resource_sparse_apply_lion"
    if mode == "decayed":
        name = "resource_sparse_apply_decayed_lion"

    def update(count: int, step: int) -> None:
        rows = (
            rng.normal(size=(count, 3)).astype(np.float32),
            tf.constant(rng.integers(0, 500, count)),
        )
        if mode == "decayed":
            xla.resource_sparse_apply_decayed_lion(
                var, m, last, tf.constant(step), *RULE, *rows
            )
        else:
            xla.resource_sparse_apply_lion(var, m, *RULE, *rows, step=step)

    for step, count in enumerate(range(65, 129)):
        update(count, step + 1)
    assert traces(name) <= 4


def test_a_new_number_of_ids_in_a_graph_takes_no_time() -> None:
    table = keras.Variable(np.zeros((1000, 16), np.float32))
    lion = Lion(1e-3, kernel="xla")
    lion.build([table])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 16]),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def step(values: tf.Tensor, ids: tf.Tensor) -> None:
        lion.apply([tf.IndexedSlices(values, ids, [1000, 16])], [table])

    seconds = []
    for count in (100, *range(97, 112)):
        began = time.perf_counter()
        step(tf.ones([count, 16]), tf.range(count, dtype=tf.int64))
        seconds.append(time.perf_counter() - began)
    # The first one traces and compiles; none of the others does.
    assert max(seconds[2:]) < seconds[0] / 3
    assert (table.numpy()[:111] != 0).all() and not table.numpy()[111:].any()


@pytest.mark.parametrize("count", [0, 1, 16, 17, 64, 65, 100])
def test_what_fills_up_a_batch_changes_nothing(count: int) -> None:
    rng = np.random.default_rng(count)
    start = rng.normal(size=(20, 3)).astype(np.float32)
    grad = rng.normal(size=(count, 3)).astype(np.float32)
    ids = rng.integers(0, 20, count)
    var, m = tf.Variable(start), tf.Variable(start)
    xla.resource_sparse_apply_lion(var, m, *RULE, grad, tf.constant(ids))
    rows = np.setdiff1d(np.arange(20), ids)
    np.testing.assert_array_equal(var.numpy()[rows], start[rows])
    np.testing.assert_array_equal(m.numpy()[rows], start[rows])
    total = np.zeros((20, 3), np.float32)
    np.add.at(total, ids, grad)
    seen = np.unique(ids)
    expected = 0.99 * start[seen] + (1 - 0.99) * total[seen]
    np.testing.assert_allclose(m.numpy()[seen], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 16, 17, 128, 129, 160, 4097, 100_000])
def test_a_batch_has_the_same_size_if_it_is_known_before_or_not(
    count: int,
) -> None:
    sizes = []

    @tf.function
    def pad(values: tf.Tensor, ids: tf.Tensor) -> None:
        values, ids = xla._padded(values, ids)
        return tf.shape(values)[0], tf.size(ids)

    values, ids = tf.zeros([count, 2]), tf.zeros([count], tf.int64)
    unknown = tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int64)
    graph = pad.get_concrete_function(*unknown)
    for found in (pad(values, ids), graph(values, ids)):
        sizes += [int(size) for size in found]
    assert len(set(sizes)) == 1
    assert count <= sizes[0] <= max(1.25 * count, count + 16)
    # A GPU would compute what the host then waits for.
    kinds = ("Greater", "SelectV2", "Max", "FloorMod")
    computing = [o for o in graph.graph.get_operations() if o.type in kinds]
    assert {o.type for o in computing} == {*kinds}
    assert all("CPU:0" in o.device for o in computing)


def test_a_step_that_xla_compiles_fills_up_no_batch() -> None:
    table = keras.Variable(np.zeros((1000, 16), np.float32))
    lion = Lion(1e-3, kernel="xla")
    lion.build([table])

    @tf.function(jit_compile=True)
    def step(values: tf.Tensor, ids: tf.Tensor) -> None:
        lion.apply([tf.IndexedSlices(values, ids, [1000, 16])], [table])

    lower = step.experimental_get_compiler_ir(
        tf.ones([97, 16]), tf.range(97, dtype=tf.int64)
    )
    text = lower(stage="hlo")
    assert "f32[97,16]" in text
    assert "f32[112,16]" not in text
