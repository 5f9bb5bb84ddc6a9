"""Transform beside stock TFX's on the same examples.

Rows a second count from reading the ingest's files to writing the result: the
analysis, or the transformed examples.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf import criteo
from benchmarks.perf.table import Table

SMOKE = {"rows": 0, "many": 2000}
Uris = tuple[str, str]  # examples, schema


def stock(
    home: Path, folder: Path, uris: Uris, with_statistics: bool
) -> Seconds:
    """Run stock TFX's Transform, all else at its default."""
    from tfx.components import Transform

    from pipeline.config import load

    features = load(criteo.CONFIG).features
    nodes = criteo.components(home)
    component = Transform(
        examples=nodes["ClickLogGen"].outputs["examples"],
        schema=nodes["SchemaGen"].outputs["schema"],
        preprocessing_fn="benchmarks.perf.stock_transform.preprocessing_fn",
        custom_config={
            "numeric": [f.name for f in features.numeric],
            "categorical": {
                f.name: {
                    "top_k": f.max_size,
                    "frequency_threshold": f.min_count,
                    "num_oov_buckets": f.oov_buckets,
                }
                for f in features.categorical
            },
        },
        disable_statistics=not with_statistics,
    )
    return measure.execute(component, _inputs(uris), folder)[0]


def ours(home: Path, folder: Path, uris: Uris) -> Seconds:
    """Run Transform as the pipeline does."""
    component = criteo.components(home)["Transform"]
    return measure.execute(component, _inputs(uris), folder)[0]


def parts(
    home: Path, folder: Path, uris: Uris
) -> tuple[dict[str, Seconds], float]:
    """Seconds of each part, of the analysis of known files too; peak MiB."""
    from components.transform.executor import Executor

    nodes = criteo.components(home, cache=str(folder / "cache"))
    with measure.timed(Executor, "fit", "materialize") as took:
        for turn in ("first", "second"):
            measure.execute(nodes["Transform"], _inputs(uris), folder / turn)
            if turn == "first":
                first = dict(took)
    return {
        "analysis": first["fit"],
        "analysis, files known": took["fit"],
        "materialization": first["materialize"],
    }, measure.peak_mib()


def _inputs(uris: Uris) -> dict[str, Any]:
    return {
        "examples": criteo.examples(uris[0]),
        "schema": criteo.artifact("Schema", uris[1]),
    }


def beside_stock(table: Table, home: Path, uris: Uris) -> None:
    """Compare with stock in turns: a machine is seldom equally busy."""
    times = [measure.alone(ours, home, home / "ours-1", uris)]
    full = measure.alone(stock, home, home / "stock", uris, True)
    times.append(measure.alone(ours, home, home / "ours-2", uris))
    bare = measure.alone(stock, home, home / "stock-bare", uris, False)
    times.append(measure.alone(ours, home, home / "ours-3", uris))
    median = Seconds(
        statistics.median(took.wall for took in times),
        statistics.median(took.cpu for took in times),
    )
    table.time("stock TFX", full)
    table.time("stock TFX, disable_statistics=True", bare)
    table.time("ours, median of 3", median)
    table.line("ours to stock without statistics", ratio=median.cpu / bare.cpu)
    # Both: on a busy machine either one may be luck.
    table.goal("ours to stock", ratio=median.wall / full.wall, at_most=0.25)
    table.goal("ours to stock, CPU", ratio=median.cpu / full.cpu, at_most=0.25)


def run(rows: int = 50_000, many: int = 1_000_000, scale_to: int = 0) -> Table:
    """Measure Transform.

    Args:
        rows: for the comparison with stock; 0 leaves it out.
        many: for rows a second.
        scale_to: a second number of rows, to compare CPU and memory.
    """
    table = Table(
        f"Transform, {many:,} Criteo-shaped rows, 13 z-scores and 26"
        " vocabularies"
    )
    scaled = {}
    with measure.scratch() as home:
        uris = measure.alone(criteo.prepare, rows or many, home)
        if rows:
            beside_stock(table, home, uris)
        for count in filter(None, (many, scale_to)):
            place = home / str(count)
            # The schema is the same, since the columns are.
            inputs = (measure.alone(criteo.ingest, count, place), uris[1])
            found, peak = measure.alone(parts, home, place / "parts", inputs)
            scaled[count] = found
            for name, took in found.items():
                table.time(f"{name}, {count:,} rows", took, count)
            rate = count / found["materialization"].wall
            table.goal("materialization", rows_per_s=rate, at_least=50_000)
            table.goal("peak memory", mib=peak, at_most=1536)
    if scale_to:
        for name in ("analysis", "materialization"):
            few = scaled[many][name].cpu / many
            table.goal(
                f"{name}, CPU of a row, {scale_to:,} to {many:,}",
                ratio=scaled[scale_to][name].cpu / scale_to / few,
                at_most=1.15,
            )
    return table
