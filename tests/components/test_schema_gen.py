"""SchemaGen puts no bounds on how many values a list has."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.schema_gen.component import SchemaGen

Row = list[bytes]


def statistics_of(rows: list[Row]) -> object:
    columns = {
        "tags": rows,
        "site": [[b"a"] for _ in rows],
    }
    batch = pa.RecordBatch.from_pydict(
        {n: pa.array(v, pa.list_(pa.binary())) for n, v in columns.items()}
    )
    return stats_impl.generate_statistics_in_memory(batch)


def inferred(folder: Path, rows: list[Row]) -> schema_pb2.Schema:
    """The schema that the component, with `tags` a list, leaves."""
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder / "statistics")
    statistics.split_names = artifact_utils.encode_split_names(["train"])
    split = Path(artifact_utils.get_split_uri([statistics], "train"))
    split.mkdir(parents=True)
    data = statistics_of(rows).SerializeToString()
    (split / "FeatureStats.pb").write_bytes(data)
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    component = SchemaGen(
        types.Channel(type=standard_artifacts.ExampleStatistics), ["tags"]
    )
    component.executor_spec.executor_class().Do(
        {"statistics": [statistics]},
        {"schema": [schema]},
        dict(component.exec_properties),
    )
    return io_utils.parse_pbtxt_file(
        f"{schema.uri}/schema.pbtxt", schema_pb2.Schema()
    )


@pytest.mark.parametrize("lengths", [(1, 1), (2, 2), (1, 3)])
def test_a_later_log_may_have_lists_of_other_lengths(
    tmp_path: Path, lengths: tuple[int, int]
) -> None:
    schema = inferred(tmp_path, [[b"a"] * length for length in lengths] * 20)
    later = statistics_of([[b"a"], [b"a"] * 9] * 20)
    assert not tfdv.validate_statistics(later, schema).anomaly_info
    single = {f.name: f.value_count.max for f in schema.feature}
    assert single == {"tags": 0, "site": 1}
