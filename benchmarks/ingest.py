"""ClickLogGen against CsvExampleGen and a bare Arrow loop on the same rows."""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

import measure

_CONFIG = Path(__file__).resolve().parent.parent / "configs/criteo.yaml"


def generate(rows: int, folder: Path) -> None:
    """Writes `rows` rows as csv without a header."""
    from pipeline.commands.generate import generate

    generate(rows, folder, format="csv", shape="criteo")


def with_header(source: Path, rows: int, target: Path) -> None:
    """The first `rows` lines of `source` under the header that stock needs."""
    from pipeline.config import load

    columns = load(_CONFIG).data.impressions.columns or ()
    target.parent.mkdir()
    with source.open() as lines, target.open("w") as out:
        out.write(",".join(columns) + "\n")
        out.writelines(islice(lines, rows))


def stock(data: Path, folder: Path) -> tuple[float, float]:
    """Seconds and peak MiB of CsvExampleGen."""
    from tfx.components import CsvExampleGen

    component = CsvExampleGen(input_base=str(data.parent))
    seconds, _ = measure.execute(component, {}, folder)
    return seconds.wall, measure.peak_mib()


def ours(data: Path, folder: Path) -> tuple[float, float, float, float]:
    """Seconds, MiB before and at most, and CPU seconds, of ClickLogGen.

    The rows are split as stock does, two to one by a hash of the row.
    """
    import tensorflow_transform  # noqa: F401  what a run has loaded anyway

    from pipeline import dag
    from pipeline.config import load

    config = load(
        _CONFIG,
        [
            f"data.impressions.path={data}",
            "data.impressions.format=csv",
            "data.split={by: hash, eval: 0.3333}",
        ],
    )
    pipeline = dag.create_pipeline(config, str(folder))
    component = {c.id: c for c in pipeline.components}["ClickLogGen"]
    before = measure.peak_mib()
    seconds, _ = measure.execute(component, {}, folder)
    return seconds.wall, before, measure.peak_mib(), seconds.cpu


def bare(data: Path, folder: Path) -> float:
    """Seconds of no more than to parse, encode and write: no labels, splits,
    rejected rows or vocabularies of types.
    """
    import pyarrow as pa
    import tensorflow as tf
    from pyarrow import csv
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    from pipeline.config import load

    names = load(_CONFIG).data.impressions.columns or ()
    kinds = {
        name: pa.string() if name.startswith("C") else pa.float32()
        for name in names
    }
    folder.mkdir()
    began = time.perf_counter()
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
    return time.perf_counter() - began


def _as_lists(column: Any) -> Any:
    """One value a row, none where it is null."""
    import numpy as np
    import pyarrow as pa

    valid = column.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(valid)]).astype(np.int32)
    kind = pa.binary() if pa.types.is_string(column.type) else column.type
    values = column.drop_null().cast(kind)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def main() -> None:
    """Prints rows a second of both, and memory of ours at two sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--stock-rows",
        type=int,
        default=100_000,
        help="rows given to CsvExampleGen, whose time is linear in the rows"
        " and is minutes at a million (default: %(default)s)",
    )
    parser.add_argument(
        "--scale-to",
        type=int,
        help="a second number of rows, to compare CPU time and memory",
    )
    options = parser.parse_args()
    rows, quarter = options.rows, options.rows // 4
    few = min(options.stock_rows, rows)
    table = measure.Table("ClickLogGen and CsvExampleGen, Criteo-shaped csv")
    with measure.scratch() as home:
        measure.alone(generate, rows, home / "all")
        measure.alone(generate, quarter, home / "quarter")
        log = home / "all/impressions.csv"
        measure.alone(with_header, log, few, home / "stock/data.csv")
        stock_seconds, stock_peak = measure.alone(
            stock, home / "stock/data.csv", home / "out-stock"
        )
        small, _, small_peak, _ = measure.alone(
            ours, home / "quarter/impressions.csv", home / "out-quarter"
        )
        # In turns: a machine is seldom equally busy for long.
        runs, loops = [], []
        for turn in range(3):
            loops.append(measure.alone(bare, log, home / f"bare-{turn}"))
            runs.append(measure.alone(ours, log, home / f"out-{turn}"))
        if options.scale_to:
            measure.alone(generate, options.scale_to, home / "scaled")
            scaled = measure.alone(
                ours, home / "scaled/impressions.csv", home / "out-scaled"
            )
    seconds, before, peak, cpu = sorted(runs)[1]
    loop = statistics.median(loops)
    speed, stock_speed = rows / seconds, few / stock_seconds
    for name, count, took, mib in (
        ("CsvExampleGen", few, stock_seconds, stock_peak),
        ("ClickLogGen", quarter, small, small_peak),
        ("ClickLogGen", rows, seconds, peak),
    ):
        table.line(
            f"{name}, {count:,} rows",
            f"{took:.1f} s {count / took:9,.0f} rows/s {mib:6,.0f} MiB",
        )
    table.line(
        f"bare Arrow loop, {rows:,} rows",
        f"{loop:.1f} s {rows / loop:9,.0f} rows/s {'':10}",
    )
    table.line("ClickLogGen before its first row", f"{before:,.0f} MiB")
    if few < rows:
        print(
            f"  CsvExampleGen was given {few:,} of the {rows:,} rows: its time"
            f" is linear in them,\n  all would take it"
            f" {rows / stock_speed:,.0f} s (--stock-rows {rows})"
        )
    ratio, growth = speed / stock_speed, peak / small_peak
    table.goal("rows/s, ours to stock", f"{ratio:.1f}x", ">= 25x", ratio >= 25)
    table.goal(
        "rows/s, ours to the bare loop",
        f"{loop / seconds:.0%}",
        ">= 60 %",
        loop / seconds >= 0.6,
    )
    table.goal(
        "peak memory",
        f"{peak:,.0f} MiB",
        "< 1,536 MiB",
        peak < 1536,
    )
    table.goal(
        f"peak memory, {rows:,} to {quarter:,} rows",
        f"{growth:.2f}x",
        "<= 1.10x",
        growth <= 1.1,
    )
    if options.scale_to:
        most = options.scale_to
        seconds, _, peak, most_cpu = scaled
        growth = most_cpu / most / (cpu / rows)
        table.line(
            f"ClickLogGen, {most:,} rows",
            f"{seconds:.1f} s {most / seconds:9,.0f} rows/s {peak:6,.0f} MiB",
        )
        table.goal(
            f"CPU of a row, {most:,} to {rows:,}",
            f"{growth:.2f}x",
            "<= 1.15x",
            growth <= 1.15,
        )
        table.goal(
            f"peak memory, {most:,} rows",
            f"{peak:,.0f} MiB",
            "< 1,536 MiB",
            peak < 1536,
        )
    table.exit()


if __name__ == "__main__":
    main()
