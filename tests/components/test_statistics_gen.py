"""StatisticsGen leaves what TFX's leaves, whatever the batches and threads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen.executor import Executor as Stock
from tfx.types import artifact_utils, standard_artifacts

from components.data_checks import SINGLE_FEATURES
from components.statistics_gen.executor import Executor
from components.statistics_gen.split_statistics import (
    statistics_of,
    without_weights,
)
from tests.examples import example

STRING = statistics_pb2.FeatureNameStatistics.STRING


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with ties, missing values, lists, NaN, text that is no UTF-8."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        row: dict[str, Any] = {
            "id": [f"v{i}".encode()],
            "site": [f"s{int(rng.zipf(1.6)) % 50}".encode()],
            "tags": [b"a", b"b", b"a"][: int(rng.integers(0, 4))],
            "raw": [bytes([200 + i % 5, 0, i % 7])],
            "price": [float(rng.normal())],
            "count": [int(rng.integers(-5, 5))],
            "constant": [1.0],
            "nothing": [],
        }
        if i % 3 == 0:
            row["price"] = []
        if i % 11 == 0:
            row["price"] = [float("nan")]
        if i % 5 == 0:
            del row["site"]
        made.append(row)
    return made


def write(path: Path, data: list[dict[str, Any]]) -> None:
    """TFRecords of tf.Examples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in data:
            writer.write(example(**row))


