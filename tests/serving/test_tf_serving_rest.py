"""TF Serving's REST paths, on a real server."""

import base64
import json
import shlex
import struct
import subprocess
from typing import Any

import pytest

from tests.serving.tiny import ROW, RunningServer, expected_ctr

MISSING = {"I1": None, "C1": None, "user": None}


def close(*rows: tuple[float | None, str | None, int | None]) -> Any:
    return pytest.approx([expected_ctr(0.0, *row) for row in rows], abs=1e-6)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field: tf.Example without TensorFlow."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_rows_give_a_list_of_predictions(server: RunningServer) -> None:
    status, answer = server.predict({"instances": [ROW, MISSING]})
    assert status == 200
    assert answer == {"predictions": close((1.5, "abc", 7), (None, None, None))}


def test_columns_give_outputs_without_the_single_name(
    server: RunningServer,
) -> None:
    columns = {"I1": [1.5, 2], "C1": ["abc", ""], "user": [7, None]}
    status, answer = server.predict({"inputs": columns})
    assert (status, answer) == (
        200,
        {"outputs": close((1.5, "abc", 7), (2.0, "", None))},
    )


def test_float32_is_written_with_its_own_digits(
    server: RunningServer,
) -> None:
    _, answer = server.predict({"instances": [ROW]})
    assert len(str(answer["predictions"][0])) <= 10


def test_nan_of_tf_serving_clients_means_missing(
    server: RunningServer,
) -> None:
    body = b'{"instances": [{"I1": NaN, "C1": "abc", "user": 7}]}'
    assert server.predict(body) == (
        200,
        {"predictions": close((None, "abc", 7))},
    )


def test_base64_is_bytes(server: RunningServer) -> None:
    encoded = base64.b64encode("é".encode()).decode()
    row = {**ROW, "C1": {"b64": encoded}}
    assert server.predict({"instances": [row]}) == (
        200,
        {"predictions": close((1.5, "é", 7))},
    )


@pytest.mark.parametrize("named", [False, True])
def test_examples_signature_takes_serialized_examples(
    server: RunningServer, named: bool
) -> None:
    i1 = field(2, field(1, struct.pack("<f", 1.5)))
    c1 = field(1, field(1, b"abc"))
    entries = (
        field(1, field(1, name) + field(2, value))
        for name, value in ((b"I1", i1), (b"C1", c1))
    )
    rows: list[Any] = [
        {"b64": base64.b64encode(message).decode()}
        for message in (field(1, b"".join(entries)), b"")
    ]
    if named:
        rows = [{"examples": row} for row in rows]
    assert server.predict(
        {"signature_name": "examples", "instances": rows}
    ) == (
        200,
        {"predictions": close((1.5, "abc", None), (None, None, None))},
    )


def test_a_version_can_be_named(server: RunningServer) -> None:
    assert server.predict({"instances": [ROW]}, "/versions/1") == (
        200,
        {"predictions": close((1.5, "abc", 7))},
    )


