"""Training speed: ours from disk and memory, and others on the same rows.

    python -m benchmarks.studies.train [--peers-python PATH]
        [--deepctr-python PATH] [--turns 5] [--rows 500000] [--table-rows N]
        [--batch 4096] [--hidden 256 128]

Wide and deep, embeddings of 16, batches of Criteo's shape, of 4096 rows and
with hidden layers of 256 and 128 unless said otherwise; ours with Lion, the
others with Adam. Each contender is a process of its own (peers/) and waits
while another trains its turn: figures are medians over turns. Other programs
disturb seconds of the CPU less than seconds of the clock.

The peers are not in our environment. In one of their own: torch, torchrec,
fbgemm-gpu-cpu, fuxictr, deepctr-torch; in another one, for DeepCTR, deepctr,
tensorflow-cpu and tf-keras. With `--table-rows` ours and Keras alone train
tables of that many rows in all. `--batch 512 --hidden 1024 512 256` is what
DeepRec publishes for 4 cores: 16,400 rows/s, 22,800 with bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

PEERS = Path(__file__).with_name("peers")
_ROOT = PEERS.parents[2]
_DENSE = 13
_FILES = 8
_LARGEST = 60_000  # ids of a field, of those that half a million rows show
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",  # DeepCTR's Keras; ours does not read it
    # Threads of one contender must not keep the cores while another trains.
    "OMP_WAIT_POLICY": "passive",
    "KMP_BLOCKTIME": "0",
}


def write(rows: int, table_rows: int, folder: Path) -> None:
    """Rows of Criteo's shape, as arrays and as transformed examples."""
    import pyarrow as pa

    from components.example_io import tfrecord
    from components.example_io.tf_example import encode
    from components.transform.materialize import column
    from pipeline.synthetic import criteo

    rng = np.random.default_rng(1)
    sizes = np.minimum(criteo._SIZES, _LARGEST)
    if table_rows:
        sizes = np.maximum(sizes * table_rows // sizes.sum(), 2)
    ids = np.empty((rows, len(sizes)), np.int64)
    for field, size in enumerate(sizes):
        ids[:, field] = rng.permutation(size)[
            (size ** rng.random(rows)).astype(np.int64) - 1
        ]
    dense = rng.normal(size=(rows, _DENSE)).astype(np.float32)
    label = (rng.random(rows) < 0.25).astype(np.int64)
    np.save(folder / "ids.npy", ids)
    np.save(folder / "dense.npy", dense)
    np.save(folder / "label.npy", label.astype(np.float32))
    shape = {"sizes": sizes.tolist(), "splits": [rows, rows, rows]}
    (folder / "rows.json").write_text(json.dumps(shape), "utf-8")
    parts = np.array_split(np.arange(rows), _FILES)
    for number, part in enumerate(parts):
        columns = {
            "ids": column(_Array(ids[part])),
            "dense": column(_Array(dense[part])),
            "label": pa.array(label[part]),
        }
        frames = tfrecord.frame(encode(columns))
        (folder / f"examples-{number}").write_bytes(memoryview(frames))


class _Array:
    """Stand-in of a tensor for `column`."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def numpy(self) -> Any:
        return self._values


@contextmanager
def contender(python: str, rows: Path, *command: str) -> Iterator[Any]:
    """A function that gives a contender its turn and returns the answer.

    Raises:
        RuntimeError: it ended; with the last that it said.
    """
    log = rows / f"{'-'.join(command)}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, str(PEERS / command[0]), str(rows), *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **QUIET, "PYTHONPATH": str(_ROOT)}
            if python == sys.executable
            else {**os.environ, **QUIET, "PYTHONPATH": ""},
            text=True,
            bufsize=1,
        )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def answer() -> str:
        line = stdout.readline()
        if not line:
            raise RuntimeError(log.read_text("utf-8").strip()[-500:])
        return line

    def ask(settings: Any = None) -> dict[str, Any]:
        stdin.write(f"{json.dumps(settings)}\n")
        found: dict[str, Any] = json.loads(answer())
        return found

    try:
        answer()  # "ready"
        yield ask
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Prints a line for each contender."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers-python")
    parser.add_argument("--deepctr-python")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--table-rows", type=int, default=0)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 128])
    parser.add_argument("--only", nargs="*", help="parts of names")
    options = parser.parse_args()
    os.environ["TURN_BATCH"] = str(options.batch)
    os.environ["TURN_HIDDEN"] = " ".join(map(str, options.hidden))
    here, peers = sys.executable, options.peers_python
    commands: dict[str, tuple[str | None, ...]] = {
        "ours, from memory": (here, "ours.py"),
        "ours, from disk": (here, "ours.py", "disk"),
        "ours, disk, bfloat16": (here, "ours.py", "disk", "mixed_bfloat16"),
        "Keras 3 fit": (here, "keras_fit.py"),
        "DeepCTR WDL": (options.deepctr_python, "deepctr_wdl.py"),
        "DeepCTR-Torch WDL": (peers, "deepctr_torch_wdl.py"),
        "TorchRec, Adam": (peers, "torchrec_wide_deep.py"),
        "TorchRec, fused Adagrad": (peers, "torchrec_wide_deep.py", "fused"),
        "FuxiCTR WideDeep": (peers, "fuxictr_wide_deep.py"),
    }
    wanted = {
        name: command
        for name, command in commands.items()
        if command[0]
        and not (options.table_rows and command[0] != here)
        and (not options.only or any(part in name for part in options.only))
    }
    with measure.scratch() as rows, ExitStack() as stack:
        measure.alone(write, options.rows, options.table_rows, rows)
        # One after another: starting is work too.
        turns = {}
        for name, (python, *command) in wanted.items():
            try:
                turns[name] = stack.enter_context(
                    contender(str(python), rows, *map(str, command))
                )
            except RuntimeError as error:
                print(f"{name}: {error}")
        took: dict[str, list[dict[str, float]]] = {n: [] for n in turns}
        for _ in range(options.turns):
            for name, turn in turns.items():
                took[name].append(turn())
    show(took)


def show(took: dict[str, list[dict[str, float]]]) -> None:
    """A line each: rows a second, microseconds of processors a row."""
    first = next(iter(took))
    print(f"{'':26}{'rows/s':>10}{'ratio':>8}{'CPU µs/row':>12}{'ratio':>8}")
    rates, costs = {}, {}
    for name, found in took.items():
        rates[name] = statistics.median(t["rows"] / t["wall"] for t in found)
        costs[name] = statistics.median(t["cpu"] / t["rows"] for t in found)
        print(
            f"{name:26}{rates[name]:10,.0f}"
            f"{rates[first] / rates[name]:8.2f}"
            f"{1e6 * costs[name]:12.2f}{costs[name] / costs[first]:8.2f}"
        )


if __name__ == "__main__":
    main()
