"""Who sends the head of a request slowly, or without end, is sent away."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from serving.connection import Connection
from serving.limits import Limits

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"


class Limited(Connection):
    """With limits that a test reaches."""

    limits = Limits(head=2000, head_seconds=0.5)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(0.7)  # longer than a head may take
    headers = [(b"content-length", b"4")]
    await send(
        {"type": "http.response.start", "status": 200, "headers": headers}
    )
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=Limited, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        serve = server.serve([listener])
        thread = threading.Thread(target=asyncio.run, args=(serve,))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """The answer until the server closes the connection, or is quiet."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
            answer = b""
            while part := client.recv(4096):
                answer += part
                if answer.endswith(b"done"):
                    break
        except ConnectionError:
            return b"reset"
    return answer


def test_a_slow_head_gets_408(port: int) -> None:
    answer = talk(port, HEAD)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"0.5 seconds" in answer


def test_a_client_that_says_nothing_is_sent_away(port: int) -> None:
    assert talk(port).startswith(b"HTTP/1.1 408 ")


def test_an_endless_head_gets_431(port: int) -> None:
    parts = [HEAD + b"X: "] + [b"x" * 1000] * 5
    answer = talk(port, *parts, pause=0.02)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"reset"


def test_a_slow_answer_and_a_second_request_are_let_be(port: int) -> None:
    request = HEAD + b"\r\nab"
    assert talk(port, request).endswith(b"done")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for _ in range(2):  # on one connection
            client.sendall(request)
            answer = b""
            while not answer.endswith(b"done"):
                answer += client.recv(4096)
        client.sendall(HEAD)  # the third one is slow
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_many_requests_at_once_are_all_answered(port: int) -> None:
    request = HEAD + b"X: " + b"x" * 900 + b"\r\n\r\nab"
    with socket.create_connection(("127.0.0.1", port), timeout=9) as client:
        client.sendall(request * 4)  # larger than a head may be
        answer = b""
        while answer.count(b"done") < 4:
            answer += client.recv(4096)


def test_rubbish_behind_a_request_ends_the_connection_alone(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert talk(port, HEAD + b"\r\nabc\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    time.sleep(1)  # the first request's answer is due
    assert "Traceback" not in caplog.text
    assert talk(port, HEAD + b"\r\nab").endswith(b"done")
