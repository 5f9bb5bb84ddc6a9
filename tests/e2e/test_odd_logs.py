"""`lionctr run` on a folder of Spark with odd names, types and columns."""

from __future__ import annotations

import datetime
import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

LIONCTR = [sys.executable, "-m", "pipeline.cli"]
NAMES = ["ids", "dense", "ctr", "list_x", "a.b", "0"]


def write_day(folder: Path, day: int, rows: int) -> None:
    """A day as Spark would leave it; types differ from day to day."""
    draw = random.Random(day)
    folder.mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").write_text("x")
    flags = [draw.random() < 0.5 for _ in range(rows)]
    start = datetime.datetime(2024, 1, day)
    times = [start + datetime.timedelta(seconds=i) for i in range(rows)]
    numbers = pa.array([draw.randrange(5) for _ in range(rows)])
    table = {
        "click": [int(draw.random() < 0.2 + 0.5 * flag) for flag in flags],
        "flag": flags,
        "user": pa.array(
            [uuid.UUID(int=draw.randrange(9)).bytes for _ in range(rows)],
            pa.binary(16),
        ),
        "ad": numbers.cast([pa.int64(), pa.float64()][day % 2]),
        "ts": pa.array(times, pa.timestamp("us")),
        "price": [draw.random() for _ in range(rows)],
        **{name: [draw.randrange(3) for _ in range(rows)] for name in NAMES},
    }
    pq.write_table(
        pa.table(table),
        folder / "part-0.parquet",
        use_deprecated_int96_timestamps=day % 2 == 0,
    )


@pytest.mark.slow
def test_a_folder_of_spark_runs_to_its_end(tmp_path: Path) -> None:
    for day in range(1, 5):
        folder = tmp_path / f"logs[1]/year=2024/month=1/day={day}"
        write_day(folder, day, 500)
    config = {
        "name": "odd",
        "root": "~/runs",
        "data": {
            "impressions": {
                "path": "~/logs[1]/year={YYYY}/month={MM}/day={DD}",
                "format": "parquet",
            },
            "label": "click",
            "time": "ts",
            "split": {"by": "time", "eval": 0.25},
            "spans": {"last": 4},
        },
        "features": {
            "numeric": ["price", "ids"],
            "categorical": [
                *("flag", "user", "ad", "day", "dense", "ctr", "a.b", "0"),
                {"name": "list_x", "list": "|"},
            ],
        },
        "model": {"hidden": [8]},
        "optimizer": {"name": "lion", "learning_rate": 3e-3},
        "train": {"batch_size": 64, "jit": False},
        "evaluate": {"metrics": {"auc": {"min": 0}}, "slices": [["flag"]]},
        "push": {"to": "~/models"},
    }
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(config))
    result = subprocess.run(
        [*LIONCTR, "run", str(path), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["rows"]["read"] == summary["rows"]["kept"] == 2000
    assert summary["metrics"]["auc"] > 0.6
    model = Path(summary["pushed_model"])
    vocabularies = {
        file.name: set(file.read_text().split())
        for file in model.rglob("vocab_*")
    }
    assert {"0", "1"} in vocabularies.values()
    assert {"1", "2", "3"} in vocabularies.values()  # days of train
    assert {str(uuid.UUID(int=i)) for i in range(9)} in vocabularies.values()
