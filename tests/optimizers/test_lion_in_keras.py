"""Lion inside Keras: fit, saved state, EMA, weight decay, precision."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tables import MODES, SHAPE, built, gradients, slices, table

from optimizers import Lion, kernel_status
from optimizers.ops import build, library


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def ctr_model():
    keras.utils.set_random_seed(0)
    ids = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(50, 4, name="embedding")(ids)
    x = keras.layers.Flatten()(x)
    click = keras.layers.Dense(1, activation="sigmoid", name="head")(x)
    return keras.Model(ids, click)


def clicks(rows=512):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, size=(rows, 3))
    return ids, (ids[:, 0] < 25).astype(np.float32)


@pytest.mark.parametrize("weight_decay", [None, 0.1])
@pytest.mark.parametrize("densified", [True, False])
def test_dense_mode_equals_keras_lion_over_100_steps(weight_decay, densified):
    ours, theirs = table(), table()
    lion = built([ours], sparse="dense", weight_decay=weight_decay)
    stock = keras.optimizers.Lion(0.01, weight_decay=weight_decay)
    for gradient in gradients(100):
        if densified:
            gradient = tf.convert_to_tensor(gradient)
        lion.apply([gradient], [ours])
        stock.apply([gradient], [theirs])
    a, b = lion._momentums[0].numpy(), stock._momentums[0].numpy()
    if densified:
        np.testing.assert_array_equal(a, b)
    else:
        # Keras scales the slices before it sums them: other rounding.
        np.testing.assert_allclose(a, b, atol=1e-7)
    if weight_decay is None:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_state_saved_by_keras_lion_loads_and_continues(sparse):
    ours, theirs = table(), table()
    stock = keras.optimizers.Lion(0.01, beta_1=0.8)
    for gradient in gradients(10):
        stock.apply([gradient], [theirs])
    state = {}
    stock.save_own_variables(state)

    config = stock.get_config()
    lion = Lion.from_config({**config, "sparse": sparse})
    lion.build([ours])
    assert [v.path for v in lion.variables] == [v.path for v in stock.variables]
    lion.load_own_variables(state)
    ours.assign(theirs)
    assert int(lion.iterations) == 10
    for gradient in gradients(10, seed=1):
        full = gradient if sparse == "dense" else tf.convert_to_tensor(gradient)
        lion.apply([full], [ours])
        stock.apply([full], [theirs])
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("sparse", MODES)
def test_a_saved_model_continues_as_if_it_had_not_been_saved(tmp_path, sparse):
    x, y = clicks(64)
    model = ctr_model()
    lion = Lion(0.01, weight_decay=0.01, sparse=sparse, cautious=True)
    model.compile(lion, "binary_crossentropy")
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert isinstance(loaded.optimizer, Lion)
    assert loaded.optimizer.get_config() == lion.get_config()
    assert int(loaded.optimizer.iterations) == 4
    for one in (model, loaded):
        one.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    for a, b in zip(
        model.weights + lion.variables,
        loaded.weights + loaded.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("sparse", MODES)
def test_a_tensorflow_checkpoint_restores_variables_and_slots(tmp_path, sparse):
    variable = table()
    lion = built([variable], sparse=sparse, weight_decay=0.1)
    for gradient in gradients(3):
        lion.apply([gradient], [variable])
    path = tf.train.Checkpoint(optimizer=lion).save(str(tmp_path / "ckpt"))
    fresh = built([table()], sparse=sparse, weight_decay=0.1)
    status = tf.train.Checkpoint(optimizer=fresh).restore(path)
    status.assert_existing_objects_matched()
    for a, b in zip(lion.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("sparse", "jit_compile"),
    [("lazy", False), ("lazy", True), ("decayed", True), ("dense", False)],
)
def test_fit_learns_with_an_embedding(sparse, jit_compile):
    x, y = clicks()
    model = ctr_model()
    model.compile(
        Lion(0.01, sparse=sparse),
        "binary_crossentropy",
        metrics=["AUC"],
        jit_compile=jit_compile,
    )
    history = model.fit(x, y, batch_size=32, epochs=4, verbose=0).history
    assert history["AUC"][-1] > 0.95
    assert history["loss"][-1] < history["loss"][0]


def test_lazy_fit_leaves_unseen_ids_alone():
    x, y = clicks()
    model = ctr_model()
    model.compile(Lion(0.01, weight_decay=0.1), "binary_crossentropy")
    before = model.get_layer("embedding").embeddings.numpy()
    x = np.minimum(x, 39)
    model.fit(x, y, verbose=0)
    after = model.get_layer("embedding").embeddings.numpy()
    np.testing.assert_array_equal(after[40:], before[40:])
    assert (after[:40] != before[:40]).all()


def test_ema_averages_the_whole_table():
    variable = table(1.0)
    lion = built([variable], use_ema=True, ema_momentum=0.5)
    average = None
    for gradient in gradients(4):
        lion.apply([gradient], [variable])
        now = variable.numpy()
        average = now if average is None else 0.5 * average + 0.5 * now
    lion.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=1e-6)


def test_weight_decay_spares_what_is_excluded():
    kept, excluded = table(name="kernel"), table(name="bias")
    lion = Lion(0.01, weight_decay=0.5)
    lion.exclude_from_weight_decay(var_names=["bias"])
    lion.apply([tf.zeros(SHAPE)] * 2, [kept, excluded])
    np.testing.assert_allclose(kept.numpy(), 0.5 - 0.01 * 0.5 * 0.5)
    np.testing.assert_array_equal(excluded.numpy(), 0.5)


def test_weight_decay_reaches_the_rows_of_the_batch_only_unless_dense():
    for sparse in MODES:
        variable = table()
        lion = built([variable], sparse=sparse, weight_decay=0.5)
        lion.apply([slices(np.zeros((1, 4)), [3])], [variable])
        decayed = (variable.numpy() != 0.5).all(axis=1)
        assert decayed.sum() == (SHAPE[0] if sparse == "dense" else 1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_fit_in_bfloat16_learns(policy):
    x, y = clicks()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = ctr_model()
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(Lion(0.01), "binary_crossentropy", metrics=["AUC"])
    history = model.fit(x, y, batch_size=32, epochs=4, verbose=0).history
    assert history["AUC"][-1] > 0.9


def test_loss_scale_optimizer_around_lion_trains_with_an_embedding():
    x, y = clicks(64)
    losses = []
    for wrap in (lambda o: o, keras.optimizers.LossScaleOptimizer):
        model = ctr_model()
        model.compile(wrap(Lion(0.01)), "binary_crossentropy")
        history = model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_lion_updates_under_a_mirrored_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        mirrored = table()
        lion = built([mirrored], sparse="decayed", weight_decay=0.1)
    plain = table()
    alone = built([plain], sparse="decayed", weight_decay=0.1)

    @tf.function
    def step(values, indices):
        def replica(values, indices):
            gradient = tf.IndexedSlices(values, indices, tf.constant(SHAPE))
            lion.apply([gradient], [mirrored])

        strategy.run(replica, args=(values, indices))

    for gradient in gradients(4):
        step(gradient.values, tf.cast(gradient.indices, tf.int32))
        alone.apply([gradient], [plain])
    np.testing.assert_allclose(mirrored.numpy(), plain.numpy(), rtol=1e-6)


def test_plain_tensorflow_variables_are_accepted():
    variable = tf.Variable(np.full(SHAPE, 0.5, np.float32))
    lion = Lion(0.01, sparse="decayed", momentum_dtype="bfloat16")
    lion.apply_gradients([(slices(np.ones((1, 4)), [2]), variable)])
    np.testing.assert_allclose(variable.numpy()[2], [0.49] * 4)


def test_a_keras_schedule_sets_the_rate_of_each_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1, 2], [0.1, 0.2, 0.4]
    )
    variable = table(0.0)
    lion = Lion(schedule)
    positions = []
    for _ in range(4):
        lion.apply([tf.ones(SHAPE)], [variable])
        positions.append(float(variable.numpy()[0, 0]))
    np.testing.assert_allclose(positions, [-0.1, -0.2, -0.4, -0.8], rtol=1e-6)


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
    serialized = keras.optimizers.serialize(Lion(**arguments))
    again = keras.optimizers.deserialize(serialized)
    assert isinstance(again, Lion)
    assert again.get_config() == config


def test_auto_takes_the_ops_where_they_are_built_and_tells_why():
    path, reason = build.find()
    kernel, told = kernel_status()
    assert kernel == ("python" if path is None else "custom_op")
    assert reason in told
    assert Lion().kernel_in_use == kernel
    assert Lion(kernel="python").kernel_in_use == "python"
    assert Lion().get_config()["kernel"] == "auto"


@pytest.mark.parametrize("sparse", MODES)
@pytest.mark.parametrize("momentum_dtype", ["float32", "bfloat16"])
def test_updates_compiled_by_xla_follow_the_python_kernel(
    sparse, momentum_dtype
):
    variables = []
    for kernel in ("xla", "python"):
        variable = table()
        lion = built(
            [variable],
            sparse=sparse,
            kernel=kernel,
            momentum_dtype=momentum_dtype,
            weight_decay=0.1,
        )
        assert lion.kernel_in_use == kernel
        for gradient in gradients(4):
            lion.apply([gradient], [variable])
        lion.apply([tf.ones(SHAPE)], [variable])
        variables.append(variable.numpy())
    np.testing.assert_allclose(*variables, rtol=1e-5)


def test_without_the_library_auto_falls_back_and_custom_op_is_refused(
    monkeypatch,
):
    missing = library.Library(None, "it is not built", False)
    monkeypatch.setattr(build, "find", lambda: (None, missing.reason))
    monkeypatch.setattr(library, "load", functools.cache(lambda: missing))
    kernel, told = kernel_status()
    assert kernel == "python"
    assert "it is not built" in told
    assert build.COMMAND in told
    assert Lion().kernel_in_use == "python"
    with pytest.raises(ValueError, match=r"not built.*Received: 'custom_op'"):
        Lion(kernel="custom_op")
    variable = table()
    Lion(0.25).apply([slices(np.ones((1, 4)), [2])], [variable])
    np.testing.assert_array_equal(variable.numpy()[2], [0.25] * 4)
