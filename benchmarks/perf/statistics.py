"""StatisticsGen beside stock TFX's on the same Criteo-shaped examples."""

from __future__ import annotations

from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf import criteo
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000, "stock_rows": 0}


def ours(home: Path, uri: str) -> tuple[Seconds, float]:
    """Seconds and peak MiB of the pipeline's StatisticsGen."""
    component = criteo.components(home)["StatisticsGen"]
    inputs = {"examples": criteo.examples(uri)}
    took, _ = measure.execute(component, inputs, home / "statistics")
    return took, measure.peak_mib()


def stock(home: Path, uri: str) -> tuple[Seconds, float]:
    """Seconds and peak MiB of TFX's StatisticsGen."""
    from tfx.components import StatisticsGen

    nodes = criteo.components(home)
    component = StatisticsGen(examples=nodes["ClickLogGen"].outputs["examples"])
    inputs = {"examples": criteo.examples(uri)}
    took, _ = measure.execute(component, inputs, home / "stock")
    return took, measure.peak_mib()


def run(rows: int = 1_000_000, stock_rows: int = 100_000) -> Table:
    """Measure both; 0 leaves stock out."""
    table = Table(f"StatisticsGen, {rows:,} Criteo-shaped rows, 40 columns")
    with measure.scratch() as home:
        uri = measure.alone(criteo.ingest, rows, home)
        took, peak = measure.alone(ours, home, uri)
        table.time("StatisticsGen", took, rows)
        table.line("peak memory", mib=peak)
        if stock_rows:
            few = home / "few"
            uri = measure.alone(criteo.ingest, stock_rows, few)
            here, _ = measure.alone(ours, few, uri)
            theirs, mib = measure.alone(stock, few, uri)
            table.time(f"StatisticsGen, {stock_rows:,} rows", here, stock_rows)
            table.time(f"stock TFX, {stock_rows:,} rows", theirs, stock_rows)
            table.line("stock TFX, peak memory", mib=mib)
            table.goal(
                "stock to ours, CPU",
                ratio=theirs.cpu / here.cpu,
                at_least=4,
            )
    return table
