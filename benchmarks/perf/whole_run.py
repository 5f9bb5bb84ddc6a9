"""`lionctr run` from raw log to pushed model, beside stock TFX's components.

The config has nothing but data, features and the label. Stock's components work
on the same rows, with this project's Trainer: TFX has none of its own.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf import criteo, evaluate, ingest
from benchmarks.perf.table import Table

SMOKE = {"rows": 6000, "demo_rows": 0, "stock_rows": 0}
_DEMO = criteo.CONFIG.parent / "demo.yaml"
_TRANSFORM = "models.preprocessing.preprocessing_fn.preprocessing_fn"


class Ran(NamedTuple):
    """Seconds of a run with its imports and server, and of each component."""

    took: Seconds
    components: dict[str, float]
    peak: float


def plain_config(home: Path) -> Path:
    """A config with nothing but data, features and the label."""
    known = yaml.safe_load(criteo.CONFIG.read_text("utf-8"))
    log = known["data"]["impressions"] | {"path": str(home / criteo.LOG)}
    features = {k: known["features"][k] for k in ("numeric", "categorical")}
    path = home / "plain.yaml"
    config = {
        "name": "plain",
        "data": {"impressions": log, "label": known["data"]["label"]},
        "features": features,
    }
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def generated(rows: int, folder: Path, shape: str, format: str) -> None:
    """Write a log."""
    from pipeline.commands.generate import generate

    generate(rows, folder, shape=shape, format=format, seed=1)


def ours(config: Path, home: Path, *settings: str) -> Ran:
    """Run a pipeline whose runs and models lie in `home`."""
    watch = measure.Stopwatch()
    from pipeline import cli

    given = (f"root={home / 'runs'}", f"push.to={home / 'pushed'}", *settings)
    arguments = [part for one in given for part in ("--set", one)]
    code = cli.main(["run", str(config), *arguments])
    wall, cpu = watch.seconds()
    if code:
        raise RuntimeError(f"lionctr run: exit code {code}")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu += children.ru_utime + children.ru_stime
    runs = sorted(home.glob("runs/*/runs/*/summary.json"))
    summary = json.loads(runs[-1].read_text("utf-8"))
    return Ran(Seconds(wall, cpu), summary["seconds"], measure.peak_mib())


def stock(home: Path, uri: str) -> dict[str, Seconds]:
    """Seconds of TFX's own components on examples that ours wrote."""
    from tfx import components as tfx

    from components.evaluator.executor import SETTINGS

    nodes = evaluate.nodes(home, "evaluate.baseline=null")
    source = nodes["ClickLogGen"].outputs["examples"]
    nodes["Evaluator"].spec.exec_properties.pop(SETTINGS)
    properties = nodes["Transform"].exec_properties
    chain = {
        "StatisticsGen": tfx.StatisticsGen(examples=source),
        "SchemaGen": nodes["SchemaGen"],
        "Transform": tfx.Transform(
            examples=source,
            schema=nodes["SchemaGen"].outputs["schema"],
            preprocessing_fn=_TRANSFORM,
            custom_config=json.loads(properties["custom_config"]),
        ),
        "Trainer": nodes["Trainer"],
        "Evaluator": nodes["Evaluator"],
    }
    raw = criteo.examples(uri)
    made: dict[str, Any] = {}
    took = {}
    for name, component in chain.items():
        given = {"examples": raw, **made}
        if name == "Trainer":
            given["examples"] = made["transformed_examples"]
        inputs = {k: given[k] for k in component.inputs if k in given}
        took[name], outputs = measure.execute(component, inputs, home / name)
        made |= outputs
    return took


def run(
    rows: int = 1_000_000, demo_rows: int = 50_000, stock_rows: int = 50_000
) -> Table:
    """Measure whole runs.

    Args:
        rows: of the run.
        demo_rows: of `make demo`, with the generation; 0 leaves it out.
        stock_rows: of stock TFX and of ours beside it; 0 leaves both out.
    """
    table = Table(f"lionctr run, {rows:,} Criteo-shaped rows")
    with measure.scratch() as home:
        measure.alone(generated, rows, home / "logs", "criteo", "tsv")
        config = plain_config(home)
        first = measure.alone(ours, config, home)
        for name, seconds in first.components.items():
            table.line(name, seconds=seconds)
        table.time("the whole run", first.took, rows)
        table.line("peak memory", mib=first.peak)
        table.goal("the whole run", seconds=first.took.wall, at_most=60)
        again = measure.alone(ours, config, home)
        table.time("the same again, from the cache", again.took)
        table.goal("from the cache", seconds=again.took.wall, at_most=10)
        if demo_rows:
            demo(table, home / "demo", demo_rows)
        if stock_rows:
            beside_stock(table, home / "few", stock_rows)
    return table


def demo(table: Table, home: Path, rows: int) -> None:
    """`make demo` in an environment that is set up."""
    watch = measure.Stopwatch()
    measure.alone(generated, rows, home, "ads", "tsv")
    log = f"data.impressions.path={home / 'impressions.tsv'}"
    ran = measure.alone(ours, _DEMO, home, log)
    wall = watch.seconds().wall
    table.line("make demo", seconds=wall, cpu_seconds=ran.took.cpu)
    table.goal("make demo", seconds=wall, at_most=30)


def beside_stock(table: Table, home: Path, rows: int) -> None:
    """Stock's components and a run of ours on the same rows."""
    measure.alone(generated, rows, home / "csv", "criteo", "csv")
    took, _ = measure.alone(
        ingest.stock, home / "csv/impressions.csv", home / "ingest-stock"
    )
    uri = measure.alone(criteo.ingest, rows, home)
    found = {"CsvExampleGen": took, **measure.alone(stock, home, uri)}
    for name, one in found.items():
        table.time(f"stock {name}, {rows:,} rows", one)
    whole = Seconds(*(sum(part) for part in zip(*found.values(), strict=True)))
    mine = measure.alone(ours, plain_config(home), home)
    table.time(f"stock TFX, {rows:,} rows, without imports", whole)
    table.time(f"ours, {rows:,} rows, with imports and server", mine.took)
    table.line("stock to ours, CPU", ratio=whole.cpu / mine.took.cpu)
