"""Evaluator: the whole, its parts, slices, and stock TFX's.

A model of Criteo's shape (39 features) is trained on generated rows and
evaluated on others, with 1,000 bootstrap replicates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Seconds
from benchmarks.perf import criteo
from benchmarks.perf.table import Table

SMOKE = {"rows": 1000, "stock_rows": 0, "train_rows": 1000}
_NUMBERS = [f"I{n}" for n in range(1, 14)]
_STRINGS = [f"C{n}" for n in range(1, 27)]
_SLICES = ("C9", "C20", "C14", "C6", "C17", "C22", "C23", "C25", "C8", "C5")


def nodes(home: Path, *overrides: str) -> Mapping[str, Any]:
    """Components of a pipeline whose gate lets every model pass."""
    return criteo.components(
        home,
        "train.epochs=1",
        "evaluate.metrics={}",
        "features.defaults.min_count=2",
        f"push.to={home / 'pushed'}",
        *overrides,
    )


def trained(rows: int, home: Path) -> str:
    """URI of a model that was trained on generated rows."""
    uri, schema = criteo.prepare(rows, home)
    components = nodes(home)
    inputs = {
        "examples": criteo.examples(uri),
        "schema": criteo.artifact("Schema", schema),
    }
    _, transformed = measure.execute(
        components["Transform"], inputs, home / "transform"
    )
    _, model = measure.execute(
        components["Trainer"],
        {
            "examples": transformed["transformed_examples"],
            "transform_graph": transformed["transform_graph"],
            "schema": inputs["schema"],
        },
        home / "trainer",
    )
    return str(model["model"].uri)


def evaluated(
    home: Path,
    folder: Path,
    examples: str,
    models: Sequence[str],
    slices: Sequence[str],
    stock: bool = False,
) -> dict[str, Any]:
    """Seconds of the whole and of its parts, peak MiB, rows and slices.

    The parts are the model's predictions, parsing included, and all that
    comes after them.
    """
    from components.evaluator import executor
    from components.evaluator.executor import SETTINGS

    component = nodes(
        home,
        "evaluate.slices=" + json.dumps([[name] for name in slices]),
        *(["evaluate.baseline=null"] if len(models) < 2 else []),
    )["Evaluator"]
    if stock:
        component.spec.exec_properties.pop(SETTINGS)
    inputs = {
        "examples": criteo.examples(examples),
        "model": criteo.artifact("Model", models[0]),
    }
    if len(models) > 1:
        inputs["baseline_model"] = criteo.artifact("Model", models[1])
    with measure.timed(executor, "predictions", "evaluate") as took:
        whole, outputs = measure.execute(component, inputs, folder)
    report = executor.report(outputs["evaluation"].uri)
    return {
        "whole": whole,
        **took,
        "peak": measure.peak_mib(),
        "rows": report.get("rows"),
        "slices": len(report.get("slices", ())),
    }


def parsing(examples: str) -> dict[str, Seconds]:
    """Seconds of reading the rows, and of parsing them as the model does."""
    import tensorflow as tf
    from tensorflow.io import gfile

    from components.evaluator.predictions import BATCH

    files = sorted(gfile.glob(f"{examples}/Split-eval/*"))
    packed = "GZIP" if files[0].endswith(".gz") else ""
    data = tf.data.TFRecordDataset(
        files, packed, num_parallel_reads=tf.data.AUTOTUNE
    ).batch(BATCH)
    spec = dict.fromkeys(_STRINGS, tf.io.VarLenFeature(tf.string))
    spec |= dict.fromkeys(_NUMBERS, tf.io.VarLenFeature(tf.float32))

    def parsed(rows: Any) -> Any:
        columns = tf.io.parse_example(rows, spec).values()
        return tf.add_n([tf.shape(column.values)[0] for column in columns])

    steps = {
        "reading": lambda rows: tf.shape(rows)[0],
        "reading and parsing": parsed,
    }
    took = {}
    for name, step in steps.items():
        watch = measure.Stopwatch()
        for _ in data.map(step, tf.data.AUTOTUNE):
            pass
        took[name] = watch.seconds()
    return took


def run(
    rows: int = 1_000_000,
    stock_rows: int = 20_000,
    train_rows: int = 50_000,
    baseline: bool = False,
) -> Table:
    """Measure the Evaluator.

    Args:
        rows: evaluated.
        stock_rows: evaluated by stock TFX too; 0 leaves it out.
        train_rows: that the model learns from.
        baseline: evaluate the model beside itself.
    """
    table = Table(
        f"Evaluator, {rows:,} Criteo-shaped rows, 39 features, 1,000 bootstrap"
        " replicates"
    )
    found = {}
    with measure.scratch() as home:
        model = measure.alone(trained, train_rows, home / "model")
        models = [model, model] if baseline else [model]
        place = home / "many"
        of_eval = (0.9, 7)  # share and seed
        examples = measure.alone(
            criteo.ingest, round(rows / 0.9), place, *of_eval
        )
        for name, took in measure.alone(parsing, examples).items():
            table.time(name, took)
        for count in (0, 3, len(_SLICES)):
            found[count] = measure.alone(
                evaluated,
                place,
                home / f"slices-{count}",
                examples,
                models,
                _SLICES[:count],
            )
        if stock_rows:
            small = home / "small"
            few = measure.alone(
                criteo.ingest, round(stock_rows / 0.9), small, *of_eval
            )
            for name, stock in (("ours", False), ("stock TFX", True)):
                one = measure.alone(
                    evaluated, small, small / name, few, models, (), stock
                )
                table.time(f"{name}, {stock_rows:,} rows", one["whole"])
    plain, few_slices, many_slices = found.values()
    table.time("predictions, with reading and parsing", plain["predictions"])
    table.time("metrics and replicates", plain["evaluate"])
    for one in (few_slices, many_slices):
        table.time(f"the same, {one['slices']} slices", one["evaluate"])
    whole = plain["whole"]
    table.time(f"Evaluator, {plain['rows']:,} rows", whole)
    table.goal("Evaluator", seconds=whole.wall, at_most=15)
    table.goal(
        f"with {few_slices['slices']} slices, CPU",
        ratio=few_slices["whole"].cpu / whole.cpu,
        at_most=2,
    )
    table.line(
        f"with {many_slices['slices']} slices, CPU",
        ratio=many_slices["whole"].cpu / whole.cpu,
    )
    table.line("peak memory", mib=plain["peak"])
    table.line("peak memory, with slices", mib=many_slices["peak"])
    return table
