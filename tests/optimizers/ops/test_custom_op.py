"""The ops of the library: the fallback's numbers, and errors, not crashes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ReferenceLion

from optimizers.ops import build, custom_op, python
from optimizers.ops.library import load
from tests import forks

pytestmark = pytest.mark.skipif(
    build.find()[0] is None, reason=f"no op library: {build.find()[1]}"
)
ROOT = Path(__file__).parents[3]
RULE = (0.1, 0.9, 0.99, 0.05)
DTYPES = ["float32", "float64", "bfloat16", "float16"]
ROWS, DIM = 50, 19


def random(rng, shape, dtype):
    return tf.cast(rng.normal(size=shape), dtype)


def run(ops, dtype, m_dtype, cautious, index_dtype):
    """All five updates, some steps of each; returns all state."""
    rng = np.random.default_rng(0)
    var = tf.Variable(random(rng, (ROWS, DIM), dtype))
    m = tf.Variable(random(rng, (ROWS, DIM), m_dtype))
    last_step = tf.Variable(tf.zeros(ROWS, tf.int32))
    for step in range(1, 4):
        options = (cautious, 3, step)
        grad = random(rng, (ROWS, DIM), dtype)
        ids = tf.constant(rng.integers(0, ROWS, 30), index_dtype)
        ops.resource_apply_lion(var, m, *RULE, grad, *options)
        ops.resource_sparse_apply_lion(var, m, *RULE, grad[:30], ids, *options)
        ops.resource_sparse_apply_decayed_lion(
            var, m, last_step, step, *RULE, grad[:20], ids[:20], *options[:2]
        )
    updated = ops.lion_update(var, m, grad, *RULE, *options)
    sparse = ops.sparse_lion_update(var, m, grad[:30], ids, *RULE, *options)
    return [np.array(x, np.float64) for x in (var, m, *updated, *sparse)]


@pytest.mark.pairs
@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("m_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ops_and_the_fallback_give_the_same_bits(
    dtype, m_dtype, cautious, index_dtype
):
    arguments = (dtype, m_dtype, cautious, index_dtype)
    ours, theirs = run(custom_op, *arguments), run(python, *arguments)
    decayed = 1e-6  # powers of beta_2 may differ in the last bit
    tolerance = {"bfloat16": 1e-2, "float16": 2e-3}
    for one, other in zip(ours, theirs, strict=True):
        rtol = max(tolerance.get(d, decayed) for d in (dtype, m_dtype))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("m_dtype", DTYPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rates_by_frequency_have_the_same_bits(dtype, m_dtype):
    states = []
    for ops in (custom_op, python):
        rng = np.random.default_rng(0)
        var = tf.Variable(random(rng, (ROWS, DIM), dtype))
        m = tf.Variable(random(rng, (ROWS, DIM), m_dtype))
        seen = tf.Variable(tf.zeros(ROWS, tf.int32))
        for step in range(1, 30):
            grad = random(rng, (30, DIM), dtype)
            ids = tf.constant(rng.integers(0, ROWS, 30))
            ops.resource_sparse_apply_lion(
                *(var, m, *RULE, grad, ids, False, 3, step),
                **{"seen": seen, "frequency_power": 0.35},
            )
        states.append([x.numpy() for x in (var, m, seen)])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("cautious", [False, True])
def test_a_half_precision_variable_takes_a_float32_gradient_as_it_is(
    dtype, cautious
):
    rng = np.random.default_rng(0)
    start = random(rng, (ROWS, DIM), dtype)
    grad = random(rng, (ROWS, DIM), "float32")
    ids = tf.constant(rng.integers(0, ROWS, ROWS))
    results = []
    for ops in (custom_op, python):
        var, m = tf.Variable(start), tf.Variable(tf.zeros([ROWS, DIM]))
        ops.resource_apply_lion(var, m, *RULE, grad, cautious)
        ops.resource_sparse_apply_lion(var, m, *RULE, grad, ids, cautious)
        results.append([np.array(x, np.float32) for x in (var, m)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 400)),
    rows=st.integers(1, 300),
)
def test_any_ids_update_their_rows_or_are_refused(ids, rows):
    var = tf.Variable(tf.zeros([rows, 2]))
    m = tf.Variable(tf.zeros([rows, 2]))
    grad = tf.ones([len(ids), 2])
    indices = tf.constant(ids, tf.int64)
    if all(0 <= i < rows for i in ids):
        custom_op.resource_sparse_apply_lion(var, m, *RULE, grad, indices)
        counts = np.bincount(np.array(ids, np.int64), minlength=rows)
        expected = np.float32(1 - np.float32(0.99)) * counts
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="`indices`"):
            custom_op.resource_sparse_apply_lion(var, m, *RULE, grad, indices)
        expected = np.zeros(rows)
    np.testing.assert_allclose(m.numpy()[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(var.numpy()[:, 1] != 0, expected > 0)


DIGEST = """
import hashlib
import numpy as np, tensorflow as tf
from optimizers.ops import custom_op
rng = np.random.default_rng(0)
shape = (5000, 33)
var = tf.Variable(rng.normal(size=shape).astype(np.float32))
m = tf.Variable(tf.zeros(shape, tf.bfloat16))
rule = (0.1, 0.9, 0.99, 0.05)
for step, cautious in enumerate((False, True)):
    options = (cautious, 0, step)
    grad = rng.normal(size=(60_000, 33)).astype(np.float32)
    grad[::7] *= 1e-39  # subnormals
    ids = rng.zipf(1.2, size=60_000) % 5000
    custom_op.resource_sparse_apply_lion(var, m, *rule, grad, ids, *options)
    custom_op.resource_apply_lion(var, m, *rule, grad[:5000], *options)
