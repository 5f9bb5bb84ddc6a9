"""The client, against a server that answers what the test says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from serving import Client, PredictError


class Stub(ThreadingHTTPServer):
    """Answers every POST with `status` and `content`; keeps requests."""

    status = 200
    content = b'{"predictions": [0.25]}'
    close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, Any]] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    """Answers from a list."""

    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        self.server.requests.append((self.path, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)
        # Closed without a word, as a server does with an idle connection.
        self.close_connection = self.server.close

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_predict_sends_rows_on_one_connection(stub: Stub) -> None:
    client = Client(stub.url, "my model")
    row = {"I1": np.float32(0.5), "C1": "a", "user": None}
    assert client.predict([row]) == [0.25]
    assert client.predict([row]) == [0.25]
    assert stub.requests[0] == (
        "/v1/models/my%20model:predict",
        {"instances": [{"I1": 0.5, "C1": "a", "user": None}]},
    )
    assert stub.connections == 1


def test_a_version_and_a_path_prefix(stub: Stub) -> None:
    Client(stub.url + "/ads/", "ctr", version=3).predict([{"I1": 1}])
    assert stub.requests[0][0] == "/ads/v1/models/ctr/versions/3:predict"


def test_examples_are_sent_as_base64(stub: Stub) -> None:
    Client(stub.url, "ctr").predict_examples([b"a"])
    assert stub.requests[0][1] == {
        "signature_name": "examples",
        "instances": [{"b64": "YQ=="}],
    }


def test_a_connection_that_the_server_closed_is_opened_again(
    stub: Stub,
) -> None:
    stub.close = True
    client = Client(stub.url, "ctr")
    for _ in range(3):
        assert client.predict([{"I1": 1}]) == [0.25]
    assert stub.connections == 3


def test_the_servers_reason_reaches_the_caller(stub: Stub) -> None:
    stub.status, stub.content = 400, b'{"error": "missing feature \'I1\'"}'
    with pytest.raises(PredictError, match="400: missing feature 'I1'") as e:
        Client(stub.url, "ctr").predict([{}])
    assert e.value.status == 400


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"error": 1}'])
def test_an_answer_that_is_no_prediction(stub: Stub, content: bytes) -> None:
    stub.content = content
    with pytest.raises(PredictError, match="unexpected answer"):
        Client(stub.url, "ctr").predict([{"I1": 1}])


def test_no_server() -> None:
    with pytest.raises(PredictError, match=r"no answer from .*refused") as e:
        Client("http://127.0.0.1:9", "ctr").predict([{"I1": 1}])
    assert e.value.status is None


def test_what_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="Received: 'ftp://x'"):
        Client("ftp://x", "ctr")
    with pytest.raises(TypeError, match="object"):
        Client("http://127.0.0.1:9", "ctr").predict([{"I1": object()}])  # type: ignore[dict-item]
