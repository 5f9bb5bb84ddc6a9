"""ClickLogGen beside CsvExampleGen and a bare Arrow loop on the same rows."""

from __future__ import annotations

import statistics
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf import criteo
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000, "stock_rows": 0, "turns": 1}
_MOST_MIB = 1536
_LOG = "impressions.csv"


class Ingested(NamedTuple):
    """Seconds, and peak MiB before and after."""

    took: Seconds
    before: float
    peak: float


def generate(rows: int, folder: Path) -> None:
    """Write `rows` rows as csv without a header."""
    from pipeline.commands.generate import generate

    generate(rows, folder, format="csv", shape="criteo")


def with_header(source: Path, rows: int, target: Path) -> None:
    """Copy the first rows of `source` under the header that stock needs."""
    from pipeline.config import load

    columns = load(criteo.CONFIG).data.impressions.columns or ()
    target.parent.mkdir()
    with source.open() as lines, target.open("w") as out:
        out.write(",".join(columns) + "\n")
        out.writelines(islice(lines, rows))


def stock(data: Path, folder: Path) -> tuple[Seconds, float]:
    """Seconds and peak MiB of CsvExampleGen."""
    from tfx.components import CsvExampleGen

    component = CsvExampleGen(input_base=str(data.parent))
    took, _ = measure.execute(component, {}, folder)
    return took, measure.peak_mib()


def ours(data: Path, folder: Path) -> Ingested:
    """Run ClickLogGen; rows are split as stock does, two to one by hash."""
    import tensorflow_transform  # noqa: F401  a run has loaded it anyway

    from pipeline import dag
    from pipeline.config import load

    config = load(
        criteo.CONFIG,
        [
            f"data.impressions.path={data}",
            "data.impressions.format=csv",
            "data.split={by: hash, eval: 0.3333}",
        ],
    )
    pipeline = dag.create_pipeline(config, str(folder))
    component = {c.id: c for c in pipeline.components}["ClickLogGen"]
    before = measure.peak_mib()
    took, _ = measure.execute(component, {}, folder)
    return Ingested(took, before, measure.peak_mib())


def bare(data: Path, folder: Path) -> Seconds:
    """Parse, encode and write only: no labels, splits, rejected rows."""
    import pyarrow as pa
    import tensorflow as tf
    from pyarrow import csv
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    from pipeline.config import load

    names = load(criteo.CONFIG).data.impressions.columns or ()
    kinds = {
        name: pa.string() if name.startswith("C") else pa.float32()
        for name in names
    }
    folder.mkdir()
    watch = measure.Stopwatch()
    batches = csv.open_csv(
        data,
        csv.ReadOptions(column_names=names, block_size=4 << 20),
        convert_options=csv.ConvertOptions(
            column_types=kinds, strings_can_be_null=True
        ),
    )
    encoder = RecordBatchToExamplesEncoder()
    with tf.io.TFRecordWriter(str(folder / "examples")) as writer:
        for batch in batches:
            lists = [_as_lists(column) for column in batch.columns]
            rows = pa.RecordBatch.from_arrays(lists, list(names))
            for record in encoder.encode(rows):
                writer.write(record)
    return watch.seconds()


def _as_lists(column: Any) -> Any:
    """One value a row, none where it is null."""
    import numpy as np
    import pyarrow as pa

    valid = column.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(valid)]).astype(np.int32)
    kind = pa.binary() if pa.types.is_string(column.type) else column.type
    values = column.drop_null().cast(kind)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def run(
    rows: int = 1_000_000,
    stock_rows: int = 100_000,
    scale_to: int = 0,
    turns: int = 3,
) -> Table:
    """Measure rows a second and memory.

    Args:
        rows: of ours and of the bare loop.
        stock_rows: of CsvExampleGen, whose time is linear in the rows and is
            minutes at a million.
        scale_to: a second number of rows, to compare CPU and memory.
        turns: of which the median counts.
    """
    table = Table(f"ClickLogGen, {rows:,} Criteo-shaped rows of csv")
    quarter = rows // 4
    with measure.scratch() as home:
        measure.alone(generate, rows, home / "all")
        measure.alone(generate, quarter, home / "quarter")
        log = home / "all" / _LOG
        small = measure.alone(ours, home / "quarter" / _LOG, home / "out")
        # In turns: a machine is seldom equally busy for long.
        runs, loops = [], []
        for turn in range(turns):
            loops.append(measure.alone(bare, log, home / f"bare-{turn}"))
            runs.append(measure.alone(ours, log, home / f"out-{turn}"))
        took, before, peak = sorted(runs)[turns // 2]
        table.time(f"ClickLogGen, {rows:,} rows", took, rows)
        table.time(f"ClickLogGen, {quarter:,} rows", small.took, quarter)
        loop = statistics.median(one.wall for one in loops)
        table.line("bare Arrow loop", seconds=loop, rows_per_s=rows / loop)
        table.goal(
            "rows/s, ours to the bare loop",
            ratio=loop / took.wall,
            at_least=0.6,
        )
        table.line("memory before the first row", mib=before)
        table.goal("peak memory", mib=peak, at_most=_MOST_MIB)
        table.goal(
            f"peak memory, {rows:,} to {quarter:,} rows",
            ratio=peak / small.peak,
            at_most=1.1,
        )
        if stock_rows:
            few = min(stock_rows, rows)
            measure.alone(with_header, log, few, home / "stock/data.csv")
            theirs, mib = measure.alone(
                stock, home / "stock/data.csv", home / "out-stock"
            )
            table.time(f"CsvExampleGen, {few:,} rows", theirs, few)
            table.line("CsvExampleGen, peak memory", mib=mib)
            ratio = (rows / took.wall) / (few / theirs.wall)
            table.goal("rows/s, ours to stock", ratio=ratio, at_least=25)
        if scale_to:
            measure.alone(generate, scale_to, home / "scaled")
            most = measure.alone(
                ours, home / "scaled" / _LOG, home / "out-scaled"
            )
            table.time(f"ClickLogGen, {scale_to:,} rows", most.took, scale_to)
            table.goal(
                f"CPU of a row, {scale_to:,} to {rows:,}",
                ratio=most.took.cpu / scale_to / (took.cpu / rows),
                at_most=1.15,
            )
            table.goal(
                f"peak memory, {scale_to:,} rows",
                mib=most.peak,
                at_most=_MOST_MIB,
            )
    return table
