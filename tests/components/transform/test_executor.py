"""Our Transform gives what stock TFX's gives, for features of every kind."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.transform import executor as tfx_transform

from components.transform.executor import Executor
from models.architectures.registry import build_model
from models.config.architectures import ModelConfig
from models.config.numeric import LOG_BUCKETS
from models.config.training import Features
from models.errors import InputError
from models.export import Served, requested
from models.preprocessing import analyzers, numeric
from models.preprocessing.input_layout import layout
from models.preprocessing.preprocessing_fn import Analysis, transformed
from models.preprocessing.transform_assets import asset_size
from models.preprocessing.vocabulary import EMPTY_VOCABULARY
from tests.components.click_log_gen.ingest import Row
from tests.components.transform.runs import assets, read, run
from tests.examples import example

FEATURES = {
    "numeric": [
        {"name": "row", "transform": "none"},
        {"name": "log", "transform": "log1p", "default": -1.5},
        {"name": "score", "transform": "zscore"},
        {
            "name": "price",
            "transform": "log1p_zscore",
            "default": 2,
            "pieces": 5,
        },
        {"name": "constant", "transform": "zscore", "default": 3.25},
        {"name": "age", "transform": "buckets", "buckets": 7},
        {"name": "empty", "transform": "buckets", "buckets": 3},
        {"name": "share", "transform": "min_max", "missing": "indicator"},
        {
            "name": "bid",
            "transform": "log1p_min_max",
            "clip": [1, None],
            "pieces": 3,
        },
        {"name": "dwell", "transform": "log_buckets", "dim": 4},
        {"name": "hops", "transform": "buckets", "buckets": 4, "clip": [2, 5]},
        {
            "name": "depth",
            "transform": "none",
            "clip": [-2.5, 2.5],
            "default": 9,
            "missing": "indicator",
        },
    ],
    "categorical": [
        {"name": "site", "min_count": 1},
        {"name": "user name", "min_count": 3, "oov_buckets": 4},
        {"name": "top", "max_size": 5},
        {"name": "hashed", "encode": "hash", "buckets": 50},
        {"name": "hour", "encode": "identity", "buckets": 24},
        {"name": "tags", "list": "|"},
        {"name": "words", "list": " ", "encode": "hash", "buckets": 9},
        {"name": "never_seen"},
        {"name": "seen", "list": "|", "min_count": 1, "table": "site"},
        {"name": "liked", "list": "|", "weights": ":", "min_count": 1},
        {
            "name": "bought",
            "list": ",",
            "weights": "=",
            "pool": "sum",
            "encode": "hash",
            "buckets": 30,
        },
        {"name": "again", "min_count": 1, "table": "site"},
    ],
    "vectors": [{"name": "item", "size": 5}],
    "crosses": [
        {"of": ["site", "hashed"], "buckets": 97},
        {"of": ["age", "hour", "top"], "buckets": 1000},
    ],
}
_PIECES = {"price": 5, "bid": 3}
_NEW = ("share", "bid", "dwell", "hops", "depth")
_FLOAT = ("row", "log", "score", "price", "constant", "age", "empty", *_NEW)
_LISTS = ("tags", "words", "seen", "liked", "bought")
_BYTES = ("site", "user name", "top", "hashed", "again", *_LISTS)
SPEC = {
    **dict.fromkeys(_FLOAT, tf.io.VarLenFeature(tf.float32)),
    "item": tf.io.VarLenFeature(tf.float32),
    **dict.fromkeys(_BYTES, tf.io.VarLenFeature(tf.string)),
    **dict.fromkeys(("hour", "label"), tf.io.VarLenFeature(tf.int64)),
}
ODD = [b"\xff\xfe", "ü".encode(), b"a b", b"\x00z", b"line\nbreak", b"cr\r"]


def rows(count: int) -> list[Row]:
    """Values with ties, rare ones, odd bytes and gaps."""
    rng = random.Random(count)

    def text() -> bytes:
        if rng.random() < 0.1:
            return rng.choice(ODD)
        return b"%d" % min(int(rng.paretovariate(0.7)), 60)

    def weighed(sign: bytes) -> bytes:
        value = b"v%d" % min(int(rng.paretovariate(0.7)), 30)
        if rng.random() < 0.2:
            return value
        return value + sign + b"%.3g" % rng.expovariate(1)

    def row(number: int) -> Row:
        values: Row = {
            "log": rng.gauss(0, 100),
            "score": rng.gauss(1000, 3),
            "price": rng.expovariate(0.01),
            "constant": 3.25,
            "age": float(rng.randrange(80)),
            "empty": None,
            "share": rng.gauss(40, 3),
            "bid": rng.expovariate(0.1) - 2,
            "dwell": float(round(rng.gauss(0, 10 ** rng.randrange(9)))),
            "hops": float(rng.randrange(9)),
            "depth": rng.gauss(0, 3),
            "item": [rng.gauss(0, 1) for _ in range(5)],
            "hour": rng.randrange(-1, 26),
            **{name: text() for name in _BYTES},
            "tags": [text() for _ in range(rng.randrange(5))],
            "seen": [text() for _ in range(rng.randrange(5))],
            "words": [text() for _ in range(rng.randrange(5))],
            "liked": [weighed(b":") for _ in range(rng.randrange(5))],
            "bought": [weighed(b"=") for _ in range(rng.randrange(5))],
        }
        gaps = {name: None for name in values if rng.random() < 0.1}
        label = int(rng.random() < 0.3)
        return values | gaps | {"row": float(number), "label": label}

    return [row(number) for number in range(count)]


TRAIN = rows(900)
FILES = {
    "train": {"data-0": TRAIN[:500], "data-1": TRAIN[500:]},
    "eval": {"data-0.gz": rows(1)},
    "test": {"data-0": []},
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder and transform of our executor."""
    folder = tmp_path_factory.mktemp("ours")
    return folder, run(Executor, folder, FILES, SPEC, FEATURES)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The same of stock TFX's executor, which takes 30 s."""
    folder = tmp_path_factory.mktemp("stock")
    return folder, run(tfx_transform.Executor, folder, FILES, SPEC, FEATURES)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("split", "count"), [("train", 900), ("eval", 1), ("test", 0)]
)
def test_examples_are_those_of_stock_transform(
    ours: tuple[Path, Any], stock: tuple[Path, Any], split: str, count: int
) -> None:
    received, expected = (
        sorted(read(folder, split, transform), key=lambda r: r["dense"][0])
        for folder, transform in (ours, stock)
    )
    assert len(received) == len(expected) == count
    for one, other in zip(received, expected, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_array_equal(one["ids"], other["ids"])
        np.testing.assert_allclose(
            one["dense"], other["dense"], rtol=2e-5, atol=2e-5
        )
        for name in ("label", *(f"list_{name}" for name in _LISTS)):
            assert one[name] == other[name]
        for name in ("weights_liked", "weights_bought"):
            assert one[name] == other[name]
            assert len(one[name]) == len(one[f"list_{name[8:]}"])


@pytest.mark.ci
def test_assets_and_specs_are_those_of_stock_transform(
    ours: tuple[Path, Any], stock: tuple[Path, Any]
) -> None:
    (_, one), (_, other) = ours, stock
    assert assets(one) == assets(other)
    assert one.raw_feature_spec() == other.raw_feature_spec()
    assert one.transformed_feature_spec() == other.transformed_feature_spec()


def test_scaled_numbers_have_mean_0_and_deviation_1(
    ours: tuple[Path, Any],
) -> None:
    folder, transform = ours
    dense = np.array([r["dense"] for r in read(folder, "train", transform)])
    scaled = dense[:, 2:4].astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)
    assert not dense[:, 4].any()  # not divided by a deviation of 0


