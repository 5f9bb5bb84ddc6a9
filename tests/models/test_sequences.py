"""Attention to sequences, against the papers' formulas written in NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from models.architectures.bst import places_of
from models.architectures.registry import build_model
from models.architectures.sequenced import Items
from models.config.training import Features, ModelConfig
from models.keras_versions import start_afresh
from models.layers.activation_unit import ActivationUnit
from models.layers.embedding import FusedTable
from models.layers.list_rows import padded, value_rows
from models.layers.transformer_block import Norm, TransformerBlock
from models.preprocessing.dummy_rows import empty_rows
from models.preprocessing.input_layout import (
    IdFeature,
    Layout,
    SequenceInput,
    layout,
)
from models.training import train_step
from pipeline.config_messages import explain

RNG = np.random.default_rng(1)
LENGTHS = [2, 0, 3, 1]
SEEN = IdFeature("seen", 12, 4, table="ad")
LAYOUT = Layout(
    single=(IdFeature("ad", 12, 4), IdFeature("kind", 6, 2)),
    lists=(SEEN, IdFeature("kinds", 6, 2, table="kind")),
    dense=("x",),
    sequences=(SequenceInput(("seen", "kinds"), ("ad", "kind"), ("gaps",), 5),),
)


def rows(lengths: list[int], seed: int = 1) -> dict[str, Any]:
    """Inputs of LAYOUT."""
    rng = np.random.default_rng(seed)
    count, total = len(lengths), sum(lengths)
    values = {
        "list_seen": rng.integers(1, 12, total),
        "list_kinds": rng.integers(1, 6, total),
        "numbers_gaps": rng.normal(size=total).astype(np.float32),
    }
    ids = np.stack([rng.integers(1, size, count) for size in (12, 6)], 1)
    dense = rng.normal(size=(count, 1)).astype(np.float32)
    return {"ids": tf.constant(ids), "dense": tf.constant(dense)} | {
        name: tf.RaggedTensor.from_row_lengths(some, lengths)
        for name, some in values.items()
    }


def model_of(name: str, layout: Layout = LAYOUT, **options: Any) -> Any:
    start_afresh(1)
    config = ModelConfig(name=name, hidden=(8,), **options)
    model = build_model(layout, config, 0.3)
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    return model


def unit_in_numpy(
    q: np.ndarray, k: np.ndarray, gaps: np.ndarray, weights: list[np.ndarray]
) -> float:
    """a(q, k) of the paper: PReLU layers over [q, k, q - k, q * k]."""
    x = np.concatenate([q, k, q - k, q * k, gaps])
    *layers, score, bias = weights
    for kernel, shift, slope in zip(*[iter(layers)] * 3, strict=True):
        x = x @ kernel + shift
        x = np.where(x > 0, x, slope * x)
    return float((x @ score + bias)[0])


@pytest.mark.parametrize("softmax", [False, True])
def test_dins_attention_is_that_of_the_paper(softmax: bool) -> None:
    unit = ActivationUnit((7, 3), softmax)
    unit.build(4, 1)
    weights = [RNG.normal(size=w.shape) for w in unit.weights]
    order = ["kernel_0", "bias_0", "slope_0", "kernel_1", "bias_1", "slope_1"]
    by_name = dict(zip([w.name for w in unit.weights], weights, strict=True))
    unit.set_weights(weights)
    target = RNG.normal(size=(4, 4)).astype(np.float32)
    items = RNG.normal(size=(6, 4)).astype(np.float32)
    gaps = RNG.normal(size=(6, 1)).astype(np.float32)
    of = np.repeat(np.arange(4), LENGTHS)
    found = unit(
        tf.constant(target), tf.constant(items), tf.constant(of),
        tf.constant(gaps),
    )  # fmt: skip
    ordered = [by_name[name] for name in (*order, "score", "score_bias")]
    for row in range(4):
        mine = np.flatnonzero(of == row)
        given = np.array(
            [
                unit_in_numpy(target[row], items[i], gaps[i], ordered)
                for i in mine
            ]
        )
        if softmax and len(mine):
            given = np.exp(given - given.max())
            given /= given.sum()
        wanted = given @ items[mine] if len(mine) else np.zeros(4)
        np.testing.assert_allclose(found[row], wanted, atol=1e-4)


def test_din_begins_with_the_sum_of_the_items_and_its_likeness() -> None:
    start_afresh(1)
    config = ModelConfig(name="din", hidden=(8,))
    deep = build_model(LAYOUT, config, 0.3).deep
    rng = np.random.default_rng(3)
    target, items = (
        rng.normal(scale=0.01, size=(count, 6)).astype(np.float32)
        for count in (2, 3)
    )
    gaps = np.full((3, 1), 9.0, np.float32)  # log1p of two hours
    given = Items(
        target,
        items,
        gaps,
        tf.constant([0, 0, 1], tf.int64),
        tf.constant([2, 1], tf.int64),
    )
    found = deep.interest(0, given, False).numpy()
    sums = np.stack([items[:2].sum(0) / 3**0.5, items[2] / 2**0.5])
    np.testing.assert_allclose(found[:, :6], sums, atol=2e-3)
    np.testing.assert_allclose(found[:, 6:], found[:, :6] * target, rtol=1e-6)


@pytest.mark.parametrize("name", ["din", "bst"])
def test_numbers_beside_items_do_not_drown_them_at_the_start(name: str) -> None:
    start_afresh(1)
    model = build_model(LAYOUT, ModelConfig(name=name, hidden=(8,)), 0.3)
    batch = rows([5, 0, 3, 5])
    gaps = batch["numbers_gaps"]
    large = batch | {
        "numbers_gaps": gaps.with_flat_values(9 + gaps.flat_values)
    }
    np.testing.assert_array_equal(model(large), model(batch))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(large))
    gradients = tape.gradient(total, model.trainable_variables)
    size = 36 if name == "din" else 6
    # They are learned from the first step on.
    moved = [
        float(np.abs(tf.convert_to_tensor(g)[-1:]).max())
        for v, g in zip(model.trainable_variables, gradients, strict=True)
        if v.name in ("kernel_0", "numbers_0") and v.shape[1] == size
    ]
    assert len(moved) == 1 and moved[0] > 0


@pytest.mark.parametrize("name", ["din", "bst"])
def test_a_row_is_the_same_beside_longer_sequences_and_under_xla(
    name: str,
) -> None:
    model = model_of(name)
    batch = rows([*LENGTHS, 5, 4])
    logits = model(batch).numpy()
    assert len(set(logits.round(5).tolist())) == 6
    for first, last in ((0, 2), (1, 2), (3, 4)):
        part = {key: value[first:last] for key, value in batch.items()}
        np.testing.assert_allclose(model(part), logits[first:last], atol=1e-6)

    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            total = tf.reduce_sum(logits**2)
        return logits, tape.gradient(total, model.trainable_variables)

    expected, exact = tf.function(step)(batch)
    found, compiled = tf.function(step, jit_compile=True)(padded(batch))
    np.testing.assert_allclose(expected, logits, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(exact, compiled, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(one), tf.convert_to_tensor(other),
            rtol=1e-3, atol=1e-4,
        )  # fmt: skip


def test_the_tables_gradient_has_the_rows_of_target_and_items_alone() -> None:
    model = model_of("din")
    batch = rows(LENGTHS)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(batch, training=True))
    table = model.deep.tables[1]
    (found,) = tape.gradient(total, [table.table.value])
    assert isinstance(found, tf.IndexedSlices)  # of one gather
    ids = batch["ids"][:, 0].numpy().tolist()
    items = batch["list_seen"].flat_values.numpy().tolist()
    assert found.indices.numpy().tolist() == ids + items  # no padding
    # Bumped one by one, each row of the table moves the logits as told.
    dense = tf.math.unsorted_segment_sum(found.values, found.indices, 12)
    before = table.table.numpy()
    for row in (ids[0], items[0], 0):
        bumped = before.copy()
        bumped[row, 1] += 1e-2
        table.table.assign(bumped)
        up = float(tf.reduce_sum(model(batch)))
        bumped[row, 1] -= 2e-2
        table.table.assign(bumped)
        down = float(tf.reduce_sum(model(batch)))
        table.table.assign(before)
        assert (up - down) / 2e-2 == pytest.approx(
            float(dense[row, 1]), rel=0.02, abs=0.02
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("din", {}),
        ("din", {"softmax": True}),
        ("bst", {}),
        ("dcn_v2", {}),
        ("dcn_v2", {"pool": "last"}),
        ("dcn_v2", {"pool": "attention"}),
        ("dcn_v2", {"pool": "attention", "query": "ad"}),
    ],
)
def test_values_behind_the_last_list_change_nothing(
    name: str, options: dict[str, Any]
) -> None:
    pooled = {k: options.pop(k) for k in ("pool", "query") if k in options}
    shape = replace(LAYOUT, lists=(replace(SEEN, **pooled), LAYOUT.lists[1]))
    model = model_of(name, shape, embedding_l2=0.1, **options)
    batch = rows([0, *LENGTHS, 0])  # a row without items is first, and last
    results = []
    for inputs in (batch, padded(batch)):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            total = tf.reduce_sum(logits**2) + tf.add_n(model.losses)
        gradients = tape.gradient(total, model.trainable_variables)
        results.append((logits, gradients))
    sizes = {len(x.flat_values) for n, x in padded(batch).items() if "_" in n}
    assert sizes == {16}
    (logits, expected), (found, gradients) = results
    np.testing.assert_allclose(found, logits, rtol=1e-5)
    for one, other in zip(expected, gradients, strict=True):
        assert type(one) is type(other)
        if isinstance(one, tf.IndexedSlices):  # Lion moves no other row
            assert {*one.indices.numpy()} == {*other.indices.numpy()}
        np.testing.assert_allclose(
            tf.convert_to_tensor(other), tf.convert_to_tensor(one),
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip


def test_xla_compiles_a_step_for_few_numbers_of_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[int] = set()

    def note(inputs: Any) -> Any:
        made = padded(inputs)
        size = tf.size(made["list_seen"].flat_values)
        tf.numpy_function(lambda n: seen.add(int(n)), [size], [])
        return made

    monkeypatch.setattr(train_step, "padded", note)
    model = model_of("din")
    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(model.trainable_variables)
    step = train_step.TrainStep(
        model, optimizer, True, 1.0, tf.distribute.get_strategy()
    )
    given = [[5] * 7 + [number % 6] for number in range(24)]

    def batches() -> Any:
        for number, lengths in enumerate(given):
            yield rows(lengths, number), tf.ones([8])

    signature = tf.nest.map_structure(tf.type_spec_from_value, next(batches()))
    loose = tf.nest.map_structure(_of_any_length, signature)
    data = tf.data.Dataset.from_generator(batches, output_signature=loose)
    found = step.run(iter(data), 30)
    assert found.steps == len(given) and not found.diverged
    assert seen == {48}  # of 35 to 40 items


def _of_any_length(spec: Any) -> Any:
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec([8, None], spec.dtype)
    return spec


@pytest.mark.parametrize("name", ["din", "bst"])
def test_rows_without_items_have_finite_logits_and_gradients(name: str) -> None:
    model = model_of(name)
    with tf.GradientTape() as tape:
        logits = model(empty_rows(LAYOUT, 3), training=True)
        total = tf.reduce_sum(logits)
    assert np.isfinite(logits).all()
    for gradient in tape.gradient(total, model.trainable_variables):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_a_transformer_is_that_of_the_paper_at_the_target() -> None:
    block = TransformerBlock(5, 2, 0.0)
    block.build()
    target = RNG.normal(size=(4, 5)).astype(np.float32)
    items = RNG.normal(size=(6, 5)).astype(np.float32)
    of = np.repeat(np.arange(4), LENGTHS)
    found = block(tf.constant(target), tf.constant(items), tf.constant(of))
    x = np.concatenate([target[2:3], items[2:5]])
    wq, wk, wv, wo = (
        layer.kernel.numpy() for layer in (*block.projections, block.joined)
    )
    heads = []
    for at in (slice(0, 3), slice(3, 6)):
        scores = (x @ wq[:, at]) @ (x @ wk[:, at]).T / np.sqrt(3)
        weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        heads.append(weights @ (x @ wv[:, at]))

    def norm(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(1, keepdims=True)) / np.sqrt(
            x.var(1, keepdims=True) + 1e-6
        )

    s = norm(x + np.concatenate(heads, 1) @ wo)
    first, _, second = block.forward
    hidden = s @ first.kernel.numpy()
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    gamma = block.norms[1].gamma.numpy()
    expected = norm(s + hidden @ second.kernel.numpy()) * gamma
    np.testing.assert_allclose(found[2], expected[0], atol=1e-4)


def test_a_position_is_how_many_items_are_newer() -> None:
    ragged = padded(rows(LENGTHS))["list_seen"]
    items = Items(
        tf.zeros([4, 5]),
        tf.zeros([8, 5]),
        None,
        value_rows(ragged),
        ragged.row_lengths(),
    )
    wanted = [1, 2, 1, 2, 3, 1, *([0] * 10)]
    assert places_of(items).numpy().tolist() == wanted


def test_gradients_in_closed_form_are_those_of_tensorflow() -> None:
    values = tf.constant(RNG.normal(size=(5, 4)), tf.float32)
    weights = tf.constant(RNG.normal(size=(5, 4)), tf.float32)
    ours, stock = Norm(0.7), keras.layers.LayerNormalization(epsilon=1e-6)
    found = []
    for norm in (ours, stock):
        norm.build((None, 4))
        norm.set_weights([np.full(4, 0.7), np.arange(4.0)])
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(weights * norm(values) ** 2)
        wanted = [values, *norm.trainable_variables]
        found.append([total, *tape.gradient(total, wanted)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
def test_other_architectures_pool_the_items(pool: str) -> None:
    seen = IdFeature("seen", 12, 4, table="ad", pool=pool)
    if pool == "attention":
        seen = IdFeature("seen", 12, 4, "ad", pool, query="ad")
    single = (IdFeature("kind", 6, 4), IdFeature("ad", 12, 4))
    table = FusedTable(Layout(single, (seen,), ()), [*single, seen], 4)
    table.build()
    values = RNG.normal(size=table.table.shape).astype(np.float32)
    table.table.assign(values)
    batch = rows(LENGTHS)
    ids = tf.reverse(batch["ids"], [1])
    found = table({"ids": ids, "list_seen": batch["list_seen"]})
    own = values[6:]
    for row, items in enumerate(batch["list_seen"].to_list()):
        vectors = own[items] if items else np.zeros((1, 4))
        weights = np.full(len(vectors), 1 / len(vectors))
        if pool == "last":  # the newest comes first
            weights = np.eye(len(vectors))[0]
        if pool == "attention":
            scores = vectors @ own[batch["ids"][row, 0]] / 2
            weights = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(found[row, 2], weights @ vectors, atol=1e-5)


def test_the_layout_shares_the_items_table(tmp_path: Path) -> None:
    features = Features.model_validate(
        {
            "categorical": [
                {"name": "ad", "dim": 4, "table": "items"},
                {"name": "user", "dim": 4, "encode": "hash", "buckets": 9},
            ],
            "sequences": [
                {"of": "seen", "items": "ad", "attend": "user",
                 "pooling": "attention", "max_len": 7},
                {"from": "impressions", "of": "user", "items": "ad",
                 "sides": [{"of": "price"}]},
            ],
        }
    )  # fmt: skip
    shape = layout(features, lambda name: {"vocab_items": 30}[name])
    assert shape.lists == (
        IdFeature("seen", 32, 4, "items", "attention", query="user"),
        IdFeature("user_ad", 32, 4, "items"),
    )
    assert shape.sequences == (
        SequenceInput(("seen",), ("user",), (), 7),
        SequenceInput(("user_ad",), ("ad",), ("user_ad_price",), 50),
    )
    again = Features.model_validate(features.model_dump(mode="json"))
    assert again == features
    assert "from" in features.model_dump()["sequences"][1]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"items": "adid"}, "sequences.0.items: received 'adid' (did you mean"),
    ({"items": "tags"}, "sequences.0.items: received 'tags'; accepted: a"),
    ({"attend": "wide"}, "sequences.0.attend: received 'wide', of dim 99"),
    ({"of": "ad"}, "sequences.0: feature 'ad' is declared twice"),
    ({"max_len": 0}, "sequences.0.max_len: received 0; accepted: greater"),
    ({"order": "newest"}, "sequences.0.order: received 'newest'; accepted"),
    ({"clicked": False}, "sequences.0: `clicked` received False without"),
    ({"from": "clicks"}, "sequences.0.from: received 'clicks'; accepted"),
    ({"sides": ["x"]}, "sequences.0.sides.0: received 'x'; accepted: a map"),
    ({"sides": [{"of": "x"}, {"of": "x"}]}, "sequences.0: `sides` received"),
    ({"sides": [{"of": "x", "items": "tags"}]}, "sequences.0.sides.0.items: "),
    ({"frm": 1}, "sequences.0.frm: unknown key (did you mean 'from'?)"),
    (
        {"from": "impressions", "order": "newest_first"},
        "sequences.0: `order` received 'newest_first' with `from`",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_does_not_fit_is_told(change: Any, message: str) -> None:
    given = {"of": "seen", "items": "ad", **change}
    categorical = [
        "ad",
        {"name": "tags", "list": ","},
        {"name": "wide", "dim": 99},
    ]
    with pytest.raises(ValidationError) as error:
        Features.model_validate(
            {"categorical": categorical, "sequences": [given]}
        )
    assert explain(error.value, Features)[0].startswith(message)
