"""Lists in requests, logs of requests and batch scoring mean the same."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    prediction_service_pb2_grpc,
    regression_pb2,
)

from models.config.training import Features
from models.export import Served as ExportedModel
from models.export import export
from pipeline.cli import main
from serving import manifest, tf_serving
from serving.errors import BadInputError
from serving.request_log import Served, to_table
from serving.savedmodel import LoadedModel
from tests.examples import example
from tests.serving.features import FEATURES, Transform, ctr, export_model
from tests.serving.tiny import RunningServer

# Values of an example, and the list that they stand for.
LISTS: list[tuple[list[str], list[str]]] = [
    ([], []),
    (["a"], ["a"]),
    (["a", "bb", "a"], ["a", "bb", "a"]),
    (["a|bb"], ["a", "bb"]),
    (["True", "4.0"], ["1", "4"]),
    (["a|bb", "c"], ["a|bb", "c"]),
    (["a|bb", ""], ["a|bb"]),
]
SAYABLE = [(v, items) for v, items in LISTS if "|" not in "".join(items)]
ROW = {"x": 1.5, "c": "blue", "n": 3}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("serving_models") / "ads/7")


@pytest.fixture
def served(version: Path, server: RunningServer) -> Iterator[RunningServer]:
    shutil.copytree(version, server.model_dir / ".new")
    (server.model_dir / ".pinned").write_text("7")
    (server.model_dir / ".new").rename(server.model_dir / "7")
    server.wait_for(lambda: server.states().get(7) == "AVAILABLE")
    yield server
    (server.model_dir / ".pinned").unlink()
    server.revoke(7)
    server.wait_for(lambda: server.states() == {1: "AVAILABLE"})


def serialized(values: list[str]) -> bytes:
    return example(**ROW, tags=values)


def test_every_path_of_the_server_reads_a_list(served: RunningServer) -> None:
    predict = "/v1/models/tiny:predict"
    coded = [base64.b64encode(serialized(v)).decode() for v, _ in LISTS]
    body: Any = {
        "signature_name": "examples",
        "instances": [{"b64": c} for c in coded],
    }
    status, answer = served.call(predict, body)
    assert status == 200, answer
    for (_, items), found in zip(LISTS, answer["predictions"], strict=True):
        assert found == ctr(**ROW, tags=items)
    rows = [{**ROW, "tags": "|".join(v)} for v, _ in SAYABLE]
    status, answer = served.call(predict, {"instances": rows})
    texts = answer["predictions"]
    examples = [{**ROW, "tags": v} for v, _ in SAYABLE]
    _, answer = served.call("/v1/models/tiny:regress", {"examples": examples})
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "tiny"
    for values, _ in SAYABLE:
        request.input.example_list.examples.add().ParseFromString(
            serialized(values)
        )
    with grpc.insecure_channel(served.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        regressed = stub.Regress(request, timeout=20).result.regressions
    for number, (_, items) in enumerate(SAYABLE):
        truth = ctr(**ROW, tags=items)
        assert texts[number] == truth
        assert answer["results"][number] == truth
        assert regressed[number].value == truth


def test_a_value_that_no_text_can_hold_is_refused_with_a_way_out(
    served: RunningServer,
) -> None:
    status, answer = served.call(
        "/v1/models/tiny:regress",
        {"examples": [{**ROW, "tags": ["a|b", "c"]}]},
    )
    assert status == 400
    for words in ("'tags'", "separator '|'", "signature 'examples'"):
        assert words in answer["error"]


def test_the_log_of_requests_has_lists(version: Path, tmp_path: Path) -> None:
    model = LoadedModel(version)
    examples = np.array([serialized(v) for v, _ in LISTS], object)
    outputs = {"ctr": np.zeros(len(LISTS), np.float32)}
    served = Served(
        "a", 0.0, model, "examples", {"examples": examples}, outputs
    )
    table = to_table(served)
    found = table["tags"].to_pylist()
    plain = {"True": "1", "4.0": "4"}  # text is logged as it was sent
    assert [[plain.get(v, v) for v in row or []] for row in found] == [
        items for _, items in LISTS
    ]
    texts = np.array(["|".join(v) for v, _ in SAYABLE], object)
    columns = {
        "x": np.ones(len(texts), np.float32),
        "n": np.ones(len(texts), np.int64),
        "c": texts,
        "tags": texts,
    }
    outputs = {"ctr": np.zeros(len(texts), np.float32)}
    other = to_table(
        Served("b", 0.0, model, "serving_default", columns, outputs)
    )
    assert other.schema == table.schema  # one file holds both
    assert [row or [] for row in other["tags"].to_pylist()] == [
        [v for v in text.split("|") if v] for text in texts
    ]


def scored(folder: Path, version: Path, lists: list[Any]) -> dict[str, float]:
    """Id -> prediction, by `lionctr predict` of a log in JSON lines."""
    log, config, out = (folder / n for n in ("log", "ads.yaml", "out"))
    rows = [
        {"id": f"r{i}", **ROW, "tags": value} for i, value in enumerate(lists)
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = {"path": "x", "format": "jsonl"}
    data = {"impressions": reading, "label": "l", "max_rejected": 0.9}
    config.write_text(
        json.dumps({"name": "ads", "data": data, "features": FEATURES})
    )
    arguments = ["--config", str(config), "--columns", "id"]
    assert (
        main(["predict", str(version), str(log), "--out", str(out), *arguments])
        == 0
    )
    table = pq.read_table(sorted(out.glob("*.parquet")))
    return {row["id"]: row["ctr"] for row in table.to_pylist()}


def test_batch_scoring_takes_any_list(version: Path, tmp_path: Path) -> None:
    lists = [["a|bb"], ["a|bb", "c"], None, [], ["a", None, "a"], ["a", "bb"]]
    found = scored(tmp_path, version, lists)
    assert len(found) == len(lists)
    for number, items in enumerate(lists):
        kept = [item for item in items or [] if item]
        assert found[f"r{number}"] == ctr(**ROW, tags=kept)


def test_a_model_of_an_older_version_gets_no_list_that_it_misreads(
    version: Path, tmp_path: Path
) -> None:
    old = tmp_path / "7"
    shutil.copytree(version, old)
    about = manifest.about(str(old))
    del about["lists"]
    manifest.write(str(old), about)
    found = scored(tmp_path, old, [["a|bb", "c"], ["a", "bb"], None])
    assert found.keys() == {"r1", "r2"}
    assert found["r1"] == ctr(**ROW, tags=["a", "bb"])


KINDS = {
    "categorical": [
        {"name": "tags", "list": "|", "weights": ":", "min_count": 1}
    ],
    "vectors": [{"name": "item", "size": 2}],
}


class KindsTransform(Transform):
    """A transform of KINDS: texts joined, numbers as they are."""

    def transform_features_layer(self) -> Any:
        return lambda raw: {
            "text": tf.strings.reduce_join(tf.sparse.to_dense(raw["tags"]), 1),
            "item": tf.sparse.to_dense(raw["item"]),
        }

    def raw_feature_spec(self) -> dict[str, Any]:
        return {
            "tags": tf.io.VarLenFeature(tf.string),
            "item": tf.io.VarLenFeature(tf.float32),
        }


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Logits: the length of the tags' text, and the vector's numbers."""
    folder = tmp_path_factory.mktemp("kinds") / "1"
    served = ExportedModel(
        lambda inputs, training: (
            tf.cast(tf.strings.length(inputs["text"]), tf.float32)
            + tf.reduce_sum(inputs["item"], 1)
        ),
        KindsTransform(),
        Features.model_validate(KINDS),
    )
    export(served, str(folder), {})
    return LoadedModel(folder)


