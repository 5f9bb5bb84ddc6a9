"""Lion against the NumPy reference, in every mode, dtype and variant."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DTYPES, ReferenceLion
from tables import kernels, needs_library

from optimizers import Lion

ROWS, DIM, STEPS = 12, 3, 6
TOLERANCE = {"float32": 2e-6, "float64": 1e-13, "bfloat16": 1e-2}
OF_LIBRARY = ("custom_op", "xla")
PATTERNS = {
    "distinct": [[4, 0, 7], [4, 1], [9], [0, 2, 3], [4], [7, 0]],
    "duplicates": [[5, 0, 5], [5, 5, 5], [1, 0, 1], [0], [5, 2, 2], [1, 1]],
}


def slices(values, indices, shape=(ROWS, DIM)):
    return tf.IndexedSlices(
        tf.convert_to_tensor(values),
        tf.constant(indices, tf.int64),
        tf.constant(shape, tf.int64),
    )


def assert_same(optimizer, variable, reference, dtype, momentum_dtype=None):
    def close(actual, expected, kind):
        np.testing.assert_allclose(
            np.asarray(actual, np.float64),
            np.asarray(expected, np.float64),
            rtol=TOLERANCE[kind],
            atol=TOLERANCE[kind] * 0.1,
        )

    close(variable.numpy(), reference.theta, dtype)
    momentum = optimizer._momentums[0]
    close(momentum.numpy(), reference.m, momentum_dtype or dtype)
    if optimizer.sparse == "decayed":
        np.testing.assert_array_equal(
            optimizer._last_steps[0].numpy(), reference.last_step
        )
    if optimizer.frequency_power:
        np.testing.assert_array_equal(
            optimizer._seen[0].numpy(), reference.seen
        )


def pair(
    dtype="float32", shape=(ROWS, DIM), seed=0, kernel="auto", **arguments
):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=shape).astype(DTYPES[dtype])
    variable = keras.Variable(theta, dtype=dtype, name="table")
    optimizer = Lion(0.01, kernel=kernel, **arguments)
    optimizer.build([variable])
    arguments.pop("gradient_accumulation_steps", None)
    return optimizer, variable, ReferenceLion(theta.copy(), 0.01, **arguments)


@pytest.mark.pairs
@kernels
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])
def test_sparse_gradients_follow_the_reference(
    kernel, sparse, dtype, weight_decay, cautious, pattern
):
    optimizer, variable, reference = pair(
        dtype,
        kernel=kernel,
        sparse=sparse,
        weight_decay=weight_decay,
        cautious=cautious,
    )
    rng = np.random.default_rng(1)
    for indices in PATTERNS[pattern]:
        values = rng.normal(size=(len(indices), DIM)).astype(DTYPES[dtype])
        optimizer.apply([slices(values, indices)], [variable])
        reference.step((values, np.array(indices)))
    assert_same(optimizer, variable, reference, dtype)


@pytest.mark.pairs
@pytest.mark.parametrize(
    "kernel",
    ["python", *(pytest.param(k, marks=needs_library) for k in OF_LIBRARY)],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sparse", ["lazy", "decayed"])
def test_rates_by_frequency_follow_the_reference(
    kernel, sparse, dtype, cautious, compiled
):
    optimizer, variable, reference = pair(
        dtype,
        kernel=kernel,
        sparse=sparse,
        weight_decay=0.1,
        cautious=cautious,
        frequency_power=0.35,
    )

    @tf.function(jit_compile=compiled)
    def apply(values, indices):
        gradient = tf.IndexedSlices(values, indices, (ROWS, DIM))
        optimizer.apply([gradient], [variable])

    rng = np.random.default_rng(1)
    batches = [b for pattern in PATTERNS.values() for b in pattern]
    dense = rng.normal(size=(ROWS, DIM)).astype(DTYPES[dtype])
    for number, indices in enumerate(batches):
        values = rng.normal(size=(len(indices), DIM)).astype(DTYPES[dtype])
        apply(tf.constant(values), tf.constant(indices, tf.int64))
        reference.step((values, np.array(indices)))
        if number == 5:  # neither slower nor counted
            optimizer.apply([tf.constant(dense)], [variable])
            reference.step(dense)
    assert reference.seen.max() == 6
    assert_same(optimizer, variable, reference, dtype)


@kernels
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_accumulated_rows_are_counted_once_an_update(kernel, compiled):
    arguments = {"kernel": kernel, "frequency_power": 0.5}
    optimizer, variable, reference = pair(
        **arguments, gradient_accumulation_steps=2
    )

    @tf.function(jit_compile=compiled)
    def apply(values, indices):
        gradient = tf.IndexedSlices(values, indices, (ROWS, DIM))
        optimizer.apply([gradient], [variable])

    rng = np.random.default_rng(1)
    for one, two in [([4, 0], [4, 4]), ([4, 1], [1, 2]), ([4, 4], [0, 4])]:
        values = rng.normal(size=(4, DIM)).astype(np.float32)
        apply(tf.constant(values[:2]), tf.constant(one, tf.int64))
        apply(tf.constant(values[2:]), tf.constant(two, tf.int64))
        reference.step((values / 2, np.array(one + two)))
    assert_same(optimizer, variable, reference, "float32")


def test_rates_by_frequency_are_refused_where_all_rows_are_updated():
    with pytest.raises(
        ValueError, match=r"`frequency_power`.*accepted: 0 with"
    ):
        Lion(sparse="dense", frequency_power=0.35)
    with pytest.raises(
        ValueError, match=r"`frequency_power`.*1.5.*or equal to 1"
    ):
        Lion(frequency_power=1.5)


@pytest.mark.pairs
@kernels
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4)], ids=str)
def test_dense_gradients_follow_the_reference(
    kernel, shape, dtype, weight_decay, cautious
):
    arguments = {
        "weight_decay": weight_decay,
        "cautious": cautious,
        "kernel": kernel,
    }
    optimizer, variable, reference = pair(dtype, shape or (1,), **arguments)
    if not shape:
        variable = keras.Variable(reference.theta[0], dtype=dtype)
        optimizer = Lion(0.01, **arguments)
        optimizer.build([variable])
    rng = np.random.default_rng(2)
    for _ in range(STEPS):
        gradient = rng.normal(size=shape or (1,)).astype(DTYPES[dtype])
        optimizer.apply([tf.reshape(gradient, shape)], [variable])
        reference.step(gradient)
    if not shape:
        reference.theta, reference.m = reference.theta[0], reference.m[0]
    assert_same(optimizer, variable, reference, dtype)


@kernels
@pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])
@pytest.mark.parametrize("momentum_dtype", ["bfloat16", "float32", "float64"])
def test_momentum_dtype_is_the_slots_dtype_and_follows_the_reference(
    kernel, sparse, momentum_dtype
):
    optimizer, variable, reference = pair(
        kernel=kernel, sparse=sparse, momentum_dtype=momentum_dtype
    )
    rng = np.random.default_rng(3)
    for indices in PATTERNS["duplicates"]:
        values = rng.normal(size=(len(indices), DIM)).astype(np.float32)
        optimizer.apply([slices(values, indices)], [variable])
        reference.step((values, np.array(indices)))
    assert optimizer._momentums[0].dtype == momentum_dtype
    tolerance = "bfloat16" if momentum_dtype == "bfloat16" else "float32"
    assert_same(optimizer, variable, reference, "float32", tolerance)


quarters = st.integers(-8, 8).map(lambda n: n / 4)
steps = st.lists(
    st.lists(st.tuples(st.integers(0, ROWS - 1), quarters), max_size=8),
    min_size=1,
    max_size=4,
)


@kernels
@settings(max_examples=25, deadline=None)
@given(
    steps=steps,
    sparse=st.sampled_from(["lazy", "decayed", "dense"]),
    cautious=st.booleans(),
)
def test_any_index_pattern_follows_the_reference(
    kernel, steps, sparse, cautious
):
    optimizer, variable, reference = pair(
        kernel=kernel, sparse=sparse, cautious=cautious
    )
    for step in steps:
        indices = np.array([row for row, _ in step], np.int64)
        values = np.array([[v, -v, 0] for _, v in step], np.float32)
        values = values.reshape(-1, DIM)
        optimizer.apply([slices(values, indices)], [variable])
        reference.step((values, indices))
    assert_same(optimizer, variable, reference, "float32")


@kernels
@pytest.mark.parametrize("sparse", ["lazy", "decayed"])
def test_rows_outside_the_batch_keep_their_bits(kernel, sparse):
    optimizer, variable, _ = pair(
        kernel=kernel, sparse=sparse, weight_decay=0.5
    )
    before = variable.numpy()
    for _ in range(3):
        values = np.ones((2, DIM), np.float32)
        optimizer.apply([slices(values, [3, 3])], [variable])
    untouched = np.arange(ROWS) != 3
    np.testing.assert_array_equal(
        variable.numpy()[untouched], before[untouched]
    )
    assert not optimizer._momentums[0].numpy()[untouched].any()
    assert (variable.numpy()[3] != before[3]).all()


@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("sparse", ["lazy", "decayed"])
def test_no_tensor_of_the_update_has_the_tables_size(sparse, cautious):
    rows = 1009
    optimizer, variable, _ = pair(
        shape=(rows, DIM),
        kernel="python",
        sparse=sparse,
        cautious=cautious,
        weight_decay=0.1,
    )

    @tf.function
    def step(values, indices):
        gradient = tf.IndexedSlices(values, indices, [rows, DIM])
        optimizer.apply([gradient], [variable])

    graph = step.get_concrete_function(
        tf.TensorSpec([7, DIM]), tf.TensorSpec([7], tf.int32)
    ).graph
    assert "ResourceScatterUpdate" in {op.type for op in graph.get_operations()}
    outputs = [t for op in graph.get_operations() for t in op.outputs]
    assert not [t for t in outputs if rows in t.shape.as_list()]


@kernels
def test_decayed_forgets_what_lazy_remembers(kernel):
    moved = {}
    for sparse in ("lazy", "decayed"):
        optimizer, variable, _ = pair(kernel=kernel, sparse=sparse, beta_2=0.5)
        one = np.ones((1, DIM), np.float32)
        optimizer.apply([slices(one, [0])], [variable])
        for _ in range(20):
            optimizer.apply([slices(one, [1])], [variable])
        before = variable.numpy()[0]
        optimizer.apply([slices(-0.1 * one, [0])], [variable])
        moved[sparse] = np.sign(variable.numpy()[0] - before)
    np.testing.assert_array_equal(moved["lazy"], -np.ones(DIM))
    np.testing.assert_array_equal(moved["decayed"], np.ones(DIM))


@kernels
def test_decayed_counts_the_steps_across_dense_and_sparse_gradients(kernel):
    optimizer, variable, reference = pair(kernel=kernel, sparse="decayed")
    rng = np.random.default_rng(4)
    for indices in ([1, 2], [3], None, [1], None):
        if indices is None:
            gradient = rng.normal(size=(ROWS, DIM)).astype(np.float32)
            optimizer.apply([tf.constant(gradient)], [variable])
            reference.step(gradient)
        else:
            values = rng.normal(size=(len(indices), DIM)).astype(np.float32)
            optimizer.apply([slices(values, indices)], [variable])
            reference.step((values, np.array(indices)))
    assert_same(optimizer, variable, reference, "float32")


@kernels
def test_decayed_leaves_a_purely_dense_variable_its_speed(kernel):
    gradient = tf.ones([200_000, 16])

    def update(sparse):
        variable = keras.Variable(np.zeros((200_000, 16), np.float32))
        optimizer = Lion(1e-3, kernel=kernel, sparse=sparse)
        optimizer.build([variable])
        return tf.function(lambda: optimizer.apply([gradient], [variable]))

    steps, times = [update("lazy"), update("decayed")], ([], [])
    for _ in range(15):
        for step, found in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            found.append(time.perf_counter() - began)
    lazy, decayed = (min(found[2:]) for found in times)
    assert decayed < 2.5 * lazy


@kernels
def test_decayed_momentum_does_not_grow_when_iterations_are_set_back(kernel):
    optimizer, variable, _ = pair(kernel=kernel, sparse="decayed", beta_2=0.5)
    one = np.ones((1, DIM), np.float32)
    for _ in range(5):
        optimizer.apply([slices(one, [0])], [variable])
    optimizer.iterations.assign(0)
    optimizer.apply([slices(one, [0])], [variable])
    assert (optimizer._momentums[0].numpy()[0] <= 1).all()


@kernels
@pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])
def test_no_index_changes_no_row(kernel, sparse):
    optimizer, variable, _ = pair(
        kernel=kernel, sparse=sparse, weight_decay=0.0
    )
    before = variable.numpy()
    empty = np.zeros((0, DIM), np.float32)
    optimizer.apply([slices(empty, [])], [variable])
    np.testing.assert_array_equal(variable.numpy(), before)


@kernels
@pytest.mark.parametrize("sparse", ["lazy", "decayed"])
@pytest.mark.parametrize("row", [-1, ROWS])
def test_index_out_of_range_is_refused_and_changes_nothing(kernel, sparse, row):
    optimizer, variable, _ = pair(kernel=kernel, sparse=sparse)
    before = variable.numpy()
    values = np.ones((2, DIM), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=str(row)):
        optimizer.apply([slices(values, [0, row])], [variable])
    np.testing.assert_array_equal(variable.numpy(), before)
    assert not optimizer._momentums[0].numpy().any()


@kernels
@pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])
@pytest.mark.parametrize("cautious", [False, True])
def test_nan_stays_where_it_is_and_infinity_has_a_sign(
    kernel, sparse, cautious
):
    optimizer, variable, _ = pair(
        kernel=kernel, sparse=sparse, cautious=cautious
    )
    before = variable.numpy()
    values = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    optimizer.apply([slices(values, [2])], [variable])
    after = variable.numpy()
    assert np.isnan(after[2, 0])
    assert after[2, 1] < before[2, 1]
    assert after[2, 2] > before[2, 2]
    assert np.isnan(optimizer._momentums[0].numpy()[2, 0])
    assert np.isfinite(np.delete(after, 2, axis=0)).all()


@kernels
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_sign_of_zero_is_zero(kernel, zero):
    optimizer, variable, _ = pair(kernel=kernel)
    before = variable.numpy()
    optimizer.apply([tf.fill([ROWS, DIM], zero)], [variable])
    np.testing.assert_array_equal(variable.numpy(), before)


@kernels
def test_cautious_rescales_what_it_keeps_per_row(kernel):
    variable = keras.Variable(np.zeros((2, 4), np.float32))
    optimizer = Lion(1.0, cautious=True, kernel=kernel)
    optimizer.build([variable])
    optimizer._momentums[0].assign([[1, 1, 1, 1], [1, 1, 1, 1]])
    values = np.array([[1, -1, -1, -1], [1, 1, -1, -1]], np.float32)
    optimizer.apply([slices(values, [0, 1], (2, 4))], [variable])
    np.testing.assert_array_equal(
        variable.numpy(), [[-4, 0, 0, 0], [-2, -2, 0, 0]]
    )


@pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])
@pytest.mark.parametrize(
    ("kernel", "jit_compile"), [("auto", False), ("auto", True), ("xla", False)]
)
def test_compiled_steps_follow_the_reference_without_retracing(
    sparse, kernel, jit_compile
):
    optimizer, variable, reference = pair(
        kernel=kernel, sparse=sparse, weight_decay=0.1
    )
    traces = []

    @tf.function(jit_compile=jit_compile)
    def step(values, indices):
        traces.append(1)
        gradient = tf.IndexedSlices(
            values, indices, tf.constant([ROWS, DIM], tf.int64)
        )
        optimizer.apply([gradient], [variable])

    rng = np.random.default_rng(5)
    for number, rate in enumerate([0.01, 0.01, 0.02, 0.005]):
        optimizer.learning_rate = rate
        reference.lr = rate
        indices = np.array([number, 3, 3], np.int64)
        values = rng.normal(size=(3, DIM)).astype(np.float32)
        step(tf.constant(values), tf.constant(indices))
        reference.step((values, indices))
    assert len(traces) == 1
    assert_same(optimizer, variable, reference, "float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"learning_rate": -1.0},
            "`learning_rate`: received -1.0; accepted: .*than 0",
        ),
        ({"learning_rate": "1e-4"}, r"`learning_rate`.*YAML reads 1e-4"),
        ({"learning_rate": float("nan")}, r"`learning_rate`.*nan"),
        ({"beta_1": 1.0}, "`beta_1`: received 1.0; accepted: less than 1"),
        ({"beta_1": -0.1}, "`beta_1`: received -0.1; .*equal to 0"),
        ({"beta_2": 1.5}, "`beta_2`: received 1.5; accepted: less than 1"),
        ({"weight_decay": -0.1}, "`weight_decay`: received -0.1; accepted"),
        (
            {"sparse": "fast"},
            "`sparse`: .*'fast'; .* 'lazy', 'decayed' or 'dense'",
        ),
        (
            {"momentum_dtype": "int8"},
            "`momentum_dtype`: .*'int8'; accepted:.*'bfloat16'",
        ),
        (
            {"cautious": "yes"},
            "`cautious`: received 'yes'; accepted: true or false",
        ),
        ({"kernel": "cuda"}, r"`kernel`.*'auto'.*'python'.*'cuda'"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_accepted(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lion(**arguments)
