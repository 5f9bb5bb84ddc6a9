"""The ServingGate on real exports, with the real server."""

from __future__ import annotations

import logging
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.pusher.executor import Executor as StockPusher
from tfx.types import standard_artifacts

from components.serving_gate import executor, server
from models.errors import RefusedError
from serving import manifest
from serving.savedmodel import LoadedModel
from tests.components.exports import push, pushed_to
from tests.components.serving_gate import small
from tests.serving.tiny import SLOW_USER, export

WARM_UP = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("serving_gate")
    return folder


@pytest.fixture(scope="module")
def tiny(home: Path) -> Any:
    return small.model(home / "tiny")


@pytest.fixture(scope="module")
def rows(home: Path) -> Any:
    return small.examples(home / "examples")


@pytest.fixture(scope="module")
def blessing(home: Path, tiny: Any, rows: Any) -> Any:
    """The tiny model's, beside a served version that takes I2.

    There is a proxy for the network, which no request may go through. The
    server's program is started ahead, and no other can be started.
    """
    export(home / "models/tiny/3", 0.0, number="I2")
    with pytest.MonkeyPatch.context() as patch, server.prepared():
        patch.setattr(sys, "executable", "no program")
        for name in ("http_proxy", "grpc_proxy", "HTTP_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")
        return small.gate(tiny, rows, home, allow_input_change=True)


def test_a_model_that_is_served_as_trained_is_blessed(blessing: Any) -> None:
    assert blessing.get_int_custom_property("blessed") == 1
    assert (Path(blessing.uri) / "INFRA_BLESSED").exists()
    found = executor.report(blessing.uri)
    assert found["rows"] == small.ROWS and found["split"] == "eval"
    for latency in found["latency"].values():
        assert 0 < latency["p50"] <= latency["p99"] < found["p99_ms"]
        assert latency["requests"] == small.ROWS
    stock = StockPusher()
    assert stock.CheckBlessing({"infra_blessing": [blessing]})


def test_the_requests_are_pushed_with_the_model_and_in_its_manifest(
    blessing: Any, tiny: Any, tmp_path: Path
) -> None:
    version = pushed_to(
        push(tiny, tmp_path / "tiny", more={"infra_blessing": [blessing]})
    )
    assert manifest.verify(str(version))
    with (version / WARM_UP).open("ab") as file:
        file.write(b"more")
    with pytest.raises(manifest.DamagedError, match="warmup_requests has"):
        manifest.verify(str(version))


def test_tensorflow_serving_reads_the_requests_as_its_own(
    blessing: Any, tiny: Any, rows: Any
) -> None:
    path = Path(blessing.uri) / "tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset([str(path)])
    ]
    assert len(requests) == small.ROWS + 2
    model = tf.saved_model.load(f"{tiny.uri}/Format-Serving")
    answers = []
    for log in requests:
        request = log.predict_log.request
        assert request.model_spec.name == small.NAME
        signature = model.signatures[request.model_spec.signature_name]
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor))
            for name, tensor in request.inputs.items()
        }
        answers.append(signature(**inputs)["ctr"].numpy())
    everything, examples, *each = answers
    np.testing.assert_allclose(everything, examples, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(each), examples, atol=1e-6)