def test_weights_and_vectors_come_as_texts_and_as_lists(
    kinds: LoadedModel,
) -> None:
    rows = [
        {"tags": "a:0.3|True:1", "item": "-1,0.1"},
        {"tags": ["b"], "item": [-1, 0.1]},
        {"tags": None, "item": None},
        {"tags": ["1.0:2", "c"], "item": ""},
    ]
    logits = [len("a:0.31:1") - 0.9, 1 - 0.9, 0, len("1:2c")]
    expected = 1 / (1 + np.exp(-np.array(logits)))
    body = json.dumps({"instances": rows}).encode()
    request = tf_serving.decode(body, kinds.inputs, lists=kinds.lists or {})
    found = kinds.predict(request.signature, request.columns)["ctr"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    texts = np.array(
        [
            example(tags=["a:0.3", "True:1"]),
            example(tags=["b"]),
            example(),
            example(tags=["1.0:2", "c"]),
        ],
        object,
    )
    for row in (0, 1):  # messages that follow each other are merged
        texts[row] += example(item=[-1.0, 0.1])
    found = kinds.predict("examples", {"examples": texts})["ctr"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    outputs = {"ctr": np.zeros(4, np.float32)}
    logged = to_table(
        Served("a", 0.0, kinds, "examples", {"examples": texts}, outputs)
    )
    assert logged["item"].to_pylist() == [["-1", "0.1"]] * 2 + [None] * 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tags": "a:1|b:x"}, r"'tags'.*0 or more.*b:x"),
        ({"tags": "b:-1"}, r"'tags'.*b:-1"),
        ({"item": "1"}, r"'item'.*2 finite numbers"),
        ({"item": "1,2,3"}, r"'item'.*2 finite numbers"),
        ({"item": "1,nan"}, r"'item'.*2 finite numbers"),
    ],
)
def test_a_bad_weight_or_vector_is_refused_by_name(
    kinds: LoadedModel, row: dict[str, str], words: str
) -> None:
    columns = {
        name: np.array(["", row.get(name, "")], object)
        for name in ("tags", "item")
    }
    with pytest.raises(BadInputError, match=words) as error:
        kinds.predict("serving_default", columns)
    assert "function_node" not in str(error.value)
    if "item" in row:
        bad = example(item=[float(n) for n in row["item"].split(",")])
    else:
        bad = example(**row)
    examples = np.array([bad], object)
    with pytest.raises(BadInputError, match=words):
        kinds.predict("examples", {"examples": examples})
