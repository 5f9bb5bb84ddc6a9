"""What a request costs the server, beside another checkout of this project.

    python benchmarks/serve.py MODEL_DIR ROWS.jsonl [--against CHECKOUT]

ROWS.jsonl: log rows, one object a line, with all features of the model. Both
servers run on this machine, one after the other, in turns; the clients run
beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
START = (
    "import sys; from pathlib import Path; from serving.server import serve;"
    "serve(Path(sys.argv[1]), port=0, grpc_port=0)"
)
SECONDS = 4.0
BATCH = 1000


class Server:
    """A server process of one checkout."""

    def __init__(
        self, pid: int, model: str, host: str, port: int, grpc: str
    ) -> None:
        self.pid, self.model = pid, model
        self.host, self.port, self.grpc = host, port, grpc

    def cpu(self) -> float:
        """Seconds of CPU that the process has used."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(checkout: Path, model: Path) -> Iterator[tuple[Server, float]]:
    """A server, and the seconds until it was ready."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(model.resolve())],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = time.perf_counter() - start
        found = re.search(r"http://([\d.]+):(\d+)/.* gRPC ([^;]+);", line)
        assert found, "the server did not start"
        name = model.resolve().name
        port = int(found[2])
        yield Server(process.pid, name, found[1], port, found[3]), ready
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def rest(
    server: Server, path: str, bodies: list[bytes], connections: int
) -> tuple[int, list[float], float]:
    """Requests, their seconds, and the seconds in all."""
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS
    start = time.perf_counter()

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        while time.perf_counter() < end:
            body = bodies[(number + len(seconds)) % len(bodies)]
            begun = time.perf_counter()
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type:"
                f" application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                "".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert head.startswith(b"HTTP/1.1 200") and length, head
            await reader.readexactly(int(length[1]))
            seconds.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*map(one, range(connections)))
    return len(seconds), seconds, time.perf_counter() - start


def grpc_cpu(server: Server, rows: list[dict[str, Any]]) -> float:
    """CPU of a single-row ModelInfer, raw contents, in ms."""
    import struct

    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    requests = []
    for row in rows[:50]:
        message = pb.ModelInferRequest(model_name=server.model)
        for name, value in row.items():
            text = isinstance(value, str)
            kind = "BYTES" if text else "FP32"
            message.inputs.add(name=name, datatype=kind, shape=[1])
            message.raw_input_contents.append(
                struct.pack("<I", len(value.encode())) + value.encode()
                if text
                else struct.pack("<f", float("nan") if value is None else value)
            )
        requests.append(message)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for message in requests:
            stub.ModelInfer(message)
        before, count = server.cpu(), 0
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            stub.ModelInfer(requests[count % len(requests)])
            count += 1
        return (server.cpu() - before) / count * 1e3


def measure(server: Server, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of one server."""
    path = f"/v1/models/{server.model}:predict"
    single = [json.dumps({"instances": [row]}).encode() for row in rows[:200]]
    many = [json.dumps({"instances": (rows * BATCH)[:BATCH]}).encode()]
    asyncio.run(rest(server, path, single, 8))  # warm
    figures = {}
    before = server.cpu()
    count, _, _ = asyncio.run(rest(server, path, single, 1))
    figures["CPU ms a request"] = (server.cpu() - before) / count * 1e3
    before = server.cpu()
    count, seconds, total = asyncio.run(rest(server, path, single, 32))
    figures["requests/s, 32 connections"] = count / total
    figures["CPU ms a request, 32"] = (server.cpu() - before) / count * 1e3
    count, seconds, _ = asyncio.run(rest(server, path, single, 8))
    cut = statistics.quantiles(seconds, n=100)
    figures["p50 ms, 8 connections"] = cut[49] * 1e3
    figures["p99 ms, 8 connections"] = cut[98] * 1e3
    count, _, total = asyncio.run(rest(server, path, many, 2))
    figures["rows/s, batches of 1000"] = count * BATCH / total
    figures["CPU ms a gRPC request"] = grpc_cpu(server, rows)
    return figures


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.open()][:1000]
    checkouts = {"here": HERE}
    if options.against:
        checkouts["there"] = options.against.resolve()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(options.turns):
        for name, checkout in checkouts.items():
            with running(checkout, options.model) as (server, ready):
                figures = {"s to ready": ready, **measure(server, rows)}
            found[name].append(figures)
    for what in found["here"][0]:
        line = f"{what:28}"
        here = statistics.median(f[what] for f in found["here"])
        line += f"{here:10.2f}"
        if options.against:
            there = statistics.median(f[what] for f in found["there"])
            line += f"{there:10.2f}  ratio {here / there:.2f}"
        print(line)


if __name__ == "__main__":
    main()
