"""Clients of other servers move over: their own packages, a real server."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tritonclient.http as triton_http
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput
from kserve import InferRequest as KserveRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as v2_stubs
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.tiny import ROW, RunningServer, expected_ctr

EXPECTED = expected_ctr(0.0, 1.5, "abc", 7)
COLUMNS = {
    "I1": ("FP32", np.array([[1.5]], np.float32)),
    "C1": ("BYTES", np.array([[b"abc"]], object)),
    "user": ("INT64", np.array([[7]], np.int64)),
}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_http(
    server: RunningServer, binary: bool, compression: str | None
) -> None:
    with triton_http.InferenceServerClient(
        server.url.removeprefix("http://")
    ) as client:
        assert client.is_model_ready("tiny")
        assert client.get_server_metadata()["name"] == "lion-ctr"
        inputs = []
        for name, (datatype, values) in COLUMNS.items():
            tensor = triton_http.InferInput(name, values.shape, datatype)
            tensor.set_data_from_numpy(values, binary_data=binary)
            inputs.append(tensor)
        asked = triton_http.InferRequestedOutput("ctr", binary_data=binary)
        answer = client.infer(
            "tiny",
            inputs,
            outputs=[asked],
            request_compression_algorithm=compression,
        )
        assert answer.as_numpy("ctr").dtype == np.float32
        assert answer.as_numpy("ctr") == pytest.approx([EXPECTED])


# Its protos have the names of KServe's: they need a process of their own.
TRITON_GRPC = """
import sys
import numpy as np
import tritonclient.grpc as triton
with triton.InferenceServerClient(sys.argv[1]) as client:
    assert client.is_server_ready()
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "9")
    assert list(client.get_model_metadata("tiny").versions) == ["1"]
    inputs = []
    for name, kind, value in (
        ("I1", "FP32", np.array([[1.5]], np.float32)),
        ("C1", "BYTES", np.array([[b"abc"]], object)),
        ("user", "INT64", np.array([[7]], np.int64)),
    ):
        tensor = triton.InferInput(name, value.shape, kind)
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    answer = client.infer("tiny", inputs, model_version="1")
    print(answer.as_numpy("ctr")[0])
