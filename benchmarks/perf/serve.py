"""Cost of a request to the server, beside another checkout of this project.

Both servers run on this machine, one after the other, in turns; the clients run
beside them.
"""

from __future__ import annotations

import asyncio
import csv
import importlib.util
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

from benchmarks import measure
from benchmarks.perf import floors
from benchmarks.perf.table import Table

SMOKE = {"train_rows": 2000, "seconds": 0.3, "turns": 1}
HERE = Path(__file__).resolve().parents[2]
START = (
    "import sys; from pathlib import Path; from serving.server import serve;"
    "serve(Path(sys.argv[1]), port=0, grpc_port=0)"
)
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
        return floors.cpu_of(self.pid)


@contextmanager
def running(
    checkout: Path, model: Path, *start_words: str
) -> Iterator[tuple[Server, float]]:
    """A server, and the seconds until it was ready."""
    start = time.perf_counter()
    words = start_words or ("-c", START, str(model.resolve()))
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # With bytecode, as in an image: to compile it is most of a start.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(checkout), os.environ.get("PYTHONPATH", "")]
            ),
            "PYTHONDONTWRITEBYTECODE": "",
        },
    )
    try:
        assert process.stdout is not None
        line = next((one for one in process.stdout if "http://" in one), "")
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
    server: Server,
    path: str,
    bodies: list[bytes],
    connections: int,
    lasting: float,
) -> tuple[int, list[float], float]:
    """Number of requests, seconds of each, and seconds of all."""
    seconds: list[float] = []
    end = time.perf_counter() + lasting
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


def grpc_cpu(
    server: Server, rows: list[dict[str, Any]], lasting: float, size: int = 1
) -> float:
    """CPU milliseconds of a ModelInfer of `size` rows with raw contents."""
    import struct

    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

    def raw(value: Any) -> bytes:
        if isinstance(value, str):
            return struct.pack("<I", len(value.encode())) + value.encode()
        return struct.pack("<f", float("nan") if value is None else value)

    requests = []
    for start in range(50 if size == 1 else 1):
        part = (rows * size)[start : start + size]
        message = pb.ModelInferRequest(model_name=server.model)
        for name, value in part[0].items():
            kind = "BYTES" if isinstance(value, str) else "FP32"
            message.inputs.add(name=name, datatype=kind, shape=[size])
            message.raw_input_contents.append(
                b"".join(raw(row[name]) for row in part)
            )
        requests.append(message)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        for message in requests:
            stub.ModelInfer(message)
        before, count = server.cpu(), 0
        end = time.perf_counter() + lasting
        while time.perf_counter() < end:
            stub.ModelInfer(requests[count % len(requests)])
            count += 1
        return (server.cpu() - before) / count * 1e3


def figures(
    server: Server, rows: list[dict[str, Any]], lasting: float
) -> dict[str, tuple[str, float]]:
    """Name -> unit and value, of one server."""
    path = f"/v1/models/{server.model}:predict"
    single = [json.dumps({"instances": [row]}).encode() for row in rows[:200]]
    many = [json.dumps({"instances": (rows * BATCH)[:BATCH]}).encode()]

    def load(bodies: list[bytes], connections: int) -> Any:
        before = server.cpu()
        count, seconds, total = asyncio.run(
            rest(server, path, bodies, connections, lasting)
        )
        cpu = (server.cpu() - before) / count * 1e3
        return count / total, seconds, cpu

    load(single, 8)  # warms up
    _, _, alone = load(single, 1)
    rate, _, crowded = load(single, 32)
    _, seconds, _ = load(single, 8)
    batches, _, batch = load(many, 2)
    cut = statistics.quantiles(seconds, n=100)
    return {
        "a request": ("cpu_ms", alone),
        "32 connections": ("requests_per_s", rate),
        "a request, 32 connections": ("cpu_ms", crowded),
        "p50, 8 connections": ("ms", cut[49] * 1e3),
        "p99, 8 connections": ("ms", cut[98] * 1e3),
        "batches of 1000": ("rows_per_s", batches * BATCH),
        "a batch of 1000": ("cpu_ms", batch),
        "a gRPC request": ("cpu_ms", grpc_cpu(server, rows, lasting)),
        "a gRPC request of 1000": (
            "cpu_ms",
            grpc_cpu(server, rows, lasting, BATCH),
        ),
    }


