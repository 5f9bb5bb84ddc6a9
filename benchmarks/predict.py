"""What batch scoring costs: CPU a row, without the start.

    python benchmarks/predict.py MODEL LOG

The log, of one header or none, is scored whole, and its first thousandth; the
difference is what the rows cost. Prints rows/s on two cores from the CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def scored(model: str, log: Path, out: Path) -> tuple[int, float]:
    """Rows, and seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pipeline.cli", "predict", model]
    found = subprocess.run(
        [*command, str(log.resolve()), "--out", str(out), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return int(json.loads(found.stdout)["scored"]), cpu


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("log", type=Path)
    options = parser.parse_args()
    model = str(options.model.resolve())
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, options.log.name)
        size = options.log.stat().st_size // 1000
        with options.log.open("rb") as log:
            part.write_bytes(b"".join(log.readlines(size)))
        few, start = scored(model, part, Path(folder, "few"))
        rows, cpu = scored(model, options.log, Path(folder, "all"))
    each = (cpu - start) / (rows - few)
    print(
        f"{rows:,} rows: {each * 1e6:.1f} us of CPU a row,"
        f" {2 / each:,.0f} rows/s on two cores; the start {start:.1f} s of CPU"
    )


if __name__ == "__main__":
    main()
