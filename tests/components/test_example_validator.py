"""ExampleValidator stops on errors, and tells of drift, skew and leaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components import data_checks, model_store
from components.example_validator import base_statistics
from components.example_validator.executor import Executor
from components.pusher.statistics import drop, keep
from models.errors import RefusedError
from serving import manifest


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


def frame(rows: int, share: float) -> pd.DataFrame:
    """`site` is a in a share of the rows."""
    first = int(rows * share)
    return pd.DataFrame(
        {
            "site": ["a"] * first + ["b"] * (rows - first),
            "price": np.arange(rows) % 100 + 0.5,
        }
    )


class Place:
    """A folder of pushed models, and of the artifacts of one run."""

    def __init__(self, folder: Path) -> None:
        self.pushed_to = str(folder / "models" / "ads")
        self._folder = folder

    def statistics(self, name: str, **splits: pd.DataFrame) -> Any:
        """An artifact of the statistics of some splits."""
        artifact = standard_artifacts.ExampleStatistics()
        artifact.uri = str(self._folder / name)
        artifact.split_names = artifact_utils.encode_split_names(list(splits))
        for split, data in splits.items():
            folder = Path(artifact_utils.get_split_uri([artifact], split))
            folder.mkdir(parents=True)
            found = tfdv.generate_statistics_from_dataframe(data)
            (folder / "FeatureStats.pb").write_bytes(found.SerializeToString())
        return artifact

    def push(self, version: int, statistics: Any = None) -> Path:
        """A version with a manifest; the folder of its statistics."""
        model = Path(self.pushed_to, str(version))
        (model / "assets.extra").mkdir(parents=True)
        (model / "saved_model.pb").write_text("")
        identity = f"export-{version}"
        manifest.write(str(model), {"export_id": identity})
        if statistics is not None:
            keep(statistics.uri, self.pushed_to, identity)
        return Path(model_store.statistics_folder(self.pushed_to, identity))

    def check(
        self,
        statistics: Any,
        drift: Any = "warn",
        leaks: str = "warn",
        uneven: tuple[str, ...] = (),
        sequences: tuple[str, ...] = (),
    ) -> tuple[dict[str, Any], Any]:
        """Content of the artifact: FILE, and the train split's anomalies."""
        schema = standard_artifacts.Schema()
        schema.uri = str(self._folder / "schema")
        stats = tfdv.load_stats_binary(
            f"{statistics.uri}/Split-train/FeatureStats.pb"
        )
        io_utils.write_pbtxt_file(
            f"{schema.uri}/schema.pbtxt", tfdv.infer_schema(stats)
        )
        anomalies = standard_artifacts.ExampleAnomalies()
        anomalies.uri = str(self._folder / "anomalies")
        wanted = data_checks.settings(
            data_checks.DriftConfig.model_validate(drift),
            leaks,
            {"site": "string", "price": "float"},
            uneven,
            dict.fromkeys(sequences, "site"),
        )
        Executor().Do(
            {"statistics": [statistics], "schema": [schema]},
            {"anomalies": [anomalies]},
            {
                "exclude_splits": "null",
                "settings": json.dumps(wanted),
                "pushed_to": self.pushed_to,
            },
        )
        found = json.loads(Path(anomalies.uri, data_checks.FILE).read_text())
        diff = Path(anomalies.uri, "Split-train/SchemaDiff.pb")
        return found, anomalies_pb2.Anomalies.FromString(diff.read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_drift_from_the_pushed_models_data_is_an_anomaly_that_tfx_reads(
    place: Place,
) -> None:
    place.push(1, place.statistics("old", train=frame(5000, 0.2)))
    place.push(2, place.statistics("day", train=frame(5000, 0.4)))
    now = place.statistics("now", train=frame(4000, 0.8), eval=frame(1000, 0.8))
    found, anomalies = place.check(now)
    assert found["drift"]["base"] == 2
    first, second = found["drift"]["comparisons"]
    assert first["drifted"] == ["site"] and second["drifted"] == []
    assert first["features"]["site"]["distance"] == pytest.approx(0.4)
    info = anomalies.anomaly_info["site"]
    assert info.severity == info.WARNING
    assert [r.type for r in info.reason] == [info.COMPARATOR_L_INFTY_HIGH]
    assert "a 40.0% -> 80.0%" in info.description
    assert {i.path.step[0] for i in anomalies.drift_skew_info} == {
        "site",
        "price",
    }


def test_skew_between_train_and_eval_is_told(place: Place) -> None:
    now = place.statistics("now", train=frame(4000, 0.8), eval=frame(1000, 0.5))
    found, anomalies = place.check(now)
    assert found["drift"]["base"] is None
    assert "no model of other data" in found["drift"]["why"]
    (only,) = found["drift"]["comparisons"]
    assert only["against"] == "the eval split"
    assert only["drifted"] == ["site"]
    assert any(i.skew_measurements for i in anomalies.drift_skew_info)
    # Each of its values is in one split, because the config says so.
    found, _ = place.check(now, uneven=("site",))
    (only,) = found["drift"]["comparisons"]
    assert list(only["features"]) == ["price"]
    # Users of one split have other histories than those of another.
    found, _ = place.check(now, sequences=("site",))
    (only,) = found["drift"]["comparisons"]
    assert list(only["features"]) == ["price"]


def test_a_run_on_the_same_data_is_compared_with_the_model_before(
    place: Place,
) -> None:
    now = place.statistics("now", train=frame(4000, 0.8))
    place.push(1, place.statistics("old", train=frame(5000, 0.2)))
    before = base_statistics.find(place.pushed_to, now.uri)
    place.push(2, now)
    after = base_statistics.find(place.pushed_to, now.uri)
    assert before.version == after.version == 1
    assert before.identity == after.identity
    place.push(3, place.statistics("later", train=frame(5000, 0.3)))
    assert base_statistics.find(place.pushed_to, now.uri).version == 3


def test_statistics_that_are_gone_or_damaged_are_said_and_no_failure(
    place: Place,
) -> None:
    now = place.statistics("now", train=frame(4000, 0.8))
    folder = place.push(1, place.statistics("old", train=frame(5000, 0.2)))
    intact = base_statistics.find(place.pushed_to, now.uri)
    (folder / "Split-train/FeatureStats.pb").write_bytes(b"\xff damaged")
    found, _ = place.check(now)
    assert "are damaged" in found["drift"]["why"]
    shutil.rmtree(folder)
    gone = base_statistics.find(place.pushed_to, now.uri)
    assert "has no statistics of its data" in gone.why
    assert gone.identity != intact.identity
    found, _ = place.check(now)
    assert found["drift"]["why"] == gone.why
    assert found["drift"]["comparisons"] == []


def test_stop_refuses_and_off_looks_for_nothing(place: Place) -> None:
    place.push(1, place.statistics("old", train=frame(5000, 0.2)))
    now = place.statistics("now", train=frame(4000, 0.8))
    with pytest.raises(RefusedError, match="site: infinity norm") as error:
        place.check(now, "stop")
    assert error.value.data_checks is not None
    found, anomalies = place.check(now, "off", "off")
    assert found == {"version": 1}
    assert not anomalies.anomaly_info and not anomalies.drift_skew_info


def test_a_feature_that_tells_the_label_is_warned_of_or_refused(
    place: Place,
) -> None:
    now = place.statistics("now", train=frame(4000, 0.8))
    found, _ = place.check(now)
    assert "StatisticsGen left no" in found["leaks"]["why"]
    alone = {"auc": 0.99612, "by": "the value itself"}
    honest = {"auc": 0.9, "by": "the value itself"}
    features = {"price": alone, "site": honest, "slice": alone}
    Path(now.uri, data_checks.SINGLE_FEATURES).write_text(
        json.dumps(
            {"rows": 9, "total": 10, "positives": 4, "features": features}
        )
    )
    found, _ = place.check(now)
    assert found["leaks"]["found"] == ["price"]  # a slice is no feature
    with pytest.raises(RefusedError, match=r"price: .* AUC of 0\.99612"):
        place.check(now, leaks="stop")


def test_statistics_of_versions_that_are_gone_are_removed(
    place: Place,
) -> None:
    first = place.push(1, place.statistics("one", train=frame(50, 0.5)))
    second = place.push(2, place.statistics("two", train=frame(50, 0.6)))
    shutil.rmtree(Path(place.pushed_to, "1"))
    drop(place.pushed_to)
    assert not first.exists() and second.exists()
