"""Parts of a request's cost: servers without a model, a model without server.

As a process: `python -m benchmarks.perf.floors` with http, grpc or model.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
BODY = b"x" * 600  # bytes, about those of a row


def empty_cpu(kind: str, lasting: float) -> float:
    """CPU milliseconds of a request to a server that sends it back.

    kind: http (uvicorn) or grpc (grpcio).
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, kind],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        ask = _http(port) if kind == "http" else _grpc(port)
        for _ in range(100):
            ask()
        before, count = cpu_of(process.pid), 0
        end = time.perf_counter() + lasting
        while time.perf_counter() < end:
            ask()
            count += 1
        return (cpu_of(process.pid) - before) / count * 1e3
    finally:
        process.kill()
        process.wait()


def call_cpu(model: Path, rows: Path, size: int) -> float:
    """CPU milliseconds of a call of the model of so many rows."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "model", model, rows, str(size)],
        cwd=HERE,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
    user, system = stat.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _http(port: int) -> Callable[[], object]:
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"

    def ask() -> None:
        client.sendall(head.encode() + BODY)
        answer = b""
        while not answer.endswith(BODY):
            answer += client.recv(1 << 16)

    return ask


def _grpc(port: int) -> Callable[[], object]:
    import grpc

    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary("/empty/Send")
    return lambda: call(BODY)


def serve_http() -> None:
    """An echo by uvicorn."""
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"content-length", b"%d" % len(body))]
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, lifespan="off", log_level="warning")
        uvicorn.Server(config).run([listener])


def serve_grpc() -> None:
    """An echo by grpcio."""
    import grpc
    import uvloop

    async def main() -> None:
        async def send(body: bytes, _: Any) -> bytes:
            return body

        server = grpc.aio.server()
        handlers = {"Send": grpc.unary_unary_rpc_method_handler(send)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("empty", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    uvloop.run(main())


def call_model(folder: str, rows: str, size: str) -> None:
    """Calls the newest version without any server, for a second."""
    from serving import tensorflow_parts

    tensorflow_parts.prepare()
    from serving.columns import to_column
    from serving.savedmodel import LoadedModel
    from serving.tf_serving import DEFAULT_SIGNATURE

    versions = [p for p in Path(folder).iterdir() if p.name.isdigit()]
    loaded = LoadedModel(max(versions, key=lambda path: int(path.name)))
    with Path(rows).open() as lines:
        some = [json.loads(line) for line in lines]
    given = (some * int(size))[: int(size)]
    columns = {
        name: to_column(name, dtype, [row[name] for row in given])
        for name, dtype in loaded.inputs[DEFAULT_SIGNATURE].items()
    }
    for _ in range(20):
        loaded.predict(DEFAULT_SIGNATURE, columns)
    end, count = time.perf_counter() + 1, 0
    before = time.process_time()
    while time.perf_counter() < end:
        loaded.predict(DEFAULT_SIGNATURE, columns)
        count += 1
    print((time.process_time() - before) / count * 1e3)


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    work: dict[str, Callable[..., None]] = {
        "http": serve_http,
        "grpc": serve_grpc,
        "model": call_model,
    }
    work[kind](*rest)
