"""A client's fault is a 400 that names it, whatever is sent."""

import base64
import http.client
import json
import random
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

from tests.serving.tiny import ROW, RunningServer

REQUESTS = 2500
LENGTH = "inference-header-content-length"
PREDICT = "/v1/models/tiny:predict"
INFER = "/v2/models/tiny/infer"


def examples(*values: Any) -> bytes:
    return json.dumps(
        {"signature_name": "examples", "instances": list(values)}
    ).encode()


def binary(data: bytes, **tensor: Any) -> tuple[bytes, dict[str, str]]:
    """A v2 request whose one input is binary, and its headers."""
    tensor = {
        "name": "examples",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    } | tensor
    document = {
        "inputs": [{k: v for k, v in tensor.items() if v is not None}],
        "parameters": {"signature_name": "examples"},
    }
    head = json.dumps(document).encode()
    return head + data, {LENGTH: str(len(head))}


DEEP = "[" * 990 + "]" * 990
BAD = base64.b64decode("teCDnWPZD/8=")


@pytest.mark.parametrize(
    ("path", "request_", "words"),
    [
        (
            PREDICT,
            (examples({"b64": base64.b64encode(BAD).decode()}), {}),
            ["examples"],
        ),
        (
            PREDICT,
            (
                b'{"signature_name": "examples", "instances": ["", "\\ud800"]}',
                {},
            ),
            ["'examples', row 1", "Unicode"],
        ),
        (
            PREDICT,
            (
                b'{"instances": [{"I1": 1, "C1": "\\ud800", "user": 1}]}',
                {},
            ),
            ["'C1', row 0", "Unicode"],
        ),
        (
            PREDICT,
            (
                f'{{"signature_name":"examples","instances":[{DEEP}]}}'.encode(),
                {},
            ),
            ["'examples', row 0", "[[[", "(list)"],
        ),
        (
            PREDICT,
            (f'{{"signature_name":{DEEP},"instances":[1]}}'.encode(), {}),
            ["unknown signature"],
        ),
        (
            INFER,
            (
                (
                    b'{"inputs":[{"name":"\\ud800","shape":[1],'
                    b'"datatype":"BYTES","data":["a"]}]}'
                ),
                {},
            ),
            ["missing feature", "'I1'"],
        ),
        (INFER, (b"abc", {LENGTH: "x"}), [LENGTH]),
        (INFER, (b"abc", {LENGTH: "3"}), []),
        (INFER, (b"[]", {LENGTH: "2"}), [LENGTH]),
        (INFER, (b"{}", {LENGTH: "2"}), [LENGTH, "inputs"]),
        (INFER, binary(b"abcde", shape=[2]), ["'examples'", "5 bytes"]),
        (
            INFER,
            binary(b"abcdefg", datatype="FP32"),
            ["'examples'", "7 bytes", "FP32"],
        ),
        (
            INFER,
            binary(b"abcdefgh", datatype="FP32", shape=[-1]),
            ["'examples'", "shape", "[-1]"],
        ),
        (
            INFER,
            binary(b"abcdefgh", datatype=None),
            ["'examples'", "'datatype' is missing"],
        ),
        (INFER, binary(b"abcd", datatype="FP31"), ["'examples'", "FP31"]),
    ],
)
def test_the_fault_is_named(
    server: RunningServer,
    path: str,
    request_: tuple[bytes, dict[str, str]],
    words: list[str],
) -> None:
    before = len(server.log.read_text())
    body, headers = request_
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    kind = (
        "application/octet-stream" if LENGTH in headers else "application/json"
    )
    connection.request("POST", path, body, {"Content-Type": kind, **headers})
    response = connection.getresponse()
    text = json.loads(response.read())["error"]
    assert response.status == 400, text
    for word in words:
        assert word in text
    assert len(text) < 600
    assert "Traceback" not in server.log.read_text()[before:]


NASTY: list[Callable[[random.Random], Any]] = [
    lambda draw: None,
    lambda draw: draw.choice([0, -1, 2**31, 2**63, 2**64, 10**400, -(2**70)]),
    lambda draw: draw.choice([0.5, 1e300, -1e-300, float("nan")]),
    lambda draw: draw.choice([True, False, [], {}, [[]], [{}], ""]),
    lambda draw: draw.choice(["\ud800", "\0", "\N{SNOWMAN}", "x" * 10_000]),
    lambda draw: json.loads("[" * 500 + "]" * 500),
    lambda draw: {"b64": draw.choice(["!", "AA", "teCDnWPZD/8=", 1])},
    lambda draw: {f"k{draw.random()}": 1},
    lambda draw: [draw.random() for _ in range(draw.randrange(5))],
    lambda draw: draw.choice(["FP32", "BYTES", "INT64", "FP16", "BOOL", "x"]),
]


def mutate(value: Any, draw: random.Random) -> Any:
    """A copy of a JSON document, wrong in one place or more."""
    if draw.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return draw.choice(NASTY)(draw)
    if isinstance(value, list):
        items = list(value)
        place = draw.randrange(len(items))
        items[place] = mutate(items[place], draw)
        return items * draw.choice([1, 1, 1, 2])
    copied = dict(value)
    key = draw.choice(list(copied))
    what = draw.random()
    if what < 0.15:
        del copied[key]
    elif what < 0.25:
        copied[draw.choice(["", "\ud800", "I1", "x" * 500])] = copied.pop(key)
    else:
        copied[key] = mutate(copied[key], draw)
    return copied


def damage(data: bytes, draw: random.Random) -> bytes:
    """The same with bytes changed, cut off, or put in."""
    place = draw.randrange(len(data) + 1)
    return draw.choice(
        [
            data,
            data[:place],
            data[:place] + draw.randbytes(3) + data[place:],
            data[:place] + draw.randbytes(1) + data[place + 1 :],
        ]
    )