def test_numbers_are_clipped_ranged_told_and_cut_at_logarithms(
    ours: tuple[Path, Any],
) -> None:
    folder, transform = ours
    received = read(folder, "train", transform)
    dense = np.array([r["dense"] for r in received])
    raw = {
        name: np.array(
            [np.nan if row[name] is None else row[name] for row in TRAIN],
            np.float32,
        )[dense[:, 0].astype(int)]
        for name in _NEW
    }
    shape = layout(Features.model_validate(FEATURES), lambda _: 0)
    by_name = dict(zip(shape.dense, dense.T, strict=True))
    told = ("share_missing", "depth_missing")
    assert shape.dense[-8:-6] == told
    for place in range(5):
        item = [
            0 if row["item"] is None else row["item"][place] for row in TRAIN
        ]
        expected = np.array(item, np.float32)[dense[:, 0].astype(int)]
        np.testing.assert_array_equal(by_name[f"item_{place}"], expected)
    assert by_name["item_missing"].tolist() == [
        TRAIN[int(row)]["item"] is None for row in dense[:, 0]
    ]
    for name in told:
        missing = np.isnan(raw[name.removesuffix("_missing")])
        assert by_name[name].tolist() == missing.tolist()
    share = np.nan_to_num(raw["share"])  # missing is 0, which is the lowest
    np.testing.assert_allclose(by_name["share"], share / share.max(), rtol=1e-6)
    bid = np.where(np.isnan(raw["bid"]), 0, np.maximum(raw["bid"], 1))
    logs = np.log1p(bid)
    np.testing.assert_allclose(by_name["bid"], logs / logs.max(), rtol=1e-6)
    depth = np.clip(raw["depth"], -2.5, 2.5)
    np.testing.assert_array_equal(
        by_name["depth"], np.where(np.isnan(depth), np.float32(9), depth)
    )
    ids = np.array([r["ids"] for r in received])
    at = {f.name: place for place, f in enumerate(shape.single)}
    hops = ids[:, at["hops"]]
    inside = np.clip(raw["hops"], 2, 5)
    assert [hops[inside == n].std() for n in (2, 3, 4, 5)] == [0] * 4
    assert set(hops[np.isnan(inside)]) == {0}
    wanted = [by_the_winners(value) for value in raw["dwell"]]
    assert ids[:, at["dwell"]].tolist() == wanted
    assert len(set(wanted)) > 200


