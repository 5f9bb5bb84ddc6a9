"""Run benchmarks, print their tables and keep them as JSON.

    python -m benchmarks.perf [NAME ...] [--set NAME.OPTION=VALUE] [--json FILE]

Options are the arguments of `run` in the module NAME. The exit code is 1 if a
goal is missed or a benchmark fails. `--smoke` runs everything once at a tiny
size, where goals mean nothing and count for nothing.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.measure import INLINE
from benchmarks.perf.table import load

NAMES = (
    "ingest",
    "join",
    "histories",
    "transform",
    "admission",
    "statistics",
    "evaluate",
    "step",
    "sequences",
    "memory",
    "lion_kernels",
    "predict",
    "serve",
    "whole_run",
    "versions",
)
_ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run what the command line names; all of it if it names nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME.OPTION=VALUE"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    names = options.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark {unknown.pop()!r}; {', '.join(NAMES)}")
    try:
        settings = _settings(options.set)
    except ValueError as error:
        parser.error(str(error))
    if options.smoke:
        os.environ[INLINE] = "1"
        importlib.import_module("models")  # pins Keras 2 for TFX
    document = {**_circumstances(), "benchmarks": {}}
    failed = False
    for name in names:
        one = _one(name, settings.get(name, {}), options.smoke)
        document["benchmarks"][name] = one
        failed |= "error" in one or bool(one["missed"] and not options.smoke)
        if options.json:
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(failed)


def _one(name: str, given: dict[str, Any], smoke: bool) -> dict[str, Any]:
    """Options, load, and figures or the error of one benchmark."""
    module = importlib.import_module(f"benchmarks.perf.{name}")
    accepted = inspect.signature(module.run).parameters
    options = {key: one.default for key, one in accepted.items()}
    options |= (module.SMOKE if smoke else {}) | given
    if unknown := options.keys() - accepted.keys():
        raise SystemExit(
            f"{name}.{unknown.pop()}: accepted: {', '.join(accepted)}"
        )
    record: dict[str, Any] = {"options": options, "load": [load()]}
    try:
        table = module.run(**options)
    except Exception as error:
        traceback.print_exc()
        return {**record, "error": f"{type(error).__name__}: {error}"}
    record["load"].append(load())
    return {
        **record,
        "title": table.title,
        "figures": table.figures,
        "missed": table.missed,
    }


def _settings(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Benchmark -> option -> value, of `--set`."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        name, dot, option = path.partition(".")
        if not equals or not dot or name not in NAMES:
            raise ValueError(f"--set {text!r}; accepted: NAME.OPTION=VALUE")
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        found.setdefault(name, {})[option] = parsed
    return found


def _circumstances() -> dict[str, Any]:
    """Commit, date and machine."""
    git = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{len(cpu)} cores, {cpu[0] if cpu else platform.machine()}",
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
