"""Transform's analysis with `admission`, beside the same without it.

Two days of rows whose values are nearly all rare: after the first one they all
wait in the ledger. The second day goes on from it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000, "values": 1000}
_FILES = 8
_DAY = 86_400


def write_day(folder: Path, day: int, rows: int, values: int) -> None:
    """Writes examples of a day: users of whom each is as likely."""
    import numpy as np
    import pyarrow as pa

    from components.example_io.tf_example import encode, timed
    from components.example_io.tfrecord import frame

    folder.mkdir(parents=True)
    rng = np.random.default_rng(day)
    users = pa.array([f"user-{n:012d}" for n in range(values)])
    count = rows // _FILES
    for number in range(_FILES):
        columns = {
            "user": users.take(pa.array(rng.integers(0, values, count))),
            "price": pa.array(rng.random(count, np.float32)),
            "label": pa.array(rng.integers(0, 2, count)),
        }
        first = day * _FILES + number
        seconds = (first * count + np.arange(count)) * _DAY // (_FILES * count)
        records = timed(encode(columns), seconds * 10**6)
        (folder / str(number)).write_bytes(frame(records).to_pybytes())


def fit(
    logs: Path, out: Path, admission: int | None, state: Path | None
) -> tuple[Seconds, float, int]:
    """Analyzes a day; seconds, peak MiB, bytes of the ledger."""
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils
    from tfx.utils import io_utils

    from components.transform.executor import Executor

    spec = {
        "user": tf.io.VarLenFeature(tf.string),
        "price": tf.io.VarLenFeature(tf.float32),
        "label": tf.io.VarLenFeature(tf.int64),
    }
    user: dict[str, Any] = {"name": "user", "min_count": 1000}
    config = {
        "features": {
            "numeric": ["price"],
            "categorical": [{**user, "admission": admission}],
        }
    }
    schema = schema_utils.schema_from_feature_spec(spec)
    io_utils.write_pbtxt_file(str(out / "schema/schema.pbtxt"), schema)
    context = Executor.Context(
        beam_pipeline_args=list(measure.IN_PROCESS),
        tmp_dir=str(out / "tmp"),
        unique_id="1",
    )
    files = sorted(map(str, logs.iterdir()))
    watch = measure.Stopwatch()
    Executor(context).fit(
        files,
        config,
        str(out / "schema"),
        str(out / "graph"),
        str(state) if state else None,
    )
    took = watch.seconds()
    kept = list((out / "graph").glob("ledgers/*.arrow"))
    return took, measure.peak_mib(), sum(p.stat().st_size for p in kept)


def run(rows: int = 2_000_000, values: int = 1_000_000) -> Table:
    """Measure the second day.

    Args:
        rows: of a day.
        values: that wait.
    """
    table = Table(f"Transform's analysis, {rows:,} rows, {values:,} values")
    with measure.scratch() as home:
        for day in (0, 1):
            logs = home / f"day {day}"
            measure.alone(write_day, logs, day, rows, values)
        first = home / "first"
        measure.alone(fit, home / "day 0", first, 7, None)
        shutil.copytree(first / "graph/ledgers", home / "state/ledgers")
        took = {}
        for name, admission, state in (
            ("without admission", None, None),
            ("with admission, the second day", 7, home / "state"),
        ):
            took[name], peak, size = measure.alone(
                fit, home / "day 1", home / name, admission, state
            )
            table.time(name, took[name], rows)
            table.line(f"{name}: peak memory", mib=peak)
            if size:
                table.line("ledger on disk", mib=size / 2**20)
        without, admitted = (one.cpu for one in took.values())
        table.line("with to without, CPU", ratio=admitted / without)
    return table