state = var.numpy().tobytes() + tf.cast(m, tf.float32).numpy().tobytes()
digest = hashlib.sha256(state).hexdigest()
"""
THREADS = """
import sys
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
exec(sys.argv[2])
open(sys.argv[3], "w").write(digest)
"""


def test_any_number_of_threads_and_any_run_give_the_same_bits(tmp_path):
    digests = []
    for _ in range(2):  # with as many threads as this machine has cores
        found = {}
        exec(DIGEST, found)
        digests.append(found["digest"])
    (tmp_path / "threads.py").write_text(THREADS)
    for threads in ("1", "7"):
        words = ["threads", threads, DIGEST, str(tmp_path / threads)]
        process = forks.start(words, tmp_path, tmp_path / "log.txt")
        process.join(300)
        assert process.exitcode == 0, (tmp_path / "log.txt").read_text()
        digests.append((tmp_path / threads).read_text())
    assert len(digests[0]) == 64
    assert len(set(digests)) == 1


def call(name="resource_sparse_apply_lion", **changed):
    """Calls an op of the library with arguments that fit but for `changed`."""
    var = tf.Variable(tf.ones([4, 2]))
    m = tf.Variable(tf.ones([4, 2]))
    last_step = tf.Variable(tf.ones([4], tf.int32))
    rates = ("lr", "beta_1", "beta_2", "weight_decay")
    arguments = {
        "var": var.handle,
        "m": m.handle,
        **{rate: tf.constant(0.5) for rate in rates},
        "seed": tf.constant(3),
        "step": tf.constant(5),
        "grad": tf.ones([2, 2]),
        "T": tf.float32,
        "M": tf.float32,
    }
    if "sparse" in name:
        arguments["indices"] = tf.constant([1, 3])
    else:
        arguments["grad"] = tf.ones([4, 2])
    if "decayed" in name:
        arguments["last_step"] = last_step.handle
    if "resource" not in name:
        arguments.update(var=tf.ones([4, 2]), m=tf.ones([4, 2]))
        del arguments["T"], arguments["M"]
    arguments.update(changed)
    before = [x.numpy() for x in (var, m, last_step)]
    try:
        return getattr(load().ops, name)(**arguments)
    except (tf.errors.OpError, ValueError, TypeError):
        for variable, value in zip((var, m, last_step), before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)
        raise


NAMES = [
    "resource_apply_lion",
    "resource_sparse_apply_lion",
    "resource_sparse_apply_decayed_lion",
    "lion_update",
    "sparse_lion_update",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lr", [0.5, 0.5]),
        ("beta_1", [[0.5]]),
        ("beta_2", []),
        ("weight_decay", [0.5]),
        ("grad", [[1.0, 1.0, 1.0]] * 2),
        ("grad", 1.0),
        ("grad", [1.0, 1.0]),
    ],
)
def test_a_wrong_shape_is_refused_by_the_arguments_name(name, argument, value):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{argument}`"):
        call(name, **{argument: tf.constant(value, tf.float32)})


@pytest.mark.parametrize("name", [n for n in NAMES if "sparse" in n])
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 4], r"`indices` must be in \[0, 4\).*indices\[1\] = 4"),
        ([-1, 3], r"`indices`.*indices\[0\] = -1"),
        ([[1], [3]], r"`indices` must be a vector"),
        (1, r"`indices` must be a vector"),
        ([1, 2, 3], r"`grad` must have the shape \[3,2\]"),
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_wrong_indices_are_refused(name, indices, message, dtype):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(name, indices=tf.constant(indices, dtype))


@pytest.mark.parametrize("name", NAMES[:3])
def test_wrong_variables_are_refused_by_their_names(name):
    invalid = tf.errors.InvalidArgumentError
    short = tf.Variable(tf.ones([3, 2]))
    double = tf.Variable(tf.ones([4, 2], tf.float64))
    same = tf.Variable(tf.ones([4, 2]))
    with pytest.raises(invalid, match="`m` must have the shape"):
        call(name, m=short.handle)
    with pytest.raises(invalid, match="`var` must be of dtype float"):
        call(name, var=double.handle)
    with pytest.raises(invalid, match="`m` must be of dtype half"):
        call(name, M=tf.float16)
    with pytest.raises(invalid, match="`m` must be another variable"):
        call(name, var=same.handle, m=same.handle)
    with pytest.raises(invalid, match=r"`lr`, `beta_1`.*dtype float"):
        rates = ("lr", "beta_1", "beta_2", "weight_decay")
        call(name, **{r: tf.constant(0.5, tf.float64) for r in rates})
    with pytest.raises((TypeError, ValueError, tf.errors.OpError)):
        call(name, grad=tf.ones([4, 2], tf.int32))
    with pytest.raises(invalid, match="`grad` must be of dtype float or float"):
        call(name, grad=tf.ones([4, 2], tf.bfloat16))


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("argument", ["var", "m"])
def test_an_uninitialized_variable_is_refused_by_its_name(name, argument):
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[4, 2])
    with pytest.raises(
        tf.errors.FailedPreconditionError, match=f"`{argument}` must be an init"
    ):
        call(name, **{argument: handle})


def test_a_wrong_step_or_last_step_is_refused():
    name = "resource_sparse_apply_decayed_lion"
    invalid = tf.errors.InvalidArgumentError
    with pytest.raises(invalid, match="`step`"):
        call(name, step=tf.constant([1]))
    with pytest.raises(invalid, match="`last_step` must have the shape"):
        call(name, last_step=tf.Variable(tf.ones([3], tf.int32)).handle)
    with pytest.raises(invalid, match="`last_step` must be of dtype int32"):
        call(name, last_step=tf.Variable(tf.ones([4])).handle)


def test_no_ids_change_nothing_not_even_the_steps():
    var, m = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2]))
    last_step = tf.Variable(tf.ones([4], tf.int32))
    none = (tf.zeros([0, 2]), tf.zeros([0], tf.int64))
    custom_op.resource_sparse_apply_lion(var, m, *RULE, *none)
    custom_op.resource_sparse_apply_decayed_lion(
        var, m, last_step, 9, *RULE, *none
    )
    for variable in (var, m, last_step):
        np.testing.assert_array_equal(variable, np.ones(variable.shape))


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 3)])
def test_variables_without_elements_are_updated_in_peace(shape):
    var, m = tf.Variable(tf.ones(shape)), tf.Variable(tf.ones(shape))
    custom_op.resource_apply_lion(var, m, *RULE, tf.ones(shape), True)
    ids = tf.zeros([2 if shape[0] else 0], tf.int32)
    grad = tf.ones([ids.shape[0], *shape[1:]])
    custom_op.resource_sparse_apply_lion(var, m, *RULE, grad, ids, True)
    assert var.numpy().size == 0


@pytest.mark.parametrize("ops", [custom_op, python], ids=["custom", "python"])
def test_a_bfloat16_momentum_gathers_what_rounding_to_nearest_loses(ops):
    # (1 - beta_2) * (g - m) is a tenth of a unit in the last place of m.
    elements, steps = 4096, 400
    start, grad = 1.0, 1.078125
    var = tf.Variable(tf.zeros([elements]))
    m = tf.Variable(tf.fill([elements], tf.constant(start, tf.bfloat16)))
    for step in range(steps):
        ops.resource_apply_lion(
            *(var, m, 1e-3, 0.9, 0.99, 0.0, tf.fill([elements], grad)),
            seed=1,
            step=step,
        )
    nearest = tf.constant(start, tf.bfloat16)
    for _ in range(steps):
        exact = 0.99 * tf.cast(nearest, tf.float32) + (1 - 0.99) * grad
        nearest = tf.cast(exact, tf.bfloat16)
    assert float(nearest) == start
    expected = grad - (grad - start) * 0.99**steps
    mean = tf.reduce_mean(tf.cast(m, tf.float32))
    np.testing.assert_allclose(mean, expected, atol=2e-3)


def test_seeds_round_differently_and_each_the_same_again():
    rng = np.random.default_rng(0)
    grad = random(rng, (1000,), "float32")
    results = {}
    for seed in (0, 0, 1):
        zeros = tf.zeros([1000], tf.bfloat16)
        m = custom_op.lion_update(grad, zeros, grad, *RULE, seed=seed, step=1)[
            1
        ]
        if seed in results:
            np.testing.assert_array_equal(results[seed], m.numpy())
        results[seed] = m.numpy()
    share = np.mean(results[0] != results[1])
    assert 0.2 < share < 0.6


def test_an_update_is_in_place_unless_a_reader_holds_the_old_value():
    var, m = tf.Variable(tf.zeros([8, 2])), tf.Variable(tf.zeros([8, 2]))
    held = var.read_value()
    ids = tf.constant([1])
    custom_op.resource_sparse_apply_lion(var, m, *RULE, tf.ones([1, 2]), ids)
    custom_op.resource_apply_lion(var, m, *RULE, tf.ones([8, 2]))
    assert not held.numpy().any()
    assert var.numpy().all()


def test_threads_update_variables_of_their_own_and_one_in_common():
    count, steps = 6, 40
    shape = (64, 8)
    own = [
        (tf.Variable(tf.zeros(shape)), tf.Variable(tf.zeros(shape)))
        for _ in range(count)
    ]
    shared = (tf.Variable(tf.zeros(shape)), tf.Variable(tf.zeros(shape)))
    grad, ids = tf.ones([64, 8]), tf.range(64)
    failures = []

    def work(pair):
        try:
            for _ in range(steps):
                for var, m in (pair, shared):
                    custom_op.resource_sparse_apply_lion(
                        var, m, 1.0, 0.9, 0.99, 0.0, grad, ids
                    )
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for var, _ in own:
        np.testing.assert_array_equal(var.numpy(), -float(steps))
    np.testing.assert_array_equal(shared[0].numpy(), -float(count * steps))


def test_threads_that_update_distinct_variables_follow_the_reference():
    steps, shape, rule = 20, (3000, 16), (0.01, 0.9, 0.99, 0.1)

    def gradients(number):
        rng = np.random.default_rng(number)
        for step in range(steps):
            values = rng.normal(size=shape).astype(np.float32)
            ids = rng.integers(0, 500, shape[0])
            yield values if step % 2 else (values, ids)

    start = np.random.default_rng(9).normal(size=shape).astype(np.float32)
    pairs = [(tf.Variable(start), tf.Variable(0 * start)) for _ in range(8)]

    def work(number):
        var, m = pairs[number]
        for gradient in gradients(number):
            if isinstance(gradient, tuple):
                custom_op.resource_sparse_apply_lion(var, m, *rule, *gradient)
            else:
                custom_op.resource_apply_lion(var, m, *rule, gradient)

    with ThreadPoolExecutor(len(pairs)) as pool:
        list(pool.map(work, range(len(pairs))))
    for number, (var, m) in enumerate(pairs):
        reference = ReferenceLion(start.copy(), *rule)
        for gradient in gradients(number):
            reference.step(gradient)
        for actual, expected in ((var, reference.theta), (m, reference.m)):
            np.testing.assert_allclose(
                actual.numpy(), expected, rtol=1e-5, atol=1e-6
            )


def test_shapes_are_inferred_and_refused_while_tracing():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3]),
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def update(var, grad, ids):
        new = custom_op.sparse_lion_update(var, var, grad, ids, *RULE)
        assert new[0].shape.as_list() == [None, 3]
        assert new[1].shape.as_list() == [None, 3]
        return new

    assert update(tf.ones([4, 3]), tf.ones([1, 3]), [2])[0].shape == (4, 3)

    @tf.function
    def wrong():
        return custom_op.lion_update(
            tf.ones([4]), tf.ones([4]), tf.ones([5]), *RULE
        )

    with pytest.raises(ValueError, match="Dimension"):
        wrong()
