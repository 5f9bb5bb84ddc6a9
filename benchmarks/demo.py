"""The demo from logs to pushed model, then once more from the cache."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure

_ROOT = Path(__file__).resolve().parent.parent


def lionctr(*arguments: str) -> tuple[float, str]:
    """Runs the command; returns its seconds and what it printed."""
    command = [str(Path(sys.executable).with_name("lionctr")), *arguments]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return seconds, done.stdout


def run(home: Path) -> tuple[float, dict[str, Any]]:
    """Runs the demo with all it writes in `home`: seconds and the summary."""
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
    table.line("lionctr generate", f"{generated:.1f} s {'':>9}")
    for name, seconds in summary["seconds"].items():
        again = cached["seconds"][name]
        table.line(name, f"{seconds:.1f} s {again:7.1f} s")
    listed = [sum(s["seconds"].values()) for s in (summary, cached)]
    table.line(
        "start-up, imports, summary",
        f"{first - listed[0]:.1f} s {second - listed[1]:7.1f} s",
    )
    table.line("lionctr run", f"{first:.1f} s {second:7.1f} s")
    total = generated + first
    table.goal(
        "make demo, set-up excepted", f"{total:.1f} s", "< 90 s", total < 90
    )
    table.exit()


if __name__ == "__main__":
    main()
