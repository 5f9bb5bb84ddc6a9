"""Drift and skew: a real shift is named, two samples of one thing are not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data_checks import (
    DriftConfig,
    described,
    lines,
    missing,
    summary,
)
from components.example_io import tfrecord
from components.example_io.tf_example import encode
from components.example_validator.comparison import Comparison, compare
from components.example_validator.executor import constant_features
from components.statistics_gen.distinct_lists import DistinctLists
from components.statistics_gen.split_statistics import statistics_of
from pipeline.synthetic.shop import Shop

SIZES = (100, 1_000, 10_000, 100_000)
CATEGORIES = list("abcdef")
LISTS = {"seen": pa.list_(pa.string()), "since": pa.list_(pa.float32())}
SHARES = [0.5, 0.2, 0.1, 0.1, 0.05, 0.05]


def frame(rows: int, seed: int, shift: bool = False) -> pd.DataFrame:
    """Columns of many kinds; with `shift` each is another distribution."""
    rng = np.random.default_rng(seed)

    def pick(values: Any, p: Any = None) -> Any:
        return rng.choice(values, rows, p=p)

    absent = rng.random(rows) < (0.7 if shift else 0.2)
    heavy = rng.zipf(1.3, rows)
    shares = np.arange(1, 20_001) ** -0.8
    many = rng.choice(20_000, rows, p=shares / shares.sum())
    return pd.DataFrame(
        {
            "normal": rng.normal(1.5 * shift, 1, rows),
            "heavy": rng.lognormal(2.0 * shift, 2, rows),
            "counts": rng.poisson(1 + 2 * shift, rows),
            "flag": (rng.random(rows) < (0.9 if shift else 0.4)).astype(int),
            "tail": np.minimum(rng.zipf(1.2 if shift else 2.5, rows), 10**9),
            "sparse": np.where(absent, np.nan, rng.normal(size=rows)),
            "category": pick(CATEGORIES, SHARES[::-1] if shift else SHARES),
            "coin": pick(["x", "y"], [0.95, 0.05] if shift else None),
            "absent": np.where(absent, None, pick(CATEGORIES)),
            "user": [f"{'n' * shift}{v}" for v in heavy],
            "many": [f"{'n' * shift}{v}" for v in many],
            "few_thousand": [f"{'n' * shift}{v % 3000}" for v in many],
            "renamed": pick([f"{'n' * shift}{v}" for v in range(300)]),
            "id": [f"{rng.integers(10**12)}" for _ in range(rows)],
        }
    )


def statistics(data: pd.DataFrame, sequences: Any = ()) -> Any:
    """As a run has them: of TFDV's in memory, counts of values are a sketch."""
    columns = {}
    for name, values in data.items():
        array = pa.array(values, LISTS.get(str(name)), from_pandas=True)
        is_number = pa.types.is_floating(array.type)
        if pa.types.is_null(array.type):
            array = array.cast(pa.string())
        columns[str(name)] = array.cast(pa.float32()) if is_number else array
    with tempfile.NamedTemporaryFile() as file:
        file.write(tfrecord.frame(encode(columns)))
        file.flush()
        return statistics_of([file.name], sequences=sequences)


def compared(
    now: pd.DataFrame,
    base: pd.DataFrame,
    schema: schema_pb2.Schema | None = None,
    **config: Any,
) -> Comparison:
    return compare(
        statistics(now),
        statistics(base),
        "the base",
        DriftConfig(**config),
        schema or schema_pb2.Schema(),
        sorted({*now.columns, *base.columns}),
    )


@pytest.fixture(scope="module")
def base() -> list[Any]:
    """Statistics of a sample of each size."""
    return [statistics(frame(size, 10 + size)) for size in SIZES]


