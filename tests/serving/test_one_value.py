"""One value means one category, and is taken or refused, on every path."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as v2_stubs
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from models.config.training import Features
from models.export import Served, export
from tests.serving.tiny import RunningServer

FEATURES = Features.model_validate(
    {"numeric": ["x"], "categorical": ["c", {"name": "tags", "list": "|"}]}
)
SPEC = {"x": tf.float32, "c": tf.string, "tags": tf.string}
# Model of a vocabulary with the line 1, whose row has its own weight.
KNOWN, OTHER = 1 / (1 + math.exp(-2.0)), 0.5


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return lambda raw: {k: tf.sparse.to_dense(v) for k, v in raw.items()}

    def raw_feature_spec(self) -> dict[str, Any]:
        return {name: tf.io.VarLenFeature(t) for name, t in SPEC.items()}


def model(inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """2 for the category 1, 0 for others."""
    assert not training
    return 2.0 * tf.cast(inputs["c"] == "1", tf.float32)[:, 0]


@pytest.fixture
def served(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """The server with a model whose text feature has the category 1."""
    folder = tmp_path_factory.mktemp("export")
    export(Served(model, Transform(), FEATURES), str(folder / "m"), {})
    (server.model_dir / ".pinned").write_text("2")
    (folder / "m").rename(server.model_dir / "2")
    server.wait_for(lambda: server.states().get(2) == "AVAILABLE")
    yield server
    (server.model_dir / ".pinned").unlink()
    server.revoke(2)
    server.wait_for(lambda: server.states() == {1: "AVAILABLE"})


def answered(server: RunningServer, path: str, body: Any) -> float:
    status, answer = server.call(path, body)
    assert status == 200, answer
    found = answer.get("predictions") or answer.get("results")
    return float((found or answer["outputs"][0]["data"])[0])


def row(value: Any) -> dict[str, Any]:
    return {"c": value, "x": 1.0, "tags": ""}


def rest(server: RunningServer, value: Any) -> float:
    return answered(
        server, "/v1/models/tiny:predict", {"instances": [row(value)]}
    )


def regress(server: RunningServer, value: Any) -> float:
    return answered(
        server, "/v1/models/tiny:regress", {"examples": [row(value)]}
    )


def datatype(value: Any) -> tuple[str, str]:
    """The protocol's datatype of a value, and struct's."""
    return {bool: ("BOOL", "<?"), int: ("INT64", "<q"), float: ("FP64", "<d")}[
        type(value)
    ]


def v2_json(server: RunningServer, value: Any) -> float:
    kind = "BYTES" if isinstance(value, str) else datatype(value)[0]
    inputs = [
        {"name": "c", "shape": [1], "datatype": kind, "data": [value]},
        {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [[1.0]]},
        {"name": "tags", "shape": [1], "datatype": "BYTES", "data": [""]},
    ]
    return answered(server, "/v2/models/tiny/infer", {"inputs": inputs})


def v2_grpc(server: RunningServer, value: Any) -> float:
    if isinstance(value, str):
        kind, data = "BYTES", struct.pack("<I", len(value)) + value.encode()
    else:
        kind, code = datatype(value)
        data = struct.pack(code, value)
    message = pb.ModelInferRequest(model_name="tiny")
    message.inputs.add(name="c", shape=[1, 1], datatype=kind)
    message.inputs.add(name="x", shape=[1], datatype="FP32")
    message.inputs.add(name="tags", shape=[1], datatype="BYTES")
    message.raw_input_contents.extend([data, struct.pack("<f", 1), b"\0" * 4])
    with grpc.insecure_channel(server.grpc) as channel:
        answer = v2_stubs.GRPCInferenceServiceStub(channel).ModelInfer(
            message, timeout=20
        )
    return float(struct.unpack("<f", answer.raw_output_contents[0])[0])


def tf_serving_grpc(server: RunningServer, value: Any) -> float:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.inputs["c"].CopyFrom(tf.make_tensor_proto([[value]]))
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    request.inputs["tags"].CopyFrom(tf.make_tensor_proto([""]))
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=20)
    return float(tf.make_ndarray(answer.outputs["ctr"])[0])


def example(value: Any) -> tf.train.Example:
    found = tf.train.Example()
    feature = found.features.feature["c"]
    if isinstance(value, str):
        feature.bytes_list.value.append(value.encode())
    elif isinstance(value, float):
        feature.float_list.value.append(value)
    else:
        feature.int64_list.value.append(int(value))
    return found


def grpc_regress(server: RunningServer, value: Any) -> float:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "tiny"
    request.input.example_list.examples.append(example(value))
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Regress(request, timeout=20)
    return float(answer.result.regressions[0].value)


def grpc_classify(server: RunningServer, value: Any) -> float:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "tiny"
    request.input.CopyFrom(
        input_pb2.Input(
            example_list_with_context=input_pb2.ExampleListWithContext(
                examples=[tf.train.Example()], context=example(value)
            )
        )
    )
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Classify(request, timeout=20)
    scores = {
        c.label: c.score for c in answer.result.classifications[0].classes
    }
    assert scores["0"] == pytest.approx(1 - scores["1"])
    return float(scores["1"])


def serialized(server: RunningServer, value: Any) -> float:
    content = base64.b64encode(example(value).SerializeToString()).decode()
    body = {"signature_name": "examples", "instances": [{"b64": content}]}
    return answered(server, "/v1/models/tiny:predict", body)


PATHS: list[Callable[[RunningServer, Any], float]] = [
    rest,
    regress,
    v2_json,
    v2_grpc,
    tf_serving_grpc,
    grpc_regress,
    grpc_classify,
    serialized,
]


def test_a_value_has_one_category(served: RunningServer) -> None:
    ones: list[Any] = ["1", "1.0", "true", "True", "TRUE", True, 1, 1.0]
    others: list[Any] = ["0", "false", False, 0, -0.0, "01", "yes", 2, "1.50"]
    for path in PATHS:
        for value in ones + others:
            if path is serialized and not isinstance(value, str):
                continue  # tf.io.parse_example takes one type a feature
            expected = KNOWN if value in ones else OTHER
            if isinstance(value, bool | float):
                expected = KNOWN if value == 1 else OTHER
            assert path(served, value) == pytest.approx(expected), (
                path.__name__,
                value,
            )


def test_signatures_alone_have_the_rule(tmp_path: Path) -> None:
    export(Served(model, Transform(), FEATURES), str(tmp_path / "m"), {})
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    texts = ["true", "1.0", "1", "false", "x"]
    found = loaded.signatures["serving_default"](
        c=tf.constant(texts), x=tf.ones(5), tags=tf.constant([""] * 5)
    )["ctr"].numpy()
    messages = [example(text).SerializeToString() for text in texts]
    same = loaded.signatures["examples"](examples=tf.constant(messages))
    assert found.tolist() == same["ctr"].numpy().tolist()
    assert found == pytest.approx([KNOWN] * 3 + [OTHER] * 2)


@pytest.mark.parametrize(
    ("kind", "code", "value", "feature"),
    [
        ("FP64", "<d", 1e300, "I1"),
        ("UINT64", "<Q", 2**63, "user"),
        ("FP32", "<f", 7.0, "user"),
        ("BOOL", "<?", True, "user"),
    ],
)
def test_a_number_that_does_not_fit_is_refused(
    server: RunningServer, kind: str, code: str, value: Any, feature: str
) -> None:
    rows = {
        "I1": ("FP32", 1.5, struct.pack("<f", 1.5)),
        "C1": ("BYTES", "abc", b"\3\0\0\0abc"),
        "user": ("INT64", 7, struct.pack("<q", 7)),
    }
    rows[feature] = (kind, value, struct.pack(code, value))
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [item]}
        for name, (datatype, item, _) in rows.items()
    ]
    status, answer = server.call("/v2/models/tiny/infer", {"inputs": inputs})
    assert status == 400 and repr(feature) in answer["error"]
    message = pb.ModelInferRequest(model_name="tiny")
    for name, (datatype, _, data) in rows.items():
        message.inputs.add(name=name, shape=[1], datatype=datatype)
        message.raw_input_contents.append(data)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    for name, (datatype, item, _) in rows.items():
        dtype = {"FP64": tf.float64, "UINT64": tf.uint64}.get(datatype)
        request.inputs[name].CopyFrom(tf.make_tensor_proto([item], dtype))
    with grpc.insecure_channel(server.grpc) as channel:
        for ask in (
            lambda: v2_stubs.GRPCInferenceServiceStub(channel).ModelInfer(
                message, timeout=20
            ),
            lambda: prediction_service_pb2_grpc.PredictionServiceStub(
                channel
            ).Predict(request, timeout=20),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert repr(feature) in caught.value.details()
