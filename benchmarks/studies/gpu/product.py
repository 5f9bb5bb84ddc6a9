"""Lion in TensorFlow on a GPU: right, compiled once, in place, and how fast.

    python -m benchmarks.studies.gpu.product --out build/gpu

Needs this package with its op library, and TensorFlow with a GPU. Each part
runs in a process of its own, prints what it finds at once and leaves it in
PART.json; a part that fails or takes too long stops no other. `--cpu` runs all
on a small scale without a GPU. `lower.py` and `run.py` beside it need no
TensorFlow on the machine with the GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.studies.gpu.report import Report

ROOT = Path(__file__).resolve().parents[3]
# Part -> seconds that it may take; the most important first.
PARTS = {
    "device": 60,
    "parity": 240,
    "fit": 90,
    "compile": 90,
    "memory": 90,
    "update": 180,
    "step": 240,
}


def main() -> None:
    """Runs all parts, or one; 1 if a part fails or a number is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument(
        "--parts", default=",".join(PARTS), metavar=",".join(PARTS)
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = {*options.parts.split(",")} - {*PARTS}
    if unknown:
        parser.error(f"--parts: {unknown}; accepted: {', '.join(PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part is None:
        sys.exit(_all(options))
    report = Report(options.out / f"{options.part}.json")
    for name, part, *given in _findings(options.part, options.cpu):
        report.attempt(name, part, *given)
    sys.exit(report.failed)


def _all(options: argparse.Namespace) -> int:
    """Runs parts one by one in processes of their own."""
    failed = []
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        **os.environ,
    }
    for part in options.parts.split(","):
        words = ["-m", "benchmarks.studies.gpu.product", "--part", part]
        words += ["--out", str(options.out), *["--cpu"] * options.cpu]
        print(f"\n{part}", flush=True)
        try:
            done = subprocess.run(
                [sys.executable, *words], timeout=PARTS[part], env=environment
            )
            if done.returncode:
                failed.append(f"{part} (exit code {done.returncode})")
        except subprocess.TimeoutExpired:
            failed.append(f"{part} (stopped after {PARTS[part]} s)")
    print(f"\nnot right: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


def _findings(
    part: str, small: bool
) -> Iterator[tuple[str, Callable[..., Any], *tuple[Any, ...]]]:
    """Names, functions and arguments of what a part finds out."""
    if part in ("device", "parity", "fit"):
        from benchmarks.studies.gpu import product_parity

        return product_parity.findings(part, small)
    from benchmarks.studies.gpu import product_speed

    return product_speed.findings(part, small)


if __name__ == "__main__":
    main()
