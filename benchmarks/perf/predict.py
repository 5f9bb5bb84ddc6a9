"""Cost of a row in batch scoring, `lionctr predict`, without the start."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.perf.criteo import CONFIG
from benchmarks.perf.table import Table

SMOKE = {"rows": 3000, "train_rows": 2000}
ROOT = Path(__file__).resolve().parents[2]
CORES = 2  # of the goal


def lionctr(*arguments: object) -> tuple[str, float]:
    """Run the command; return its output and seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, cpu


def pushed(log: Path, home: Path) -> Path:
    """A model of the Criteo config, trained on a log."""
    changes = {
        "data.impressions.path": log,
        "root": home / "runs",
        "push.to": home / "models",
        "evaluate.metrics": "{}",
        "train.epochs": 1,
    }
    options = [
        word for k, v in changes.items() for word in ("--set", f"{k}={v}")
    ]
    lionctr("run", CONFIG, *options, "--json")
    return home / "models/criteo"


def run(
    rows: int = 1_000_000, model: str = "", train_rows: int = 20_000
) -> Table:
    """Score a log of Criteo's shape; the difference to a short one counts.

    Args:
        rows: of the log.
        model: folder of a Criteo model's versions; "" trains one.
        train_rows: of that training.
    """
    table = Table(f"Batch scoring: {rows:,} rows, 39 features")
    with measure.scratch() as home:
        logs = {}
        for name, count in (("all", rows), ("few", train_rows)):
            logs[name] = home / name / "impressions.tsv"
            size = ("--rows", count, "--out", home / name)
            lionctr("generate", *size, "--shape", "criteo")
        served = Path(model) if model else pushed(logs["few"], home)
        cpu, scored = {}, {}
        for name, log in logs.items():
            out = home / f"scores-{name}"
            text, cpu[name] = lionctr(
                "predict", served, log, "--out", out, "--json"
            )
            scored[name] = json.loads(text)["scored"]
        each = (cpu["all"] - cpu["few"]) / (scored["all"] - scored["few"])
        start = cpu["few"] - each * scored["few"]
        table.line("start", cpu_seconds=start)
        table.line("a thousand rows", cpu_ms=each * 1e6)
        table.goal(
            f"rows on {CORES} cores, by CPU",
            rows_per_s=CORES / max(each, 1e-9),
            at_least=150_000,
        )
    return table
