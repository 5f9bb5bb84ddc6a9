"""Lion for Keras 2: the reference's numbers, TFRS, saved state, clipping."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from reference import DTYPES, ReferenceLion
from tables import MODES, SHAPE, gradients, kernels, slices

import optimizers
from optimizers.tf_keras import Lion


@pytest.fixture(autouse=True)
def seed():
    tf_keras.utils.set_random_seed(0)


def table(value=0.5, dtype=tf.float32):
    return tf.Variable(tf.fill(SHAPE, tf.cast(value, dtype)), name="table")


def apply(lion, gradient, variable):
    lion.apply_gradients([(gradient, variable)])


def assert_follows(lion, variable, reference, tolerance=2e-6):
    pairs = [(variable, reference.theta), (lion.momentums[0], reference.m)]
    for actual, expected in pairs:
        np.testing.assert_allclose(
            actual.numpy().astype(np.float64),
            expected.astype(np.float64),
            rtol=tolerance,
            atol=tolerance * 0.1,
        )
    if lion.sparse == "decayed":
        np.testing.assert_array_equal(
            lion.last_steps[0].numpy(), reference.last_step
        )
    if lion.frequency_power:
        np.testing.assert_array_equal(lion.seen[0].numpy(), reference.seen)


@pytest.mark.pairs
@kernels
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sparse", "power"),
    [*((mode, 0.0) for mode in MODES), ("lazy", 0.35), ("decayed", 0.35)],
)
def test_dense_and_sparse_gradients_follow_the_reference(
    sparse, power, dtype, cautious, kernel
):
    arguments = {
        "sparse": sparse,
        "weight_decay": 0.1,
        "cautious": cautious,
        "frequency_power": power,
    }
    rng = np.random.default_rng(0)
    theta = rng.normal(size=SHAPE).astype(DTYPES[dtype])
    variable = tf.Variable(theta)
    lion = Lion(0.01, kernel=kernel, **arguments)
    reference = ReferenceLion(theta.copy(), 0.01, **arguments)
    for indices in ([5, 0, 5], [1], None, [5, 5, 5], [0, 2]):
        if indices is None:
            values = rng.normal(size=SHAPE).astype(DTYPES[dtype])
            apply(lion, tf.constant(values), variable)
            reference.step(values)
            continue
        values = rng.normal(size=(len(indices), SHAPE[1])).astype(DTYPES[dtype])
        apply(lion, tf.IndexedSlices(values, indices, SHAPE), variable)
        reference.step((values, np.array(indices)))
    tolerance = {"float32": 2e-6, "float64": 1e-13, "bfloat16": 1e-2}
    assert_follows(lion, variable, reference, tolerance[dtype])


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("sparse", MODES)
def test_both_versions_of_keras_give_the_same_bits(sparse, momentum_dtype):
    arguments = {"sparse": sparse, "momentum_dtype": momentum_dtype}
    two, three = table(), keras.Variable(table().numpy())
    lion_two = Lion(0.01, weight_decay=0.1, **arguments)
    lion_three = optimizers.Lion(0.01, weight_decay=0.1, **arguments)
    for gradient in gradients(10):
        apply(lion_two, gradient, two)
        lion_three.apply([gradient], [three])
    np.testing.assert_array_equal(two.numpy(), three.numpy())
    np.testing.assert_array_equal(
        lion_two.momentums[0].numpy(), lion_three._momentums[0].numpy()
    )


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_dense_mode_equals_keras_lion_over_100_steps(weight_decay):
    ours, theirs = table(), table()
    lion = Lion(0.01, weight_decay=weight_decay, sparse="dense")
    stock = tf_keras.optimizers.Lion(0.01, weight_decay=weight_decay)
    for gradient in gradients(100):
        dense = tf.convert_to_tensor(gradient)
        apply(lion, dense, ours)
        apply(stock, dense, theirs)
    np.testing.assert_array_equal(
        lion.momentums[0].numpy(), stock.momentums[0].numpy()
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


class Ranking(tfrs.Model):
    """Predicts the click from three ids, through a cross layer."""

    def __init__(self):
        super().__init__()
        self.scores = tf_keras.Sequential(
            [
                tf_keras.layers.Embedding(50, 4, input_length=3),
                tf_keras.layers.Flatten(),
                tfrs.layers.dcn.Cross(),
                tf_keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        self.task = tfrs.tasks.Ranking(tf_keras.losses.BinaryCrossentropy())

    def call(self, ids):
        return self.scores(ids)

    def compute_loss(self, inputs, training=False):
        ids, clicks = inputs
        return self.task(clicks, self(ids))


def clicks():
    ids = np.random.default_rng(0).integers(0, 50, size=(512, 3))
    return ids, (ids[:, :1] < 25).astype(np.float32)


@pytest.mark.parametrize(
    ("sparse", "jit_compile"),
    [("lazy", False), ("decayed", True), ("dense", False)],
)
def test_a_tfrs_model_learns(sparse, jit_compile):
    model = Ranking()
    model.compile(
        Lion(0.01, sparse=sparse, weight_decay=0.01), jit_compile=jit_compile
    )
    data = tf.data.Dataset.from_tensor_slices(clicks())
    batches = data.batch(32, drop_remainder=True)
    history = model.fit(batches, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_mixed_precision_model_with_loss_scaling_learns():
    ids, y = clicks()
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = Ranking()
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    scaled = tf_keras.mixed_precision.LossScaleOptimizer(Lion(0.01))
    before = None
    for _ in range(40):
        with tf.GradientTape() as tape:
            loss = model.compute_loss((ids, y))
            total = scaled.get_scaled_loss(loss)
        found = tape.gradient(total, model.trainable_variables)
        found = scaled.get_unscaled_gradients(found)
        scaled.apply_gradients(
            zip(found, model.trainable_variables, strict=True)
        )
        before = before or float(loss)
    assert isinstance(found[0], tf.IndexedSlices)
    assert float(loss) < 0.9 * before


@pytest.mark.parametrize("sparse", MODES)
def test_an_update_that_keras_compiles_by_itself_follows_the_reference(sparse):
    # Keras 2 sets `jit_compile` on a machine with a GPU.
    variable = table()
    lion = Lion(0.01, sparse=sparse, weight_decay=0.1)
    lion.jit_compile = True
    reference = ReferenceLion(
        table().numpy(), 0.01, sparse=sparse, weight_decay=0.1
    )

    @tf.function
    def step(values, indices):
        shape = tf.constant(SHAPE, tf.int64)
        apply(lion, tf.IndexedSlices(values, indices, shape), variable)

    for gradient in gradients(5):
        step(gradient.values, gradient.indices)
        reference.step((gradient.values.numpy(), gradient.indices.numpy()))
    assert_follows(lion, variable, reference)


def momentum_after(gradient, **arguments):
    """The summed and clipped gradient, read back from the momentum."""
    lion, variable = Lion(0.01, beta_2=0.0, **arguments), table()
    apply(lion, gradient, variable)
    return lion.momentums[0].numpy()


@pytest.mark.parametrize("limit", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("sparse", MODES)
def test_a_norm_is_taken_of_the_summed_rows(sparse, limit):
    gradient = slices(np.ones((3, 4)), [1, 1, 2])
    total = np.zeros(SHAPE, np.float32)
    total[1], total[2] = 2, 1
    actual = momentum_after(gradient, sparse=sparse, **{limit: 1.0})
    np.testing.assert_allclose(actual, total / np.linalg.norm(total), rtol=1e-6)


@pytest.mark.parametrize("sparse", MODES)
def test_clipvalue_clips_the_summed_rows(sparse):
    gradient = slices([[1.0] * 4, [-0.9] * 4, [3.0] * 4], [1, 1, 2])
    actual = momentum_after(gradient, sparse=sparse, clipvalue=0.5)
    np.testing.assert_allclose(actual[1], [0.1] * 4, rtol=1e-5)
    np.testing.assert_allclose(actual[2], [0.5] * 4)


@pytest.mark.parametrize("limits", [{}, {"clipnorm": 1.0}], ids=str)
def test_rows_outside_the_batch_keep_their_bits(limits):
    variable, lion = table(), Lion(0.01, weight_decay=0.5, **limits)
    apply(lion, slices(np.ones((2, 4)), [1, 1]), variable)
    changed = (variable.numpy() != 0.5).any(axis=1)
    assert changed.tolist() == [row == 1 for row in range(SHAPE[0])]


def test_ema_averages_the_whole_table():
    variable = table(1.0)
    lion = Lion(0.01, use_ema=True, ema_momentum=0.5)
    average = variable.numpy()
    for gradient in gradients(4):
        apply(lion, gradient, variable)
        average = 0.5 * average + 0.5 * variable.numpy()
    lion.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=1e-6)


def test_weight_decay_spares_what_is_excluded():
    kept = tf.Variable(tf.fill(SHAPE, 0.5), name="kernel")
    excluded = tf.Variable(tf.fill(SHAPE, 0.5), name="bias")
    lion = Lion(0.01, weight_decay=0.5)
    lion.exclude_from_weight_decay(var_names=["bias"])
    lion.apply_gradients([(tf.zeros(SHAPE), kept), (tf.zeros(SHAPE), excluded)])
    np.testing.assert_allclose(kept.numpy(), 0.5 - 0.01 * 0.5 * 0.5)
    np.testing.assert_array_equal(excluded.numpy(), 0.5)


def test_a_keras_schedule_sets_the_rate_of_each_step():
    schedule = tf_keras.optimizers.schedules.PiecewiseConstantDecay(
        [0, 1], [0.1, 0.2, 0.4]
    )
    variable, lion = table(0.0), Lion(schedule)
    positions = []
    for _ in range(4):
        apply(lion, tf.ones(SHAPE), variable)
        positions.append(float(variable.numpy()[0, 0]))
    np.testing.assert_allclose(positions, [-0.1, -0.3, -0.7, -1.1], rtol=1e-6)
    again = Lion.from_config(lion.get_config())
    assert again.get_config() == lion.get_config()


def test_the_config_makes_the_same_optimizer_again():
    arguments = {
        "learning_rate": 0.25,
        "beta_1": 0.5,
        "beta_2": 0.75,
        "weight_decay": 0.5,
        "sparse": "decayed",
        "kernel": "python",
        "momentum_dtype": "bfloat16",
        "cautious": True,
        "clipnorm": 2.0,
        "use_ema": True,
        "name": "mine",
    }
    config = Lion(**arguments).get_config()
    assert arguments.items() <= config.items()
    serialized = tf_keras.optimizers.serialize(Lion(**arguments))
    again = tf_keras.optimizers.deserialize(serialized)
    assert isinstance(again, Lion)
    assert again.get_config() == config


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("sparse", MODES)
def test_a_saved_model_continues_as_if_it_had_not_been_saved(
    tmp_path, sparse, suffix
):
    ids, y = clicks()
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Embedding(50, 4, input_length=3),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    lion = Lion(0.01, weight_decay=0.01, sparse=sparse, cautious=True)
    model.compile(lion, "binary_crossentropy")
    fit = {"batch_size": 128, "shuffle": False, "verbose": 0}
    model.fit(ids, y, **fit)
    model.save(tmp_path / f"model.{suffix}")
    loaded = tf_keras.models.load_model(tmp_path / f"model.{suffix}")

    assert isinstance(loaded.optimizer, Lion)
    assert loaded.optimizer.get_config() == lion.get_config()
    assert int(loaded.optimizer.iterations) == 4
    for one in (model, loaded):
        one.fit(ids, y, **fit)
    for a, b in zip(
        model.weights + lion.variables,
        loaded.weights + loaded.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("sparse", MODES)
def test_a_tensorflow_checkpoint_restores_the_slots(
    tmp_path, sparse, momentum_dtype
):
    arguments = {"sparse": sparse, "momentum_dtype": momentum_dtype}
    lion, variable = Lion(0.01, **arguments), table()
    for gradient in gradients(3):
        apply(lion, gradient, variable)
    path = tf.train.Checkpoint(optimizer=lion).save(str(tmp_path / "ckpt"))
    fresh = Lion(0.5, **arguments)
    fresh.build([table()])
    status = tf.train.Checkpoint(optimizer=fresh).restore(path)
    status.assert_existing_objects_matched()
    for a, b in zip(lion.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_checkpoint_of_keras_lion_loads_and_continues(tmp_path):
    stock, theirs = tf_keras.optimizers.Lion(0.01), table()
    for gradient in gradients(10):
        apply(stock, tf.convert_to_tensor(gradient), theirs)
    path = tf.train.Checkpoint(optimizer=stock).save(str(tmp_path / "ckpt"))
    lion, ours = Lion(0.01, sparse="dense"), table()
    lion.build([ours])
    tf.train.Checkpoint(optimizer=lion).restore(path)
    ours.assign(theirs)
    assert int(lion.iterations) == 10
    for gradient in gradients(10, seed=1):
        apply(lion, tf.convert_to_tensor(gradient), ours)
        apply(stock, tf.convert_to_tensor(gradient), theirs)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"learning_rate": -1.0},
            "`learning_rate`: received -1.0; accepted: .*than 0",
        ),
        (
            {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 9)},
            r"`learning_rate`.*tf_keras.*Received: <keras",
        ),
        ({"beta_1": 1.0}, "`beta_1`: received 1.0; accepted: less than 1"),
        ({"weight_decay": -0.1}, "`weight_decay`: received -0.1; accepted"),
        (
            {"sparse": "fast"},
            "`sparse`: .*'fast'; .* 'lazy', 'decayed' or 'dense'",
        ),
        ({"kernel": "cuda"}, r"`kernel`.*'auto'.*'python'.*'cuda'"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_accepted(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lion(**arguments)
