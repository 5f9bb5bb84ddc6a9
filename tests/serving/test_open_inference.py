"""Open Inference Protocol v2 over HTTP and gRPC, on a real server."""

import struct
from typing import Any

import pytest

from tests.serving.tiny import RunningServer, expected_ctr

EXPECTED = [expected_ctr(0.0, 1.5, "abc", 7)]


def tensor(name: str, datatype: str, *data: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": [len(data)],
        "datatype": datatype,
        "data": list(data),
    }


I1 = tensor("I1", "FP32", 1.5)
C1 = tensor("C1", "BYTES", "abc")
USER = tensor("user", "INT64", 7)


@pytest.mark.parametrize("where", ["", "/versions/1"])
def test_infer(server: RunningServer, where: str) -> None:
    status, answer = server.call(
        f"/v2/models/tiny{where}/infer", {"id": "a", "inputs": [I1, C1, USER]}
    )
    assert status == 200
    assert (answer["id"], answer["model_name"]) == ("a", "tiny")
    assert answer["model_version"] == "1"
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"]) == ("ctr", "FP32")
    assert output["shape"] == [1]
    assert output["data"] == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.parametrize(
    "inputs, words",
    [
        ([I1, C1], ["missing", "'user'"]),
        ([I1, C1, USER, tensor("I9", "FP32", 1.0)], ["unknown", "'I9'"]),
        ([I1, I1, C1, USER], ["twice"]),
        ([tensor("I1", "FP32", "x"), C1, USER], ["'I1'", "number"]),
        (
            [tensor("I1", "FP32", 1.0, 2.0), C1, USER],
            ["'C1' has 1 values", "'I1' has 2"],
        ),
        ([{**I1, "shape": [1, 2]}, C1, USER], ["'I1'", "shape"]),
        ([{**I1, "shape": [2]}, C1, USER], ["'I1'", "shape"]),
        ([I1, C1, tensor("user", "FP32", 7.5)], ["'user'", "integer"]),
        ([{"name": "I1"}], ["shape", "required"]),
        ([], ["missing"]),
        ([tensor("I1", "FP32"), C1, USER], ["'C1'", "values"]),
        (
            [
                tensor("I1", "FP32"),
                tensor("C1", "BYTES"),
                tensor("user", "INT64"),
            ],
            ["no rows"],
        ),
    ],
)
def test_bad_input_is_a_400_that_names_the_feature(
    server: RunningServer, inputs: list[Any], words: list[str]
) -> None:
    status, answer = server.call("/v2/models/tiny/infer", {"inputs": inputs})
    assert (status, list(answer)) == (400, ["error"])
    for word in words:
        assert word in answer["error"]


def test_a_body_that_is_not_json_is_a_400(server: RunningServer) -> None:
    for where in ("", "/versions/1"):
        status, answer = server.call(f"/v2/models/tiny{where}/infer", b"x=")
        assert status == 400
        assert "JSON" in answer["error"]


def test_health_and_metadata(server: RunningServer) -> None:
    for path, expected in [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/1/ready", {"name": "tiny", "ready": True}),
        ("/v2/models", {"models": ["tiny"]}),
    ]:
        assert server.call(path) == (200, expected)
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        status, answer = server.call(path)
        assert status == 200
        assert answer["versions"] == ["1"]
        assert {x["name"]: x["datatype"] for x in answer["inputs"]} == {
            "I1": "FP32",
            "C1": "BYTES",
            "user": "INT64",
        }
        assert answer["outputs"] == [
            {"name": "ctr", "datatype": "FP32", "shape": [-1]}
        ]


def test_unknown_model_and_version_are_404(server: RunningServer) -> None:
    body = {"inputs": [I1, C1, USER]}
    assert server.call("/v2/models/other/infer", body)[0] == 404
    assert server.call("/v2/models/tiny/versions/9/infer", body)[0] == 404
    assert server.call("/v2/models/tiny/versions/9/ready")[0] == 404
    assert server.call("/v2/models/other/ready")[0] == 404


def test_a_client_cannot_unload_the_model(server: RunningServer) -> None:
    status, answer = server.call("/v2/repository/models/tiny/unload", {})
    assert status == 400
    assert "directory" in answer["error"]
    assert server.call("/v2/models/tiny/ready")[0] == 200


def test_grpc(server: RunningServer) -> None:
    grpc = pytest.importorskip("grpc")
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as rpc

    def request(version: str = "", raw: bool = False, **c1: Any) -> Any:
        values = {
            "I1": ("FP32", {"fp32_contents": [1.5]}, struct.pack("<f", 1.5)),
            "C1": (
                "BYTES",
                {"bytes_contents": [b"abc"]},
                struct.pack("<I", 3) + b"abc",
            ),
            "user": ("INT64", {"int64_contents": [7]}, struct.pack("<q", 7)),
        }
        message = pb.ModelInferRequest(model_name="tiny", model_version=version)
        for name, (datatype, contents, binary) in values.items():
            new = message.inputs.add(name=name, shape=[1], datatype=datatype)
            if raw:
                message.raw_input_contents.append(binary)
            else:
                new.contents.MergeFrom(pb.InferTensorContents(**contents))
        return message

    with grpc.insecure_channel(server.grpc) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=20).ready
        assert stub.ModelReady(
            pb.ModelReadyRequest(name="tiny"), timeout=20
        ).ready
        metadata = stub.ModelMetadata(
            pb.ModelMetadataRequest(name="tiny"), timeout=20
        )
        assert [x.name for x in metadata.inputs] == ["C1", "I1", "user"]
        for version in ("", "1"):
            answer = stub.ModelInfer(request(version), timeout=20)
            assert answer.model_version == "1"
            assert list(
                answer.outputs[0].contents.fp32_contents
            ) == pytest.approx(EXPECTED, abs=1e-6)
        answer = stub.ModelInfer(request(raw=True), timeout=20)
        assert struct.unpack("<f", answer.raw_output_contents[0]) == (
            pytest.approx(EXPECTED, abs=1e-6)
        )
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request("9"), timeout=20)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        broken = request()
        del broken.inputs[0]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(broken, timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "'I1'" in caught.value.details()
