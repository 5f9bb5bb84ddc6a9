"""From specs to optimizers: every name, schedules, groups, and what to log."""

from __future__ import annotations

import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import optimizers
from optimizers import (
    GroupedOptimizer,
    Lion,
    build_optimizer,
    contract,
    learning_rates,
    names,
    slot_bytes,
)
from optimizers.config.catalog import CLASSES

GROUPS = {
    "groups": [
        {"match": "wide/.*", "name": "ftrl", "learning_rate": 0.5},
        {"match": ".*", "name": "lion", "learning_rate": 0.01},
    ]
}


def wide_and_deep():
    keras.utils.set_random_seed(0)
    ids = keras.Input((2,), dtype="int32")
    wide = keras.layers.Embedding(20, 1, name="wide")(ids)
    deep = keras.layers.Embedding(20, 4, name="deep")(ids)
    deep = keras.layers.Flatten()(deep)
    logit = keras.layers.Dense(1, name="head")(deep)
    total = keras.ops.sum(wide, axis=1) + logit
    return keras.Model(ids, keras.ops.sigmoid(total))


def clicks():
    ids = np.random.default_rng(0).integers(0, 20, size=(256, 2))
    return ids, (ids[:, 0] < 10).astype(np.float32)


@pytest.mark.parametrize("name", names())
def test_every_name_builds_an_optimizer_that_moves_a_weight(name):
    optimizer = build_optimizer({"name": name, "learning_rate": 1}, 10)
    assert type(optimizer).__name__.lower() == name
    variable = keras.Variable(np.ones((3, 2), np.float32))
    optimizer.apply([tf.ones((3, 2))], [variable])
    assert (variable.numpy() < 1).all()
    assert list(learning_rates(optimizer)) == [name]


def test_arguments_reach_the_optimizer_and_defaults_are_the_classs():
    lion = build_optimizer(
        {"name": "lion", "sparse": "decayed", "cautious": True, "clipnorm": 2},
        10,
    )
    assert isinstance(lion, Lion)
    assert (lion.sparse, lion.cautious, lion.clipnorm) == ("decayed", True, 2)
    assert learning_rates(lion) == {"lion": pytest.approx(1e-4)}
    sgd = build_optimizer({"name": "sgd", "schedule": {"name": "constant"}}, 1)
    assert learning_rates(sgd) == {"sgd": pytest.approx(0.01)}


def test_without_a_schedule_the_rate_can_be_set():
    lion = build_optimizer({"name": "lion", "learning_rate": 0.5}, 10)
    lion.learning_rate = 0.25
    assert learning_rates(lion) == {"lion": 0.25}


@pytest.mark.parametrize("warmup", [2, 2.0, 0.25])
def test_a_schedule_warms_up_over_steps_or_a_share_of_the_run(warmup):
    schedule = {"name": "linear", "warmup": warmup, "final": 0.5}
    spec = {"name": "lion", "learning_rate": 0.4, "schedule": schedule}
    lion = build_optimizer(spec, 8)
    variable, rates = keras.Variable(0.0), []
    for _ in range(8):
        rates.append(learning_rates(lion)["lion"])
        lion.apply([tf.constant(1.0)], [variable])
    expected = [0.2, 0.4, *(0.4 * (1 - 0.5 * i / 6) for i in range(6))]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.parametrize("total_steps", [0, -1, 1.5, None, True])
def test_total_steps_must_be_a_positive_integer(total_steps):
    with pytest.raises(ValueError, match=r"`total_steps`.*>= 1. Received"):
        build_optimizer({"name": "lion"}, total_steps)


def test_a_warmup_as_long_as_the_run_is_refused():
    spec = {"name": "lion", "schedule": {"name": "cosine", "warmup": 500}}
    with pytest.raises(ValueError, match=r"warmup`.*39 steps.*Received: 500"):
        build_optimizer(spec, 39)


def test_build_refuses_what_validate_refuses():
    with pytest.raises(ValueError, match=r"did you mean 'lion'\?"):
        build_optimizer({"name": "lyon"}, 10)


