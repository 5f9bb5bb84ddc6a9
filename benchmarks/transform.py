"""Our Transform against stock TFX's on the same examples, and its speed.

Rows a second count from reading the ingest's files to writing the result:
the vocabularies and moments, or the transformed examples.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure

_CONFIG = Path(__file__).resolve().parent.parent / "configs/criteo.yaml"


def ingest(rows: int, home: Path) -> str:
    """URI of Criteo-shaped examples."""
    from pipeline.commands.generate import generate

    generate(rows, home / "logs", shape="criteo")
    ingest = _nodes(home)["ClickLogGen"]
    _, ingested = measure.execute(ingest, {}, home / "ingest")
    return str(ingested["examples"].uri)


def prepare(rows: int, home: Path) -> tuple[str, str]:
    """URIs of Criteo-shaped examples and of their schema."""
    from tfx.components import SchemaGen, StatisticsGen

    uri = ingest(rows, home)
    nodes = _nodes(home)
    examples = {"examples": _examples(uri)}
    component = StatisticsGen(examples=nodes["ClickLogGen"].outputs["examples"])
    _, measured = measure.execute(component, examples, home / "statistics")
    component = SchemaGen(
        statistics=component.outputs["statistics"], infer_feature_shape=False
    )
    _, schema = measure.execute(component, measured, home / "schema")
    return uri, schema["schema"].uri


def stock(
    home: Path, folder: Path, uris: tuple[str, str], statistics: bool
) -> measure.Seconds:
    """Stock TFX Transform, everything else at its default."""
    from tfx.components import Transform

    from pipeline.config import load

    features = load(_CONFIG).features
    nodes = _nodes(home)
    component = Transform(
        examples=nodes["ClickLogGen"].outputs["examples"],
        schema=nodes["SchemaGen"].outputs["schema"],
        preprocessing_fn="stock_transform.preprocessing_fn",
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
        disable_statistics=not statistics,
    )
    return measure.execute(component, _artifacts(uris), folder)[0]


def ours(home: Path, folder: Path, uris: tuple[str, str]) -> measure.Seconds:
    """Transform as pipeline/dag.py configures it."""
    from components.batching import prefer_large_batches

    prefer_large_batches()  # as `lionctr run` does

    component = _nodes(home)["Transform"]
    return measure.execute(component, _artifacts(uris), folder)[0]


def speed(
    home: Path, folder: Path, uris: tuple[str, str]
) -> tuple[dict[str, measure.Seconds], float]:
    """What the analysis and the materialization take, and the former again.

    And peak MiB.
    """
    from components.batching import prefer_large_batches
    from components.transform.executor import Executor

    prefer_large_batches()
    found: dict[str, measure.Seconds] = {}
    _timing(Executor, "fit", found)
    _timing(Executor, "materialize", found)
    component = _nodes(home, str(folder / "cache"))["Transform"]
    measure.execute(component, _artifacts(uris), folder / "first")
    first = dict(found)
    measure.execute(component, _artifacts(uris), folder / "second")
    return {
        "analysis": first["fit"],
        "analysis, files known": found["fit"],
        "materialization": first["materialize"],
    }, measure.peak_mib()


def _timing(cls: Any, name: str, found: dict[str, measure.Seconds]) -> None:
    """Makes the method `name` leave in `found` what it takes."""
    work = getattr(cls, name)

    def timed(*arguments: Any) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work(*arguments)
        found[name] = measure.Seconds(
            time.perf_counter() - wall, time.process_time() - cpu
        )

    setattr(cls, name, timed)


def _nodes(home: Path, cache: str | None = None) -> Mapping[str, Any]:
    from pipeline import dag
    from pipeline.config import load

    logs = home / "logs/impressions.tsv"
    config = load(_CONFIG, [f"data.impressions.path={logs}"])
    pipeline = dag.create_pipeline(config, str(home), analysis_cache=cache)
    return {component.id: component for component in pipeline.components}


def _examples(uri: str) -> Any:
    from tfx.types import artifact_utils, standard_artifacts

    examples = standard_artifacts.Examples()
    examples.uri = uri
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    return examples


def _artifacts(uris: tuple[str, str]) -> dict[str, Any]:
    from tfx.types import standard_artifacts

    schema = standard_artifacts.Schema()
    schema.uri = uris[1]
    return {"examples": _examples(uris[0]), "schema": schema}


def main() -> None:
    """Prints the seconds of each and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=50_000, help="for the ratio to stock"
    )
    parser.add_argument(
        "--many", type=int, default=1_000_000, help="for rows a second"
    )
    parser.add_argument(
        "--scale-to",
        type=int,
        help="a second number of rows, to compare rows a second and memory",
    )
    options = parser.parse_args()
    table = measure.Table(
        f"Transform, {options.rows:,} Criteo-shaped rows, 13 z-scores and 26"
        " vocabularies"
    )
    with measure.scratch() as home:
        uris = measure.alone(prepare, options.rows, home)
        # Taken in turns: a machine is seldom equally busy for minutes.
        times = [measure.alone(ours, home, home / "ours-1", uris)]
        full = measure.alone(stock, home, home / "stock", uris, True)
        times.append(measure.alone(ours, home, home / "ours-2", uris))
        bare = measure.alone(stock, home, home / "stock-bare", uris, False)
        times.append(measure.alone(ours, home, home / "ours-3", uris))
        # The same schema: statistics of many rows would take minutes.
        scaled = {}
        for rows in filter(None, (options.many, options.scale_to)):
            place = home / str(rows)
            many = (measure.alone(ingest, rows, place), uris[1])
            scaled[rows] = measure.alone(speed, home, place / "speed", many)
    wall = statistics.median(took.wall for took in times)
    cpu = statistics.median(took.cpu for took in times)
    for name, took in (
        ("stock TFX", full),
        ("stock TFX, disable_statistics=True", bare),
        ("ours, median of 3", measure.Seconds(wall, cpu)),
    ):
        table.line(name, f"{took.wall:.1f} s {took.cpu:9.1f} s CPU")
    table.line(
        "ours to stock without statistics",
        f"{wall / bare.wall:.2f} {cpu / bare.cpu:11.2f} CPU",
    )
    ratio, cpu_ratio = wall / full.wall, cpu / full.cpu
    # Both: on a busy machine either one may be luck.
    table.goal(
        "ours to stock",
        f"{ratio:.2f} {cpu_ratio:11.2f} CPU",
        "<= 0.25 in both",
        max(ratio, cpu_ratio) <= 0.25,
    )
    for rows, (parts, peak) in scaled.items():
        print(f"\n  {rows:,} rows, rows a second and a CPU second\n")
        for name, took in parts.items():
            rate = rows / took.wall
            value = f"{rate:,.0f} {rows / took.cpu:11,.0f} CPU"
            if name == "materialization":
                table.goal(name, value, ">= 50,000", rate >= 50_000)
            else:
                table.line(name, value)
        table.goal(
            "peak memory", f"{peak:,.0f} MiB", "< 1,536 MiB", peak < 1536
        )
    if options.scale_to:
        (few, (small, _)), (most, (large, _)) = scaled.items()
        for name in ("analysis", "materialization"):
            growth = large[name].cpu / most / (small[name].cpu / few)
            table.goal(
                f"{name}, CPU of a row, {most:,} to {few:,}",
                f"{growth:.2f}x",
                "<= 1.15x",
                growth <= 1.15,
            )
    table.exit()


if __name__ == "__main__":
    main()