def test_pieces_are_shares_between_quantiles(
    ours: tuple[Path, Any],
) -> None:
    folder, transform = ours
    dense = np.array([r["dense"] for r in read(folder, "train", transform)])
    shape = layout(Features.model_validate(FEATURES), lambda _: 0)
    by_name = dict(zip(shape.dense, dense.T, strict=True))
    for name, count in _PIECES.items():
        raw = np.array([row[name] for row in TRAIN], np.float64)
        raw = raw[dense[:, 0].astype(int)]
        x = np.maximum(raw, 1) if name == "bid" else raw
        known = np.sort(x[~np.isnan(x)])
        ranks = np.arange(1, count + 2) / (count + 2) * len(known)
        # A quantile of the sketch is one of the values around its rank.
        found = np.stack([by_name[f"{name}_piece_{i}"] for i in range(count)])
        assert not found[:, np.isnan(x)].any()
        assert found.min() == 0 and found.max() == 1
        for i in range(count):
            share, at = found[i], np.log1p(x)
            inside = (share > 0) & (share < 1)
            slope, start = np.polyfit(at[inside], share[inside], 1)
            ends = np.expm1([-start / slope, (1 - start) / slope])
            for end, rank in zip(ends, ranks[i : i + 2], strict=True):
                near = end + 1e-3 * np.array([-1, 1]) * abs(end)
                low, high = np.searchsorted(known, near)  # ties: a range
                assert low - 3 <= rank <= high + 3
            line = np.clip(slope * at + start, 0, 1)
            line[np.isnan(x)] = 0
            np.testing.assert_allclose(share, line, atol=1e-4)
    assert set(by_name["bid_piece_0"][raw <= 1]) == {0}


def test_a_piece_without_width_is_a_step() -> None:
    (feature,) = Features.model_validate(
        {"numeric": [{"name": "n", "transform": "none", "pieces": 3}]}
    ).numeric
    given = tf.constant([-5, 0, 1, 2, 3, 9, np.nan], tf.float32)
    shares = numeric.pieces(given, feature, [[0.0, 0.0, 2.0, 4.0]]).numpy()
    assert shares.T.tolist() == [
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0.5, 1, 1, 1, 0],
        [0, 0, 0, 0, 0.5, 1, 0],
    ]


def by_the_winners(value: float) -> int:
    """The id of a whole number, as Criteo's winners cut it."""
    if np.isnan(value):
        return 0
    size = abs(float(value))
    step = 2 + math.floor(math.log(size) ** 2) if size > 2 else int(size)
    return 1 + 512 + int(np.sign(value)) * min(step, 512)


def test_each_number_of_32_bits_is_in_the_bucket_of_its_logarithm() -> None:
    edges = numeric.log_boundaries()
    assert edges.dtype == np.float32
    assert len(edges) == LOG_BUCKETS - 1
    near = [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)]
    values = np.unique(np.concatenate(near).astype(np.float32))
    ids = 1 + np.searchsorted(edges, values, "right")
    whole = [n for n in values.tolist() if n == round(n) or abs(n) > 2]
    assert len(whole) > 3000
    for value, id_ in zip(values.tolist(), ids, strict=True):
        if value in whole:
            assert id_ == by_the_winners(value), value