"""


def test_triton_grpc(server: RunningServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRITON_GRPC, server.grpc],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(EXPECTED)


def test_kserve(server: RunningServer) -> None:
    def request(binary: bool) -> Any:
        inputs = []
        for name, (datatype, values) in COLUMNS.items():
            tensor = InferInput(name, list(values.shape), datatype)
            tensor.set_data_from_numpy(values, binary_data=binary)
            inputs.append(tensor)
        return KserveRequest("tiny", inputs)

    async def ask() -> list[Any]:
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        found = [
            await rest.infer(server.url, request(binary), model_name="tiny")
            for binary in (True, False)
        ]
        async with InferenceGRPCClient(server.grpc) as client:
            found.append(await client.infer(request(True)))
        return found

    for answer in asyncio.run(ask()):
        (output,) = answer.outputs
        assert output.as_numpy() == pytest.approx([EXPECTED])


def predict_request(**spec: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    for name, value in spec.items():
        if name == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, name, value)
    for name, (_, values) in COLUMNS.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def test_tf_serving_predict(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for spec in ({}, {"version": 1}, {"version_label": "stable"}):
            answer = stub.Predict(predict_request(**spec), timeout=20)
            assert answer.model_spec.version.value == 1
            values = tf.make_ndarray(answer.outputs["ctr"])
            assert values == pytest.approx([EXPECTED])
        two = predict_request()
        for name, (_, values) in COLUMNS.items():
            both = np.concatenate([values, values])[:, 0]
            two.inputs[name].CopyFrom(tf.make_tensor_proto(both))
        # TF Serving's clients read the field, not `tensor_content`.
        found = stub.Predict(two, timeout=20).outputs["ctr"]
        assert found.float_val == pytest.approx([EXPECTED] * 2)
        assert tf.make_ndarray(found).tolist() == list(found.float_val)
        faults = [
            ({"version": 9}, grpc.StatusCode.NOT_FOUND, "9"),
            ({"name": "x"}, grpc.StatusCode.NOT_FOUND, "'x'"),
            ({"version_label": "x"}, grpc.StatusCode.NOT_FOUND, "stable"),
            (
                {"signature_name": "x"},
                grpc.StatusCode.INVALID_ARGUMENT,
                "signature",
            ),
        ]
        for spec, code, word in faults:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(predict_request(**spec), timeout=20)
            assert caught.value.code() == code
            assert word in caught.value.details()
        huge = predict_request()
        # One value may stand for a whole tensor.
        for tensor in huge.inputs.values():
            tensor.tensor_shape.dim[0].size = 2**40
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(huge, timeout=20)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_tf_serving_status_and_metadata(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "tiny"
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        (found,) = models.GetModelStatus(
            status, timeout=20
        ).model_version_status
        assert (found.version, found.state) == (1, found.AVAILABLE)
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "tiny"
        request.metadata_field.append("signature_def")
        answer = prediction_service_pb2_grpc.PredictionServiceStub(
            channel
        ).GetModelMetadata(request, timeout=20)
        assert answer.model_spec.version.value == 1
        definitions = get_model_metadata_pb2.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(definitions)
        inputs = definitions.signature_def["serving_default"].inputs
        assert sorted(inputs) == sorted(ROW)


def test_grpc_ready_names_a_missing_version(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = v2_stubs.GRPCInferenceServiceStub(channel)
        for version, ready in (("", True), ("1", True), ("9", False)):
            request = pb.ModelReadyRequest(name="tiny", version=version)
            assert stub.ModelReady(request, timeout=20).ready is ready
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelReady(pb.ModelReadyRequest(name="x"), timeout=20)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("path", ["/metrics", "/monitoring/prometheus/metrics"])
def test_prometheus_reads_the_metrics(server: RunningServer, path: str) -> None:
    server.predict({"instances": [ROW]})
    families = text_string_to_metric_families(server.call(path)[1])
    assert "lionctr_requests" in {family.name for family in families}


def test_classify_regress_and_labels(server: RunningServer) -> None:
    body = {"context": {"I1": 1.5}, "examples": [{"C1": ["abc"], "user": 7}]}
    for where in ("", "/versions/1", "/labels/stable", "/labels/canary"):
        path = f"/v1/models/tiny{where}"
        assert server.call(f"{path}:regress", body) == (
            200,
            {"results": [pytest.approx(EXPECTED)]},
        )
        status, answer = server.call(f"{path}:classify", body)
        assert status == 200
        assert answer["results"] == [
            [["0", pytest.approx(1 - EXPECTED)], ["1", pytest.approx(EXPECTED)]]
        ]
        assert server.predict({"instances": [ROW]}, where)[0] == 200
    assert server.predict({"instances": [ROW]}, "/labels/x")[0] == 404
    wrong = {"examples": [{"I1": [1, 2]}]}
    status, answer = server.call("/v1/models/tiny:regress", wrong)
    assert status == 400 and "'I1', row 0" in answer["error"]


def post(
    server: RunningServer, path: str, body: bytes, **headers: str
) -> tuple[int, Any, str]:
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    request = urllib.request.Request(server.url + path, body, named)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            text, status = response.read(), response.status
            name = response.headers["server"]
    except urllib.error.HTTPError as error:
        text, status, name = error.read(), error.code, error.headers["server"]
    return status, json.loads(text), name


def test_the_server_names_itself(server: RunningServer) -> None:
    assert post(server, "/v1/models/tiny:predict", b"x")[2] == "lion-ctr"
    status, answer = server.call("/v2")
    assert (status, answer["name"]) == (200, "lion-ctr")


def test_compressed_bodies_are_bounded(server: RunningServer) -> None:
    path = "/v1/models/tiny:predict"
    body = json.dumps({"instances": [ROW]}).encode()
    gzipped = gzip.compress(body)
    assert post(server, path, gzipped, content_encoding="gzip")[0] == 200
    bomb = gzip.compress(b" " * (80 << 20))
    for content, coding, status, word in (
        (bomb, "gzip", 413, "bytes"),
        (body, "gzip", 400, "gzip"),
        (gzipped[:-9], "gzip", 400, "whole"),
        (body, "br", 415, "'br'"),
    ):
        found = post(server, path, content, content_encoding=coding)
        assert found[0] == status and word in found[1]["error"]


def test_v2_needs_no_content_type(server: RunningServer) -> None:
    inputs = [
        {
            "name": name,
            "shape": [1],
            "datatype": "BYTES" if isinstance(value, str) else kind,
            "data": [value],
        }
        for (name, value), kind in zip(
            ROW.items(), ("FP32", "BYTES", "INT64"), strict=True
        )
    ]
    body = json.dumps({"inputs": inputs}).encode()
    for kind in ("", "application/octet-stream", "text/plain"):
        status, answer, _ = post(
            server, "/v2/models/tiny/infer", body, content_type=kind
        )
        assert status == 200, answer
        assert answer["outputs"][0]["data"] == [pytest.approx(EXPECTED)]