def test_groups_train_each_variable_with_the_first_that_matches():
    optimizer = build_optimizer(GROUPS, 8)
    assert isinstance(optimizer, GroupedOptimizer)
    model = wide_and_deep()
    model.compile(optimizer, "binary_crossentropy", metrics=["AUC"])
    before = [w.numpy() for w in model.trainable_variables]
    x, y = clicks()
    history = model.fit(x, y, batch_size=32, epochs=3, verbose=0).history
    assert history["AUC"][-1] > 0.9
    assert int(optimizer.iterations) == 24
    ftrl, lion = optimizer.groups.values()
    assert [v.path for v in ftrl._trainable_variables] == ["wide/embeddings"]
    assert len(lion._trainable_variables) == 3
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert (old != new.numpy()).any()
    # FTRL: two slots of 20; Lion: 20 x 4, 8 and 1; all float32.
    assert slot_bytes(optimizer) == 4 * (2 * 20 + 80 + 8 + 1)


def test_groups_keep_sparse_gradients_sparse():
    tables = [
        keras.Variable(np.ones((5, 2), np.float32), name=name)
        for name in ("a", "b")
    ]
    optimizer = build_optimizer(
        {
            "groups": [
                {"match": "a", "name": "lion", "weight_decay": 0.5},
                {"match": "b", "name": "lion", "sparse": "dense"},
            ]
        },
        8,
    )
    gradient = tf.IndexedSlices(tf.ones((1, 2)), [3], [5, 2])
    optimizer.apply([gradient, gradient], tables)
    changed = (tables[0].numpy() != 1).any(axis=1)
    assert changed.tolist() == [False, False, False, True, False]


def test_a_schedule_scales_each_groups_own_rate_but_not_that_of_ftrl():
    spec = {
        "groups": [
            *GROUPS["groups"][:1],
            {"match": "deep/.*", "name": "adam", "learning_rate": 0.2},
            {"match": ".*", "name": "lion", "learning_rate": 0.01},
        ],
        "schedule": {"name": "cosine", "warmup": 4},
    }
    optimizer = build_optimizer(spec, 8)
    assert learning_rates(optimizer) == pytest.approx(
        {"wide/.*": 0.5, "deep/.*": 0.05, ".*": 0.0025}
    )


def test_ftrl_weights_shrink_with_the_rate_which_is_why_it_has_no_schedule():
    ftrl = keras.optimizers.Ftrl(1.0)
    variable = keras.Variable([0.0])
    for _ in range(5):
        ftrl.apply([tf.constant([-1.0])], [variable])
    learnt = float(variable.numpy()[0])
    ftrl.learning_rate = 0.01
    ftrl.apply([tf.constant([0.0])], [variable])
    assert float(variable.numpy()[0]) == pytest.approx(0.01 * learnt, rel=1e-3)


def test_a_variable_without_a_group_is_an_error_that_names_it():
    optimizer = build_optimizer({"groups": GROUPS["groups"][:1]}, 8)
    variable = keras.Variable(0.0, name="bias")
    with pytest.raises(ValueError, match=r"\['wide/\.\*'\].*'bias'.*match: '"):
        optimizer.build([variable])


def test_a_group_without_a_variable_is_a_warning_that_lists_the_paths():
    optimizer = build_optimizer(GROUPS, 8)
    variable = keras.Variable(0.0, name="bias")
    with pytest.warns(UserWarning, match=r"'wide/\.\*' gets no.*: bias"):
        optimizer.build([variable])


def test_a_pattern_matches_the_whole_path():
    optimizer = build_optimizer(GROUPS, 8)
    for name, expected in {"wide": ".*", "wide_bias": ".*"}.items():
        variable = keras.Variable(0.0, name=name)
        assert optimizer._optimizer_map.pattern(variable) == expected