V2 = {
    "id": "a",
    "inputs": [
        {"name": "I1", "shape": [1], "datatype": "FP32", "data": [1.5]},
        {"name": "C1", "shape": [1], "datatype": "BYTES", "data": ["abc"]},
        {"name": "user", "shape": [1], "datatype": "INT64", "data": [7]},
    ],
    "outputs": [{"name": "ctr", "parameters": {"binary_data": True}}],
    "parameters": {"signature_name": "serving_default"},
}
DOCUMENTS: list[tuple[str, Any]] = [
    (PREDICT, {"instances": [ROW, ROW]}),
    (PREDICT, {"inputs": {name: [value] for name, value in ROW.items()}}),
    (PREDICT, {"signature_name": "examples", "instances": [{"b64": ""}]}),
    (INFER, V2),
    ("/v2/models/tiny/versions/1/infer", V2),
]


def http_request(draw: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request that is almost right."""
    if draw.random() < 0.3:
        head = {
            "inputs": [
                {
                    "name": "examples",
                    "shape": [2],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": 16},
                }
            ],
            "parameters": {"signature_name": "examples"},
        }
        text = json.dumps(mutate(head, draw)).encode()
        length = len(text) + draw.choice([0, 0, 0, -1, 1, 10**9])
        data = draw.randbytes(draw.choice([0, 4, 15, 16, 17]))
        return INFER, text + data, {LENGTH: str(length)}
    path, document = draw.choice(DOCUMENTS)
    text = json.dumps(mutate(document, draw)).encode()
    if draw.random() < 0.2:
        text = damage(text, draw)
    return path, text, {"Content-Type": "application/json"}


def test_no_http_request_is_a_fault_of_the_server(
    server: RunningServer,
) -> None:
    draw = random.Random(1)
    before = len(server.log.read_text())
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    faults = []
    for _ in range(REQUESTS):
        path, body, headers = http_request(draw)
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status not in (200, 400):
            faults.append((response.status, path, body[:300], answer[:300]))
    assert not faults, f"{len(faults)}: {faults[:5]}"
    log = server.log.read_text()[before:]
    assert "Traceback" not in log
    assert len(log) < 300 * REQUESTS


def grpc_request(draw: random.Random) -> Any:
    """A ModelInferRequest that is almost right."""
    request = pb.ModelInferRequest(model_name="tiny", id="a")
    raw = draw.random() < 0.5
    for name, datatype, field, value, data in (
        ("I1", "FP32", "fp32_contents", 1.5, b"\0\0\xc0\x3f"),
        ("C1", "BYTES", "bytes_contents", b"abc", b"\3\0\0\0abc"),
        ("user", "INT64", "int64_contents", 7, b"\7" + b"\0" * 7),
    ):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
        if raw:
            request.raw_input_contents.append(
                damage(data, draw) if draw.random() < 0.3 else data
            )
        else:
            getattr(tensor.contents, field).append(value)
    tensor = draw.choice(list(request.inputs))
    match draw.randrange(7):
        case 0:
            tensor.shape[:] = draw.choice([[], [-1], [2], [1, 1], [2**62], [0]])
        case 1:
            tensor.datatype = draw.choice(["", "FP16", "BOOL", "x", "UINT8"])
        case 2:
            tensor.name = draw.choice(["", "I1", "x" * 1000])
        case 3:
            request.model_version = draw.choice(["1", "0", "x", "\0", "1/2"])
        case 4:
            tensor.contents.ClearField("bytes_contents")
            tensor.contents.bytes_contents.append(draw.randbytes(4))
        case 5:
            parameter = request.parameters["signature_name"]
            parameter.string_param = draw.choice(["", "examples", "x"])
        case 6:
            del request.inputs[draw.randrange(3)]
    return request


def test_no_grpc_request_is_a_fault_of_the_server(
    server: RunningServer,
) -> None:
    draw = random.Random(2)
    before = len(server.log.read_text())
    allowed = (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    )
    faults = []
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for _ in range(REQUESTS // 5):
            request = grpc_request(draw)
            try:
                stub.ModelInfer(request, timeout=20)
            except grpc.RpcError as error:
                if error.code() not in allowed:
                    faults.append((error.code(), error.details(), request))
    assert not faults, f"{len(faults)}: {faults[:3]}"
    assert "Traceback" not in server.log.read_text()[before:]


@pytest.mark.parametrize(
    "method",
    [
        "inference.GRPCInferenceService/ModelInfer",
        "tensorflow.serving.PredictionService/Predict",
        "tensorflow.serving.ModelService/GetModelStatus",
    ],
)
def test_bytes_that_are_no_message_are_the_clients_fault(
    server: RunningServer, method: str
) -> None:
    before = len(server.log.read_text())
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff", timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "Request" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=20)  # a message without a model's name
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "Traceback" not in server.log.read_text()[before:]


def test_a_client_that_leaves_in_the_middle_is_no_fault_of_the_server(
    server: RunningServer,
) -> None:
    before = len(server.log.read_text())
    host, port = urlsplit(server.url).netloc.split(":")
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(head.encode() + b"{")
    gone = re.compile(r'lionctr_requests_total\{code="499".*\} ([\d.]+)')
    server.wait_for(lambda: bool(gone.search(server.call("/metrics")[1])))
    assert "Traceback" not in server.log.read_text()[before:]


def test_a_long_name_is_cut_in_the_answer(server: RunningServer) -> None:
    for path in (f"/v1/models/{'x' * 9000}", f"/v2/models/{'x' * 9000}/ready"):
        status, answer = server.call(path)
        assert status == 404 and len(answer["error"]) < 300
