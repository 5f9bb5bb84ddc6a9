"""CPU of ingest, Transform and a training step, beside another checkout.

    python -m benchmarks.perf versions --set versions.against=OLD

Both checkouts work on the same Criteo-shaped log, each on examples of its own,
in the same environment and in turns: one process each, which waits while the
other works. Figures are medians of the turns. The libraries of both must be
built. `benchmarks.perf serve` compares the servers in the same way.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000, "turns": 1, "table_rows": 2600}
HERE = Path(__file__).resolve().parents[2]
PARTS = ("ingest", "transform", "step")
# What runs in a checkout, by what both of them have: an answer for each line.
_WORKER = """
import sys, time
from pathlib import Path
home, part, table_rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from benchmarks import measure
from benchmarks.perf import criteo

def ingest(turn):
    nodes = criteo.components(home, "data.split.eval=0.1")
    folder = home / f"{sys.argv[4]}-ingest-{turn}"
    return measure.execute(nodes["ClickLogGen"], {}, folder)

def transform(turn):
    took, _ = measure.execute(
        criteo.components(home)["Transform"], inputs,
        home / f"{sys.argv[4]}-transform-{turn}")
    return took, None

def step(turn):
    began = time.process_time()
    steps.run(data, 40)
    return measure.Seconds(0.0, (time.process_time() - began) / 40), None

if part == "transform":
    _, made = ingest("first")
    uri = str(made["examples"].uri)
    found, made = measure.execute(
        criteo.components(home)["StatisticsGen"],
        {"examples": criteo.examples(uri)}, home / f"{sys.argv[4]}-statistics")
    _, made = measure.execute(
        criteo.components(home)["SchemaGen"], made,
        home / f"{sys.argv[4]}-schema")
    inputs = {"examples": criteo.examples(uri),
        "schema": criteo.artifact("Schema", str(made["schema"].uri))}
if part == "step":
    import numpy as np
    import tensorflow as tf
    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.training.train_step import TrainStep
    from optimizers import Lion
    size, rng = table_rows // 26, np.random.default_rng(1)
    layout = Layout(tuple(IdFeature(f"C{i}", size, 16) for i in range(26)),
        (), tuple(f"I{i}" for i in range(13)))
    ids = (rng.zipf(1.2, (512, 26)) % size).astype(np.int64)
    label = (rng.random(512) < 0.25).astype(np.float32)
    rows = {"ids": tf.constant(ids), "dense": tf.random.normal([512, 13])}
    model = build_model(layout, ModelConfig(), 0.25)
    optimizer = Lion(1e-4)
    optimizer.build(model.trainable_variables)
    steps = TrainStep(
        model, optimizer, False, 1.0, tf.distribute.get_strategy())
    batches = tf.data.Dataset.from_tensors((rows, tf.constant(label)))
    data = iter(batches.repeat())
work = {"ingest": ingest, "transform": transform, "step": step}[part]
for turn, _ in enumerate(sys.stdin):
    print("answer", work(turn)[0].cpu, flush=True)
"""


def write(rows: int, folder: Path) -> None:
    """Generate the log."""
    from pipeline.commands.generate import generate

    generate(rows, folder, shape="criteo")


@contextmanager
def worker(
    checkout: Path, home: Path, part: str, table_rows: int, name: str
) -> Iterator[Any]:
    """A function that lets a checkout do its part: seconds of CPU."""
    words = [str(home), part, str(table_rows), name]
    log = home / f"{name}-{part}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, *words],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def turn() -> float:
        stdin.write("\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("answer"):
                return float(line.split()[1])
        raise RuntimeError(log.read_text("utf-8")[-2000:])

    try:
        yield turn
    finally:
        process.terminate()
        process.wait()


def run(
    rows: int = 200_000,
    turns: int = 5,
    table_rows: int = 400_000,
    against: str = "",
    parts: str = ",".join(PARTS),
) -> Table:
    """Measure each part.

    Args:
        rows: of the log.
        turns: of each checkout, after one that does not count.
        table_rows: of the step's tables.
        against: another checkout; "": none.
        parts: which ones.
    """
    table = Table(f"CPU of {rows:,} Criteo-shaped rows, and of a step")
    checkouts = {"here": HERE}
    if against:
        checkouts["there"] = Path(against).resolve()
    with measure.scratch() as home:
        measure.alone(write, rows, home / "logs")
        for part in parts.split(","):
            with ExitStack() as stack:
                turn = {
                    name: stack.enter_context(
                        worker(path, home, part, table_rows, name)
                    )
                    for name, path in checkouts.items()
                }
                took: dict[str, list[float]] = {name: [] for name in turn}
                for number in range(turns + 1):
                    for name, work in turn.items():
                        seconds = work()
                        if number or turns == 1:
                            took[name].append(seconds)
            found = {k: statistics.median(v) for k, v in took.items()}
            for name, cpu in found.items():
                ratio = {"ratio": found["here"] / cpu} if against else {}
                table.line(f"{part}, {name}", cpu_ms=1e3 * cpu, **ratio)
    return table