def execute(
    cls: type[Any], folder: Path, splits: dict[str, list[list[dict[str, Any]]]]
) -> Any:
    """Runs an executor; split -> its statistics, and the artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples.span = 7
    for split, files in splits.items():
        uri = Path(artifact_utils.get_split_uri([examples], split))
        uri.mkdir(parents=True)
        for i, data in enumerate(files):
            write(uri / f"part-{i}", data)
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = str(folder / "statistics")
    context = cls.Context(
        beam_pipeline_args=["--runner=FnApiRunner"],
        tmp_dir=str(folder / "tmp"),
        unique_id="1",
    )
    cls(context).Do(
        {"examples": [examples]},
        {"statistics": [artifact]},
        {"exclude_splits": "null"},
    )
    found = {
        split: tfdv.load_stats_binary(
            str(
                Path(artifact_utils.get_split_uri([artifact], split))
                / "FeatureStats.pb"
            )
        )
        for split in splits
    }
    return found, artifact


def by_path(stats: Any) -> dict[tuple[str, ...], Any]:
    (dataset,) = stats.datasets
    return {tuple(f.path.step): f for f in dataset.features}


def assert_same(ours: Any, stock: Any, values: int) -> None:
    """Counts, means and top values equal; quantiles within TFDV's epsilon."""
    assert ours.datasets[0].num_examples == stock.datasets[0].num_examples
    one, other = by_path(ours), by_path(stock)
    assert one.keys() == other.keys()
    for path, mine in one.items():
        theirs = other[path]
        assert mine.type == theirs.type, path
        kind = mine.WhichOneof("stats")
        assert kind == theirs.WhichOneof("stats"), path
        a, b = getattr(mine, kind), getattr(theirs, kind)
        for name in (
            "num_non_missing",
            "num_missing",
            "min_num_values",
            "max_num_values",
            "tot_num_values",
        ):
            assert getattr(a.common_stats, name) == getattr(
                b.common_stats, name
            ), (path, name)
        assert a.common_stats.avg_num_values == pytest.approx(
            b.common_stats.avg_num_values, rel=1e-6
        )
        if kind == "string_stats":
            assert a.unique == b.unique, path
            assert list(a.top_values) == list(b.top_values), path
            assert a.rank_histogram == b.rank_histogram, path
            assert a.avg_length == pytest.approx(b.avg_length, rel=1e-6)
            assert a.invalid_utf8_count == b.invalid_utf8_count
        if kind == "num_stats":
            for name in ("mean", "std_dev", "min", "max"):
                assert getattr(a, name) == pytest.approx(
                    getattr(b, name), rel=1e-6, abs=1e-12, nan_ok=True
                ), (path, name)
            assert a.num_zeros == b.num_zeros
            # A median is within 1 % of the ranks.
            assert abs(a.median - b.median) <= values
            assert len(a.histograms) == len(b.histograms)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Ours and stock on the same rows."""
    splits = {
        "train": [rows(700), rows(400, 1)],
        "eval": [rows(90, 2)],
        "one": [rows(1)],
        "empty": [[]],
    }
    folder = tmp_path_factory.mktemp("statistics")
    return (
        execute(Executor, folder / "ours", splits),
        execute(Stock, folder / "stock", splits),
    )


@pytest.mark.ci
@pytest.mark.parametrize("split", ["train", "eval", "one"])
def test_statistics_equal_stock_tfx(both, split):
    (ours, _), (stock, _) = both
    assert_same(ours[split], stock[split], values=0.2)


@pytest.mark.ci
def test_a_split_without_rows_is_as_stock_leaves_it(both):
    (ours, _), (stock, _) = both
    assert len(ours["empty"].datasets) == len(stock["empty"].datasets)
    assert not ours["empty"].datasets[0].num_examples


@pytest.mark.ci
def test_the_artifact_says_what_stock_says(both):
    (_, ours), (_, stock) = both
    assert ours.split_names == stock.split_names
    assert ours.span == stock.span == 7
    name = "sample_rate_by_split"
    assert ours.get_json_value_custom_property(
        name
    ) == stock.get_json_value_custom_property(name)


def test_what_each_feature_tells_of_the_label_lies_beside_the_splits(tmp_path):
    data = [
        {**row, "label": [i % 9 // 8], "told": [f"{i % 9 // 8}".encode()]}
        for i, row in enumerate(rows(400))
    ]
    _, artifact = execute(Executor, tmp_path, {"train": [data[:90], data[90:]]})
    found = json.loads((Path(artifact.uri) / SINGLE_FEATURES).read_text())
    assert found["rows"] == found["total"] == 400
    assert found["features"]["told"]["auc"] == 1
    assert found["features"]["id"]["auc"] == 0.5
    assert "label" not in found["features"]


@pytest.mark.ci
def test_schema_and_anomalies_come_out_alike(both):
    (ours, _), (stock, _) = both
    schemas = [
        tfdv.infer_schema(found["train"], infer_feature_shape=False)
        for found in (ours, stock)
    ]
    # Stock's features come in the order in which Beam merged them.
    for part in ("feature", "string_domain"):
        one, other = (
            {item.name: item for item in getattr(schema, part)}
            for schema in schemas
        )
        assert one == other
    anomalies = [
        tfdv.validate_statistics(found["eval"], schemas[0])
        for found in (ours, stock)
    ]
    assert dict(anomalies[0].anomaly_info) == dict(anomalies[1].anomaly_info)


@pytest.mark.parametrize(("size", "threads"), [(1, 1), (7, 3), (10_000, 2)])
def test_batches_and_threads_change_nothing(tmp_path, size, threads):
    data = rows(60)
    write(tmp_path / "all", data)
    write(tmp_path / "a", data[:25])
    write(tmp_path / "b", data[25:])
    whole = statistics_of([str(tmp_path / "all")], threads=1)
    parts = statistics_of(
        [str(tmp_path / "a"), str(tmp_path / "b")], size, threads
    )
    assert_same(parts, whole, values=0.5)


@pytest.mark.parametrize(
    ("kept", "size"), [(1 << 20, 1 << 28), (30, 1 << 28), (1 << 20, 900)]
)
def test_counts_of_values_are_exact_in_memory_and_files(
    tmp_path, monkeypatch, kept, size
):
    from components.statistics_gen import value_counts

    monkeypatch.setattr(value_counts, "_PENDING", 10)
    monkeypatch.setattr(value_counts, "_KEPT", kept)
    monkeypatch.setattr(value_counts, "_BYTES", size)
    data = [{"id": [f"v{i % 97}".encode()]} for i in range(1000)]
    write(tmp_path / "all", data)
    found = by_path(statistics_of([str(tmp_path / "all")], rows=13, threads=2))
    stats = found["id",].string_stats
    assert stats.unique == 97
    # Values 0 to 29 came eleven times; the larger text is first, as in TFDV.
    assert [(v.value, v.frequency) for v in stats.top_values] == [
        (name, 11.0)
        for name in sorted((f"v{i}" for i in range(30)), reverse=True)
    ][: len(stats.top_values)]
    assert len(stats.top_values) == 20


def test_values_of_a_list_are_counted_without_their_weights() -> None:
    rows = [[b"a:1", b"b"], None, [b"x:y:.5", b"", b"c\n:2"], []]
    tags = pa.array(rows, pa.large_list(pa.large_binary()))
    others = pa.array([[1.0]] * 4, pa.large_list(pa.float32()))
    batch = pa.RecordBatch.from_pydict({"n": others, "tags": tags})
    for part in (batch, batch.slice(1)):
        found = without_weights(part, {"tags": ":", "absent": ":"})
        assert found.schema == batch.schema
        assert found["n"].equals(part["n"])
        wanted = [[b"a", b"b"], None, [b"x:y", b"", b"c\n"], []]
        assert found["tags"].to_pylist() == wanted[4 - part.num_rows :]