def trees(
    model: Path, rows: Path, examples: list[dict[str, Any]], lasting: float
) -> dict[str, tuple[str, float]]:
    """`figures` of this server with LightGBM in place of the model."""
    words = [str(path.resolve()) for path in (model, rows)]
    module = "benchmarks.perf.trees"
    with running(HERE, model, "-m", module, *words) as (server, _):
        return figures(server, examples, lasting)


def pushed(train_rows: int, home: Path) -> tuple[Path, Path]:
    """A model folder of the demo's pipeline, and rows of its features."""
    command = [sys.executable, "-m", "pipeline.cli"]
    logs = home / "logs"
    generated = ["generate", "--rows", str(train_rows), "--out", str(logs)]
    changes = {
        "data.impressions.path": logs / "impressions.tsv",
        "root": home / "runs",
        "push.to": home / "models",
        "evaluate.metrics": "{}",
    }
    run = ["run", "configs/demo.yaml"]
    for path, value in changes.items():
        run += ["--set", f"{path}={value}"]
    for arguments in (generated, run):
        subprocess.run(
            [*command, *arguments], cwd=HERE, check=True, capture_output=True
        )
    return home / "models/demo", _rows(logs / "impressions.tsv", home)


def _rows(log: Path, home: Path) -> Path:
    """Features of the log's first rows as JSON lines."""
    from pipeline.config import load

    kinds = load(HERE / "configs/demo.yaml").features.served_kinds()
    path = home / "rows.jsonl"
    with log.open(errors="replace", newline="") as lines, path.open("w") as out:
        written = 0
        for row in csv.DictReader(lines, delimiter="\t"):
            try:
                values = {
                    name: float(row[name]) if kind == "float" else row[name]
                    for name, kind in kinds.items()
                }
            except (TypeError, ValueError):  # a rejected row
                continue
            out.write(json.dumps(values) + "\n")
            written += 1
            if written == BATCH:
                break
    return path


def run(
    model: str = "",
    rows: str = "",
    against: str = "",
    against_model: str = "",
    turns: int = 2,
    seconds: float = 4.0,
    train_rows: int = 50_000,
) -> Table:
    """Measure servers of one model.

    Args:
        model: folder of its versions; "" lets the demo's pipeline train one.
        rows: file of log rows, a JSON object with all features a line.
        against: another checkout, whose server is measured too.
        against_model: what that one serves; "": the same model. Its own export
            is of its own graph.
        turns: of each server; medians count.
        seconds: of each kind of load.
        train_rows: of the demo's pipeline.
    """
    table = Table("Model server")
    checkouts = {"here": HERE}
    if against:
        checkouts["there"] = Path(against).resolve()
    found: dict[str, list[Any]] = {name: [] for name in checkouts}
    with measure.scratch() as home:
        served, file = Path(model), Path(rows)
        if not model:
            served, file = measure.alone(pushed, train_rows, home)
        examples = [json.loads(line) for line in file.open()][:BATCH]
        for _ in range(turns):
            for name, checkout in checkouts.items():
                other = name == "there" and against_model
                folder = Path(against_model) if other else served
                with running(checkout, folder) as (server, ready):
                    start = {
                        "start": ("seconds", ready),
                        "start, CPU": ("seconds", server.cpu()),
                    }
                    one = figures(server, examples, seconds)
                found[name].append(start | one)
        # As many trees as a CTR model has, where the package is installed.
        if importlib.util.find_spec("lightgbm"):
            for figure, (unit, value) in trees(
                served, file, examples, seconds
            ).items():
                table.line(f"LightGBM, {figure}", **{unit: value})
        for kind in ("http", "grpc"):
            cost = floors.empty_cpu(kind, seconds)
            table.line(f"an empty {kind} request", cpu_ms=cost)
        for size in (1, BATCH):
            cost = floors.call_cpu(served.resolve(), file.resolve(), size)
            table.line(f"a bare call, {size} rows", cpu_ms=cost)
    for figure, (unit, _) in found["here"][0].items():
        here, *there = (
            statistics.median(one[figure][1] for one in turn)
            for turn in found.values()
        )
        table.line(figure, **{unit: here})
        for value in there:
            table.line(
                f"{figure}, there", **{unit: value, "ratio": here / value}
            )
    return table