@pytest.mark.parametrize("rows", SIZES)
def test_two_samples_of_one_distribution_are_alike(
    base: list[Any], rows: int
) -> None:
    names = list(frame(1, 0).columns)
    for seed in range(max(1, 3_000 // rows)):
        now = statistics(frame(rows, seed))
        for other in base if seed == 0 else base[:1]:
            found = compare(
                now, other, "", DriftConfig(), schema_pb2.Schema(), names
            )
            assert found.drifted == []
            assert found.features.keys() == set(names)


@pytest.mark.parametrize("rows", SIZES)
def test_a_shift_is_found_in_each_kind_of_feature(rows: int) -> None:
    found = compared(frame(rows, 1, shift=True), frame(rows, 2))
    shifted = set(frame(1, 0).columns) - {"id"}
    if rows == 100:  # too few to tell them from chance
        shifted -= {"renamed", "sparse", "many", "few_thousand"}
    assert shifted <= set(found.drifted)


@pytest.mark.parametrize("skew", [False, True])
def test_new_values_are_those_of_the_later_rows(skew: bool) -> None:
    first = statistics(pd.DataFrame({"user": ["a", "b"] * 500}))
    later = statistics(pd.DataFrame({"user": ["b"] * 100 + ["c"] * 900}))
    # With `skew` the train split comes first, and the other one follows.
    now, base = (first, later) if skew else (later, first)
    config = DriftConfig()
    schema = schema_pb2.Schema()
    found = compare(now, base, "it", config, schema, ["user"], skew=skew)
    moved = {one["value"]: one for one in found.features["user"]["moved"]}
    assert (moved["(new)"]["before"], moved["(new)"]["after"]) == (0, 0.9)
    assert (moved["(gone)"]["before"], moved["(gone)"]["after"]) == (0.5, 0)
    assert (moved["b"]["before"], moved["b"]["after"]) == (0.5, 0.1)


def test_features_with_one_value_are_named() -> None:
    data = frame(100, 1)[["normal", "flag", "coin", "absent"]].assign(
        number=2.5, whole=3, text="x", gaps=[None] * 9 + [1.0] * 91,
        some=[None] * 9 + ["x"] * 91, nothing=None, unasked="x",
    )  # fmt: skip
    asked = sorted(set(data.columns) - {"unasked"})
    found = constant_features(statistics(data), asked)
    assert found == ["number", "text", "whole"]
    assert lines({"constant": found}) == [
        (
            "3 features have the same value in each training row, which tells"
            " nothing: number, text, whole"
        )
    ]


def test_the_distance_is_tfdvs_where_tfdv_sees_all_values() -> None:
    now, base = frame(5000, 1, shift=True), frame(5000, 2)
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="category", type=schema_pb2.BYTES)
    feature.drift_comparator.infinity_norm.threshold = 0.01
    stock = tfdv.validate_statistics(
        statistics(now[["category"]]),
        schema,
        previous_statistics=statistics(base[["category"]]),
    )
    (info,) = stock.drift_skew_info
    found = compared(now[["category"]], base[["category"]])
    entry = found.features["category"]
    assert entry["distance"] == pytest.approx(info.drift_measurements[0].value)
    (ours,) = found.anomalies.drift_skew_info
    assert ours.drift_measurements[0].value == pytest.approx(entry["distance"])
    assert list(found.anomalies.anomaly_info) == ["category"]


def test_the_divergence_of_numbers_is_that_of_the_base_deciles() -> None:
    rng = np.random.default_rng(5)
    base, now = rng.lognormal(0, 2, 50_000), rng.lognormal(1, 2, 50_000)
    edges = np.quantile(base, np.linspace(0, 1, 11)[1:-1])
    p, q = (
        np.bincount(np.searchsorted(edges, x), minlength=10) / len(x)
        for x in (base, now)
    )
    mean = (p + q) / 2
    wanted = (p * np.log2(p / mean) + q * np.log2(q / mean)).sum() / 2
    found = compared(pd.DataFrame({"x": now}), pd.DataFrame({"x": base}))
    assert found.features["x"]["distance"] == pytest.approx(wanted, rel=0.1)


def test_tfdvs_own_ranges_call_two_samples_of_a_heavy_tail_far() -> None:
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="heavy", type=schema_pb2.FLOAT)
    feature.drift_comparator.jensen_shannon_divergence.threshold = 0.1
    samples = [statistics(frame(10_000, seed)[["heavy"]]) for seed in (1, 3)]
    stock = tfdv.validate_statistics(
        samples[0], schema, previous_statistics=samples[1]
    )
    assert "heavy" in stock.anomaly_info  # why `shares` counts by deciles
    ours = compare(*samples, "", DriftConfig(), schema_pb2.Schema(), ["heavy"])
    assert ours.features["heavy"]["distance"] < 0.01


def test_the_values_that_moved_most_are_named() -> None:
    base = pd.DataFrame({"site": ["a"] * 6000 + ["b"] * 3000 + ["c"] * 999})
    now = pd.DataFrame({"site": ["a"] * 2000 + ["b"] * 6800 + ["c"] * 1199})
    found = compared(now, base)
    assert described("site", found.features["site"], "the base") == (
        "site: infinity norm 0.4 from the base (threshold 0.1):"
        " a 60.0% -> 20.0%, b 30.0% -> 68.0%, c 10.0% -> 12.0%"
    )