def test_what_lies_beyond_the_training_rows_is_0_or_1() -> None:
    features = Features.model_validate(
        {"numeric": [{"name": "n", "transform": "min_max"}]}
    )
    range_ = analyzers.Range()
    range_.add(np.array([[3.0], [5.0]], np.float32))
    other = analyzers.Range()
    other.merge(range_.save())
    other.merge(analyzers.Range().save())
    low, high = (
        np.array(other.save()[name][0].as_py(), np.float32)
        for name in ("low", "high")
    )
    found = Analysis({}, [0.0], [1.0], {}, low, high)
    given = tf.constant([1, 3, 4, 5, 9, np.inf], tf.float32)
    dense = transformed({"n": given}, features, found)["dense"]
    assert dense.numpy().ravel().tolist() == [0, 0, 0.5, 1, 1, 0]
    four = np.full(1, 4.0, np.float32)
    same = Analysis({}, [0.0], [1.0], {}, four, four)
    dense = transformed({"n": given}, features, same)["dense"]
    assert dense.numpy().ravel().tolist() == [0, 0, 0, 1, 1, 0]


@pytest.mark.ci  # to a millionth: tests/models/test_learning.py
def test_an_export_answers_the_same_bits_without_the_graph(
    ours: tuple[Path, Any], stock: tuple[Path, Any]
) -> None:
    features = Features.model_validate(FEATURES)
    transform = ours[1]
    shape = layout(features, lambda name: asset_size(transform, name))
    model = build_model(shape, ModelConfig(hidden=(8,)), 0.3)
    random_values = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(random_values.normal(size=weight.shape, scale=0.3))
    kept = analyzers.kept(features, transform)
    assert kept is not None
    assert analyzers.kept(features, stock[1]) is None
    lean, whole = (
        Served(model, transform, features, analysis=analysis)
        for analysis in (kept, None)
    )
    separators = features.lists()

    def text(name: str, value: Any) -> Any:
        """A request's form of a value: a list is a text."""
        if not isinstance(value, list):
            return value
        if name == "item":
            value = [str(np.float32(number)).encode() for number in value]
        return separators[name].encode().join(value)

    columns = {
        name: [text(name, row.get(name)) for row in TRAIN]
        for name in features.kinds()
    }
    missing = {"float": np.nan, "int": -1, "string": b"", "vector": b""}
    given = {
        name: tf.constant(
            [missing[kind] if v is None else v for v in columns[name]],
            requested(kind),
        )
        for name, kind in features.kinds().items()
    }
    answer = lean.exported["serving_default"]
    found = answer(given)["ctr"].numpy()
    assert found.std() > 0.01
    # Only the lean graph fills up the last block.
    blocks = {name: column[:896] for name, column in given.items()}
    expected = whole.exported["serving_default"](blocks)["ctr"].numpy()
    assert found[:896].tobytes() == expected.tobytes()
    for start, end in ((0, 1), (5, 8), (17, 80)):
        part = {name: column[start:end] for name, column in given.items()}
        alone = answer(part)["ctr"].numpy()
        assert alone.tobytes() == found[start:end].tobytes()
    # In an example, `a b` in a list of several is one value, in a text two.
    listed = [
        {
            name: text(name, value).split(separators[name].encode())
            if isinstance(value, list) and name != "item"
            else value
            for name, value in row.items()
        }
        for row in TRAIN
    ]
    examples = tf.constant([serialized(row) for row in listed])
    parsed = lean.exported["examples"](examples)["ctr"].numpy()
    assert parsed.tobytes() == found.tobytes()


def serialized(row: Row) -> bytes:
    """A row as a tf.Example."""
    item = row.get("item")
    return example(**row | ({"item": list(map(float, item))} if item else {}))


SMALL = {"categorical": [{"name": "site"}], "numeric": [{"name": "price"}]}
SMALL_SPEC = {name: SPEC[name] for name in ("site", "price", "label")}


def test_one_row_is_enough_and_a_split_may_have_no_file(
    tmp_path: Path,
) -> None:
    row = {"site": None, "price": 7.0, "label": 1}
    files = {"train": {"data": [row]}, "eval": {}}
    transform = run(Executor, tmp_path, files, SMALL_SPEC, SMALL)
    assert assets(transform) == {
        "label_counts": b"0\n1\n",
        "vocab_site": EMPTY_VOCABULARY + b"\n",
    }
    (received,) = read(tmp_path, "train", transform)
    assert received["ids"].tolist() == [0]
    assert received["dense"].tolist() == [0.0]
    assert read(tmp_path, "eval", transform) == []


def test_nothing_to_analyze_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no examples"):
        run(Executor, tmp_path, {"train": {}}, SMALL_SPEC, SMALL)


@pytest.mark.parametrize(
    "properties",
    [{"disable_statistics": 0}, {"preprocessing_fn": "elsewhere.function"}],
)
def test_what_we_do_not_do_is_left_to_stock_transform(
    tmp_path: Path, properties: dict[str, Any]
) -> None:
    with mock.patch.object(tfx_transform.Executor, "Do") as stock:
        run(Executor, tmp_path, {"train": {}}, SPEC, FEATURES, **properties)
    assert stock.call_count == 1