def test_a_grouped_model_is_saved_once_and_continues(tmp_path):
    x, y = clicks()
    model = wide_and_deep()
    spec = {**GROUPS, "schedule": {"name": "linear", "warmup": 2}}
    model.compile(build_optimizer(spec, 16), "binary_crossentropy")
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    slots = []
    with h5py.File(tmp_path / "model.weights.h5") as weights:
        weights["optimizer"].visit(slots.append)
    # The step; FTRL's step, rate and 2 slots; Lion's step and 3 slots.
    assert sum("vars/" in slot for slot in slots) == 1 + 4 + 4
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, GroupedOptimizer)
    assert int(loaded.optimizer.iterations) == 8
    assert learning_rates(loaded.optimizer) == learning_rates(model.optimizer)
    for one in (model, loaded):
        one.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    for a, b in zip(
        model.weights + model.optimizer.variables,
        loaded.weights + loaded.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_tensorflow_checkpoint_restores_every_group(tmp_path):
    def trained(steps):
        variables = [
            keras.Variable([1.0, 2.0], name="kernel"),
            keras.Variable([1.0], name="bias"),
        ]
        spec = {
            "groups": [
                {"match": "kernel", "name": "adam"},
                {"match": ".*", "name": "lion"},
            ]
        }
        optimizer = build_optimizer(spec, 8)
        optimizer.build(variables)
        for _ in range(steps):
            optimizer.apply([tf.constant([1.0, -1.0]), tf.constant([1.0])])
        return optimizer

    saved, fresh = trained(3), trained(0)
    path = tf.train.Checkpoint(optimizer=saved).save(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(optimizer=fresh).restore(path).expect_partial()
    for a, b in zip(saved.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_loss_scale_is_one_for_all_groups():
    spec = {**GROUPS, "loss_scale_factor": 8.0}
    optimizer = build_optimizer(spec, 8)
    assert float(optimizer.scale_loss(1.0)) == 8
    assert {o.loss_scale_factor for o in optimizer.groups.values()} == {8.0}
    lion = optimizer.groups[".*"]
    variable = keras.Variable(np.zeros((3, 2), np.float32), name="table")
    gradient = tf.IndexedSlices(tf.fill((1, 2), 8.0), [1], [3, 2])
    with pytest.warns(UserWarning, match="gets no variable"):
        optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(lion._momentums[0].numpy()[1], 0.01, rtol=1e-5)


def test_slot_bytes_count_the_slots_and_nothing_before_build():
    variable = keras.Variable(np.zeros((10, 4), np.float32))
    for arguments, expected in [
        ({}, 160),
        ({"momentum_dtype": "bfloat16"}, 80),
        ({"sparse": "decayed"}, 160 + 40),
    ]:
        lion = build_optimizer({"name": "lion", **arguments}, 8)
        assert slot_bytes(lion) == 0
        lion.build([variable])
        assert slot_bytes(lion) == expected


def test_rates_are_read_through_a_loss_scale_optimizer():
    lion = build_optimizer({"name": "lion", "learning_rate": 0.5}, 8)
    wrapped = keras.optimizers.LossScaleOptimizer(lion)
    assert learning_rates(wrapped) == {"lion": 0.5}


OWN = """
import keras

class Halved(keras.optimizers.SGD):
    def __init__(self, half=1.0, **options):
        super().__init__(**options)
        self.half = half

def none(**options):
    return None
"""


@pytest.fixture
def own_rule(tmp_path, monkeypatch):
    (tmp_path / "my_halved_rules.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return {"name": "my_halved_rules:Halved", "learning_rate": 0.5}


@pytest.mark.parametrize("name", names())
def test_every_optimizer_keeps_to_the_contract(name):
    contract.check(name)


def test_every_optimizer_has_a_class_and_arguments() -> None:
    assert set(CLASSES.names) == set(optimizers.names())
    for name in CLASSES.names:
        assert issubclass(CLASSES.load(name), keras.optimizers.Optimizer)


@pytest.mark.parametrize("grouped", [False, True])
def test_an_optimizer_of_the_users_own_trains(own_rule, grouped) -> None:
    spec = {**own_rule, "half": 2.0}
    if grouped:
        spec = {"groups": [{"match": ".*", **spec}]}
    else:
        spec["schedule"] = {"name": "linear"}
    assert "half" in str(optimizers.resolved(spec))
    optimizer = optimizers.build_optimizer(spec, 10)
    weight = keras.Variable([1.0, 2.0], name="w")
    optimizer.build([weight])
    optimizer.apply([keras.ops.ones(2)], [weight])
    assert weight.numpy().tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": None}, ["learning_rate: missing", "your own"]),
        ({"clipnorm": -1.0}, ["optimizer.clipnorm"]),
        ({"hlaf": 1.0}, ["my_halved_rules:Halved", "cannot be made", "hlaf"]),
        ({"name": "my_halved_rules:none"}, ["optimizer.name", "NoneType"]),
        ({"name": "my_halved_rules:Half"}, ["optimizer.name", "has no 'Half'"]),
        ({"name": "nowhere:Half"}, ["optimizer.name", "nowhere"]),
    ],
)
def test_an_own_optimizer_that_does_not_fit_is_refused(
    own_rule, change, words
) -> None:
    with pytest.raises(ValueError) as error:
        optimizers.build_optimizer({**own_rule, **change}, 10)
    for word in words:
        assert word in str(error.value)
    with pytest.raises(ValueError, match="Keras 2"):
        optimizers.validate(own_rule, keras=2)