def test_the_server_is_warmed_up_with_the_requests_silently(
    blessing: Any,
    tiny: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    predict = LoadedModel.predict

    def counted(self: LoadedModel, signature: str, features: Any) -> Any:
        outputs = predict(self, signature, features)
        asked.append(len(outputs["ctr"]))
        return outputs

    monkeypatch.setattr(LoadedModel, "predict", counted)
    version = pushed_to(
        push(tiny, tmp_path / "tiny", more={"infra_blessing": [blessing]})
    )
    with caplog.at_level(logging.DEBUG, "serving"):
        LoadedModel(version)
    assert asked[2:] == [small.ROWS, small.ROWS] + [1] * small.ROWS
    assert not caplog.records
    (version / WARM_UP).write_bytes(b"damaged")
    (version / manifest.NAME).unlink()
    LoadedModel(version)  # it is no part of the model


def test_a_model_that_is_slow_and_answers_otherwise_is_refused_for_both(
    tmp_path: Path,
) -> None:
    model = small.model(tmp_path / "m", skew=0.5, slow=20_000)
    rows = small.examples(tmp_path / "rows", [1, SLOW_USER, 3])
    with pytest.raises(RefusedError) as refusal:
        small.gate(model, rows, tmp_path, p99_ms=10)
    title, *lines = str(refusal.value).splitlines()
    assert title == "The ServingGate refused the model; nothing was pushed."
    ways = [line.strip().partition(":")[0] for line in lines]
    assert ways == ["REST", "gRPC", "REST", "gRPC"]  # not by `examples`
    for line in lines[:2]:
        assert "3 of 3 rows differ from the model's own prediction" in line
    for line in lines[2:]:
        assert "99 % of 3 requests of one row are answered in at lea" in line
        assert "threshold: serving_gate.p99_ms 10" in line
    assert not (tmp_path / "blessing/INFRA_BLESSED").exists()


def test_a_model_that_gives_nan_is_refused(tmp_path: Path, rows: Any) -> None:
    model = small.model(tmp_path / "m", math.nan)
    with pytest.raises(RefusedError, match=r"no finite number for 40 of 40 ro"):
        small.gate(model, rows, tmp_path)


def rename_op(folder: Path) -> None:
    """Puts an op of a library of one's own into the graph."""
    path = folder / "Format-Serving/saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Sigmoid":
                node.op = "LionSigmoid"
    path.write_bytes(saved.SerializeToString())


def test_an_op_outside_stock_tensorflow_is_refused_before_loading(
    tmp_path: Path, tiny: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_serve", lambda *_: pytest.fail("served"))
    shutil.copytree(tiny.uri, tmp_path / "m")
    rename_op(tmp_path / "m")
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "m")
    with pytest.raises(RefusedError, match=r"does not serve: LionSigmoid"):
        small.gate(model, rows, tmp_path)


def test_a_call_back_into_python_is_refused_before_loading(
    tmp_path: Path, rows: Any
) -> None:
    model = small.model(tmp_path / "m", python=True)
    with pytest.raises(RefusedError, match=r"does not serve: EagerPyFunc"):
        small.gate(model, rows, tmp_path)


def test_inputs_of_the_served_version_that_are_missing_are_refused(
    tmp_path: Path, tiny: Any, rows: Any
) -> None:
    export(tmp_path / "models/tiny/7", 0.0, number="I2")
    with pytest.raises(RefusedError) as refusal:
        small.gate(tiny, rows, tmp_path)
    assert "than the served version 7: it lacks 'I2'" in str(refusal.value)
    assert "serving_gate.allow_input_change: true" in str(refusal.value)
    assert "adds" not in str(refusal.value)  # no client sends these yet


def test_inputs_that_went_missing_are_in_the_key_of_the_cache(
    tmp_path: Path, tiny: Any
) -> None:
    base = str(tmp_path / "tiny")
    assert executor.served(base, tiny.uri) == ""
    shutil.copytree(f"{tiny.uri}/Format-Serving", tmp_path / "tiny/1")
    assert executor.served(base, tiny.uri) == ""  # its own push changes nothing
    export(tmp_path / "tiny/2", 0.0, number="I2")
    assert executor.served(base, tiny.uri) == "lacks 'I2'"


def test_no_server_is_started_for_a_model_that_the_evaluator_refused(
    tmp_path: Path, tiny: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_serve", lambda *_: pytest.fail("served"))
    blessing = small.gate(tiny, rows, tmp_path, blessed=False)
    assert blessing.get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing/INFRA_NOT_BLESSED").exists()
    assert not StockPusher().CheckBlessing({"infra_blessing": [blessing]})