def test_numbers_and_missing_are_named_by_their_ranges() -> None:
    base = pd.DataFrame({"x": np.arange(1000.0)})
    now = pd.DataFrame({"x": np.where(np.arange(1000) < 600, np.nan, 1e6)})
    moved = compared(now, base).features["x"]["moved"]
    assert [one["value"] for one in moved[:2]] == ["(missing)", "above 900"]
    assert moved[0]["before"] == 0 and moved[0]["after"] == 0.6


def overrides() -> list[tuple[dict[str, Any], str, float | None]]:
    config = {"features": {"coin": 0.4, "id": None}, "categorical": 0.3}
    return [
        (config, "coin", 0.4),
        (config, "id", None),
        (config, "category", 0.3),
        (config, "normal", 0.05),
    ]


@pytest.mark.parametrize(("config", "name", "threshold"), overrides())
def test_a_threshold_is_the_features_own_or_its_kinds(
    config: dict[str, Any], name: str, threshold: float | None
) -> None:
    found = compared(frame(10_000, 1), frame(10_000, 2), **config)
    entry = found.features.get(name)
    assert (entry and entry["threshold"]) == threshold


def test_a_threshold_of_the_schema_counts_unless_the_config_has_one() -> None:
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="coin", type=schema_pb2.BYTES)
    feature.drift_comparator.infinity_norm.threshold = 0.7
    data = frame(10_000, 1), frame(10_000, 2)
    found = compared(*data, schema=schema)
    assert found.features["coin"]["threshold"] == pytest.approx(0.7)
    found = compared(*data, schema=schema, features={"coin": 0.2})
    assert found.features["coin"]["threshold"] == pytest.approx(0.2)


