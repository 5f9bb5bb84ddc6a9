"""ExampleValidator stops the run on errors, naming feature and anomaly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.example_validator.executor import Executor
from models.errors import RefusedError


def validate(tmp_path: Path, schema: Any, frame: pd.DataFrame) -> None:
    """Runs the component on the statistics of `frame`."""
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(tmp_path / "statistics")
    statistics.split_names = artifact_utils.encode_split_names(["train"])
    folder = Path(artifact_utils.get_split_uri([statistics], "train"))
    folder.mkdir(parents=True)
    stats = tfdv.generate_statistics_from_dataframe(frame)
    (folder / "FeatureStats.pb").write_bytes(stats.SerializeToString())
    artifact = standard_artifacts.Schema()
    artifact.uri = str(tmp_path / "schema")
    io_utils.write_pbtxt_file(f"{artifact.uri}/schema.pbtxt", schema)
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(tmp_path / "anomalies")
    Executor().Do(
        {"statistics": [statistics], "schema": [artifact]},
        {"anomalies": [anomalies]},
        {"exclude_splits": "null"},
    )


FRAME = pd.DataFrame({"site": ["a", "b", "a"] * 20, "price": [1.0, 2, 3] * 20})


def test_data_like_the_schema_passes(tmp_path: Path) -> None:
    stats = tfdv.generate_statistics_from_dataframe(FRAME)
    validate(tmp_path, tfdv.infer_schema(stats), FRAME)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME.drop(columns="price"), "price: Column dropped"),
        (FRAME.assign(site="c"), "site: Unexpected string values"),
        (FRAME.assign(price="x"), "price: "),
    ],
)
def test_an_error_names_split_feature_and_anomaly(
    tmp_path: Path, frame: pd.DataFrame, words: str
) -> None:
    schema = tfdv.infer_schema(tfdv.generate_statistics_from_dataframe(FRAME))
    with pytest.raises(RefusedError) as error:
        validate(tmp_path, schema, frame)
    assert f"train: {words}" in str(error.value)
    assert "curated_schema" in str(error.value)