@pytest.mark.parametrize(
    "body, words",
    [
        (b"I1=1", ["JSON"]),
        (b"", ["JSON"]),
        ([1], ["JSON object", "list"]),
        ({}, ["instances", "inputs"]),
        ({"instances": [ROW], "inputs": {}}, ["exactly one"]),
        ({"instances": []}, ["instances", "no rows"]),
        ({"instances": {"I1": 1}}, ["list of rows", "dict"]),
        ({"instances": [ROW, 3]}, ["row 1", "int"]),
        ({"instances": [ROW, {"I1": 1}]}, ["row 1", "missing", "'C1'"]),
        ({"instances": [{**ROW, "I9": 1}]}, ["row 0", "unknown", "'I9'"]),
        ({"instances": [ROW, {**ROW, "I1": "2"}]}, ["'I1'", "row 1", "'2'"]),
        ({"instances": [{**ROW, "I1": True}]}, ["'I1'", "boolean"]),
        ({"instances": [{**ROW, "I1": [1.0, 2]}]}, ["'I1'", "list"]),
        ({"instances": [{**ROW, "I1": 1e39}]}, ["'I1'", "float32"]),
        ({"instances": [{**ROW, "C1": [[5]]}]}, ["'C1'", "string", "[5]"]),
        ({"instances": [{**ROW, "C1": {"b64": "*"}}]}, ["'C1'", "base64"]),
        ({"instances": [{**ROW, "user": 7.0}]}, ["'user'", "integer"]),
        ({"instances": [{**ROW, "user": 2**63}]}, ["'user'", "int64"]),
        ({"instances": [{**ROW, "user": 5000}]}, ["no such user"]),
        ({"inputs": {"I1": [1], "C1": ["a"]}}, ["missing", "'user'"]),
        (
            {"inputs": {"I1": [1, 2], "C1": ["a"], "user": [1]}},
            ["'I1' has 2 values", "'C1' has 1"],
        ),
        ({"inputs": {"I1": [], "C1": [], "user": []}}, ["no rows"]),
        ({"inputs": {"I1": 1, "C1": ["a"], "user": [1]}}, ["'I1'", "list"]),
        ({"inputs": [1]}, ["inputs", "list"]),
        (
            {"instances": [ROW], "signature_name": "nope"},
            ["signature", "'nope'", "examples", "serving_default"],
        ),
        ({"instances": [ROW], "signature_name": 3}, ["signature", "3"]),
        (
            {"instances": [{"b64": "AAAA"}], "signature_name": "examples"},
            ["Could not parse example"],
        ),
    ],
)
def test_bad_input_is_a_400_that_names_the_feature(
    server: RunningServer, body: object, words: list[str]
) -> None:
    status, answer = server.predict(body)
    assert (status, list(answer)) == (400, ["error"])
    for word in words:
        assert word in answer["error"]


def test_unknown_model_and_version_are_404(server: RunningServer) -> None:
    body = {"instances": [ROW]}
    for path, word in [
        ("/v1/models/other:predict", "'tiny'"),
        ("/v1/models/tiny/versions/9:predict", "'9'"),
    ]:
        status, answer = server.call(path, body)
        assert status == 404
        assert word in answer["error"]
    for path in (
        "/v1/models/other",
        "/v1/models/other/versions/1",
        "/v1/models/tiny/versions/9",
        "/v1/models/tiny/versions/9/metadata",
        "/nothing/here",
    ):
        status, answer = server.call(path)
        assert (status, list(answer)) == (404, ["error"])


def test_status_is_tf_servings(server: RunningServer) -> None:
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert server.call("/v1/models/tiny") == (200, expected)
    assert server.call("/v1/models/tiny/versions/1") == (200, expected)


def test_metadata_is_tf_servings(server: RunningServer) -> None:
    status, answer = server.call("/v1/models/tiny/metadata")
    assert status == 200
    assert answer["model_spec"] == {
        "name": "tiny",
        "signature_name": "",
        "version": "1",
    }
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    user = definitions["serving_default"]["inputs"]["user"]
    assert user["dtype"] == "DT_INT64"
    assert user["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert definitions["examples"]["method_name"].endswith("predict")


def test_the_curl_command_of_the_banner_works(server: RunningServer) -> None:
    command = shlex.split(server.banner.split("try: ")[1])
    assert command[:2] == ["curl", "-d"]
    done = subprocess.run(
        [*command, "--silent", "--max-time", "20"],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"predictions": close((0.0, "", 0))}


def test_metrics_count_requests_by_version(server: RunningServer) -> None:
    def value(line: str) -> float:
        _, text = server.call("/metrics")
        found = [x for x in text.splitlines() if x.startswith(line + " ")]
        return float(found[0].split()[-1]) if found else 0.0

    rows = 'lionctr_rows_total{model="tiny",version="1"}'
    good = 'lionctr_requests_total{code="200",model="tiny",version="1"}'
    bad = 'lionctr_requests_total{code="400",model="tiny",version="1"}'
    kserve = 'request_predict_seconds_count{model_name="tiny"}'
    names = (rows, good, bad, kserve)
    before = [value(name) for name in names]
    server.predict({"instances": [ROW, ROW]})
    server.predict({"instances": []})
    after = [value(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 1, 2]
    assert value('lionctr_served_version{model="tiny"}') == 1
