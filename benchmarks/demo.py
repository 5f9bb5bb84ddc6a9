"""The demo from logs to pushed model, then once more from the cache."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure

_ROOT = Path(__file__).resolve().parent.parent


def lionctr(*arguments: str) -> tuple[measure.Seconds, str]:
    """Runs the command; returns what it took and what it printed."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    wall, cpu = time.perf_counter(), _cpu()
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    seconds = measure.Seconds(time.perf_counter() - wall, _cpu() - cpu)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return seconds, done.stdout


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(home: Path) -> tuple[measure.Seconds, dict[str, Any]]:
    """Runs the demo with all it writes in `home`: time and summary."""
    seconds, text = lionctr(
        *("run", "configs/demo.yaml", "--json"),
        *("--set", f"data.impressions.path={home}/logs/impressions.tsv"),
        *("--set", f"root={home}/runs"),
        *("--set", f"push.to={home}/serving_models"),
    )
    return seconds, json.loads(text)


def main() -> None:
    """Prints the seconds of each component in both runs, and in all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    table = measure.Table(
        f"lionctr generate and run configs/demo.yaml, {options.rows:,} rows"
    )
    with measure.scratch() as home:
        rows, out = str(options.rows), str(home / "logs")
        generated, _ = lionctr("generate", "--rows", rows, "--out", out)
        first, summary = run(home)
        second, cached = run(home)
    table.line("", "fresh     cached")
    table.line("lionctr generate", _pair(generated.wall, None))
    for name, seconds in summary["seconds"].items():
        table.line(name, _pair(seconds, cached["seconds"][name]))
    listed = [sum(s["seconds"].values()) for s in (summary, cached)]
    table.line(
        "imports, summary, shutdown",
        _pair(first.wall - listed[0], second.wall - listed[1]),
    )
    table.line("lionctr run", _pair(first.wall, second.wall))
    table.line("lionctr run, CPU", _pair(first.cpu, second.cpu))
    total = generated.wall + first.wall
    table.goal(
        "make demo, set-up excepted", f"{total:.1f} s", "< 90 s", total < 90
    )
    table.exit()


def _pair(fresh: float, cached: float | None) -> str:
    again = "" if cached is None else f"{cached:.1f} s"
    return f"{fresh:.1f} s {again:>10}"


if __name__ == "__main__":
    main()