def test_features_of_another_model_are_said_and_left_out() -> None:
    base = frame(500, 1)[["coin", "normal", "counts"]]
    now = base.assign(normal="text", site="a").drop(columns="counts")
    found = compared(now, base)
    assert list(found.features) == ["coin"]
    assert found.only == {
        "base": ["counts"],
        "now": ["site"],
        "types": ["normal"],
    }
    checks = {"drift": {"base": 7, "why": "", "comparisons": [found.to_json()]}}
    assert lines(checks) == [
        (
            "0 of 1 features are far from the base (not there: site; only"
            " there: counts; of another type there: normal)"
        )
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: pd.DataFrame({"x": [None] * rows}, dtype=object),
        lambda rows: pd.DataFrame({"x": [1.0] * rows}),
        lambda rows: pd.DataFrame({"x": [np.inf, -np.inf] * (rows // 2)}),
        lambda rows: pd.DataFrame({"x": ["a"] * rows}),
        lambda rows: pd.DataFrame({"x": np.full(rows, np.nan)}),
    ],
)
def test_odd_columns_are_like_themselves(
    make: Callable[[int], pd.DataFrame],
) -> None:
    assert compared(make(400), make(600)).drifted == []


def test_nothing_to_compare_is_no_drift() -> None:
    found = compared(frame(0, 1), frame(100, 2))
    assert found.drifted == []
    assert summary({}) == {"drift": {}, "leaks": {}}
    assert lines({}) == []


def test_rows_that_ingest_left_without_a_value_are_missing() -> None:
    data = pd.DataFrame({"x": [1.0, None] * 30, "y": ["a", None, None] * 20})
    (dataset,) = statistics(data).datasets
    found = {feature.path.step[0]: feature for feature in dataset.features}
    # An empty list is a value's list to TFDV.
    assert found["x"].num_stats.common_stats.num_missing == 0
    assert found["y"].string_stats.common_stats.num_missing == 0
    assert [missing(found[name]) for name in "xy"] == [30, 40]


def lists_of(rows: int, seed: int, empty: float) -> pd.DataFrame:
    """Lists of up to three of the `CATEGORIES`, some without a value."""
    rng = np.random.default_rng(seed)
    lists = [
        list(rng.choice(CATEGORIES, rng.integers(1, 4), p=SHARES))
        if rng.random() >= empty
        else None
        for _ in range(rows)
    ]
    return pd.DataFrame({"genres": lists})


def test_lists_are_compared_by_their_values_and_the_rows_without_any() -> None:
    before, after = lists_of(2000, 1, 0.1), lists_of(2000, 2, 0.6)
    assert compared(lists_of(2000, 3, 0.1), before).drifted == []
    found = compared(after, before)
    assert found.drifted == ["genres"]
    (moved, *_) = found.features["genres"]["moved"]
    values = [
        frame["genres"].map(len, "ignore").sum() for frame in (before, after)
    ]
    gaps = [int(frame["genres"].isna().sum()) for frame in (before, after)]
    assert moved["value"] == "(missing)"
    assert [moved["before"], moved["after"]] == pytest.approx(
        [gap / (gap + n) for gap, n in zip(gaps, values, strict=True)]
    )


def test_a_list_is_not_compared_with_the_texts_of_an_older_version() -> None:
    lists = lists_of(500, 1, 0.0)
    texts = lists.map("|".join)
    found = compared(lists, texts)
    assert (found.drifted, found.only["types"]) == ([], ["genres"])


SEQUENCES = {"seen": "seen", "since": "seen"}


def histories(rows: int, seed: int) -> pd.DataFrame:
    """Items clicked before each row of a shop, and how long before."""
    rng, start = np.random.default_rng(seed), 8000  # nothing is known before
    columns, logit, _ = Shop(rng).draw(rng, np.arange(start + rows))
    clicked = rng.random(start + rows) < 1 / (1 + np.exp(-logit))
    past: dict[str, list[tuple[int, str]]] = {}
    seen, since = [], []
    user, item = columns["user_id"].to_pylist(), columns["item_id"].to_pylist()
    for row in range(start + rows):
        before = past.setdefault(user[row], [])
        seen.append([name for _, name in before[-50:]])
        since.append([float(row - time) for time, _ in before[-50:]])
        if clicked[row]:
            before.append((row, item[row]))
    lists = pd.DataFrame({"seen": seen, "since": since})[start:]
    return lists.reset_index(drop=True)


def sequences_compared(
    now: pd.DataFrame, base: pd.DataFrame, **config: Any
) -> Comparison:
    return compare(
        statistics(now, ["seen"]),
        statistics(base, ["seen"]),
        "the base",
        DriftConfig(**config),
        schema_pb2.Schema(),
        list(SEQUENCES),
        sequences=SEQUENCES,
    )


@pytest.mark.parametrize("rows", [1500, 6000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_times_of_one_log_have_alike_sequences(
    rows: int, seed: int
) -> None:
    lists = histories(2 * rows, seed)
    found = sequences_compared(lists[rows:], lists[:rows])
    assert found.drifted == []
    assert found.features.keys() == {"seen", "seen (length)", "since"}


def test_other_items_and_lists_of_other_lengths_are_a_drift() -> None:
    lists = histories(12_000, 4)
    base, now = lists[:6000], lists[6000:]
    renamed = now["seen"].map(lambda x: [f"sku-{name}" for name in x])
    few = now.map(lambda x: x[-3:])
    empty = now.map(lambda x: x[:0])
    for changed, drifted in (
        (now.assign(seen=renamed), "seen"),
        (few, "seen (length)"),
        (empty, "seen (length)"),
    ):
        assert drifted in sequences_compared(changed, base).drifted
    # `null` is of the items and of the lengths.
    found = sequences_compared(empty, base, features={"seen": None})
    assert found.features == {}


def test_sequences_whose_lists_nobody_counted_are_said_and_left_out() -> None:
    lists = histories(500, 1)
    found = compare(
        statistics(lists, ["seen"]), statistics(lists), "it", DriftConfig(),
        schema_pb2.Schema(), list(SEQUENCES), sequences=SEQUENCES,
    )  # fmt: skip
    assert not found.features and found.only["uncounted"] == ["seen", "since"]
    (line,) = lines({"drift": {"why": "", "comparisons": [found.to_json()]}})
    assert "distinct lists not counted: seen, since" in line


def test_distinct_lists_are_counted_in_batches_of_any_threads() -> None:
    rng = np.random.default_rng(1)
    lists = [
        [*map(str, rng.integers(0, 9, rng.integers(0, 4)))] for _ in range(3000)
    ]
    parts = [DistinctLists(), DistinctLists()]
    for number in range(0, 3000, 500):
        array = pa.array(lists[number : number + 500], pa.list_(pa.binary()))
        parts[number // 500 % 2].add(array)
    parts[0].merge(parts[1])
    assert parts[0].count() == len({tuple(x) for x in lists if x})
    many = DistinctLists()
    for first in range(0, 200_000, 50_000):
        values = np.arange(first, first + 50_000) * 0.5
        many.add(pa.array([[x, 1.0] for x in values]))
    assert many.count() == pytest.approx(200_000, rel=0.03)


def test_a_name_with_a_space_may_drift() -> None:
    data = frame(1000, 1).rename(columns={"coin": "a coin", "normal": "x.y"})
    later = frame(1000, 2, shift=True)
    found = compared(
        later.rename(columns={"coin": "a coin", "normal": "x.y"}), data
    )
    assert {"a coin", "x.y"} <= set(found.drifted)
