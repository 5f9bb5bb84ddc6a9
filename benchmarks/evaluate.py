"""Evaluator: seconds, memory, and what the model, parsing and metrics take.

    python benchmarks/evaluate.py [--rows 1000000] [--stock 20000] [--baseline]

A model of Criteo's shape (39 features) is trained on 50,000 generated rows,
and evaluated on others, with 1,000 bootstrap replicates, with and without
slices. Stock TFX's Evaluator gets some of the rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measure

_CONFIG = Path(__file__).resolve().parent.parent / "configs/criteo.yaml"
_TRAIN = 50_000
_NUMBERS = "I1 I2 I3 I4 I5 I6 I7 I8 I9 I10 I11 I12 I13"
_SLICES = ("C9", "C20", "C14", "C6", "C17", "C22", "C23", "C25", "C8", "C5")


def nodes(home: Path, *overrides: str) -> Mapping[str, Any]:
    """The pipeline's components on the logs of `home`."""
    from pipeline import dag
    from pipeline.config import load

    logs = home / "logs/impressions.tsv"
    config = load(
        _CONFIG,
        [
            f"data.impressions.path={logs}",
            "train.epochs=1",
            "evaluate.metrics={}",
            "features.defaults.min_count=2",
            f"push.to={home / 'pushed'}",
            *overrides,
        ],
    )
    pipeline = dag.create_pipeline(config, str(home))
    return {component.id: component for component in pipeline.components}


def trained(home: Path) -> str:
    """URI of a model that was trained on generated rows."""
    from tfx.components import SchemaGen, StatisticsGen

    from components.batching import prefer_large_batches
    from pipeline.commands.generate import generate

    prefer_large_batches()
    generate(_TRAIN, home / "logs", shape="criteo")
    all_ = nodes(home)
    _, made = measure.execute(all_["ClickLogGen"], {}, home / "ingest")
    examples = {"examples": _split(made["examples"].uri)}
    component = StatisticsGen(examples=all_["ClickLogGen"].outputs["examples"])
    _, measured = measure.execute(component, examples, home / "statistics")
    component = SchemaGen(
        statistics=component.outputs["statistics"], infer_feature_shape=False
    )
    _, schema = measure.execute(component, measured, home / "schema")
    _, transformed = measure.execute(
        all_["Transform"], examples | schema, home / "transform"
    )
    _, model = measure.execute(
        all_["Trainer"],
        {
            "examples": transformed["transformed_examples"],
            "transform_graph": transformed["transform_graph"],
            "schema": schema["schema"],
        },
        home / "trainer",
    )
    return str(model["model"].uri)


def ingested(rows: int, home: Path) -> str:
    """URI of examples with about `rows` in the split eval."""
    from pipeline.commands.generate import generate

    generate(round(rows / 0.9), home / "logs", shape="criteo", seed=7)
    ingest = nodes(home, "data.split.eval=0.9")["ClickLogGen"]
    return str(measure.execute(ingest, {}, home / "ingest")[1]["examples"].uri)


def evaluated(
    home: Path,
    folder: Path,
    examples: str,
    models: Sequence[str],
    slices: Sequence[str],
    stock: bool = False,
) -> dict[str, Any]:
    """Seconds of the whole and its parts, peak MiB and rows.

    The parts are calls of the model and parsing (`predictions`), and all that
    comes after it.
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
    took: dict[str, measure.Seconds] = {}
    for name in ("predictions", "evaluate"):
        _timing(executor, name, took)
    inputs = {"examples": _split(examples), "model": _model(models[0])}
    if len(models) > 1:
        inputs["baseline_model"] = _model(models[1])
    whole, outputs = measure.execute(component, inputs, folder)
    report = executor.report(outputs["evaluation"].uri)
    return {
        "whole": whole,
        **took,
        "peak": measure.peak_mib(),
        "rows": report.get("rows"),
        "slices": len(report.get("slices", ())),
    }


def parsing(examples: str, model: str) -> dict[str, measure.Seconds]:
    """What reading the rows takes, and parsing them as the model does."""
    import tensorflow as tf
    from tensorflow.io import gfile

    from components.evaluator.predictions import BATCH

    files = sorted(gfile.glob(f"{examples}/Split-eval/*"))
    first = files[0].endswith(".gz")
    data = tf.data.TFRecordDataset(
        files, "GZIP" if first else "", num_parallel_reads=tf.data.AUTOTUNE
    ).batch(BATCH)
    strings = {f"C{i}": tf.io.VarLenFeature(tf.string) for i in range(1, 27)}
    numbers = {n: tf.io.VarLenFeature(tf.float32) for n in _NUMBERS.split()}
    steps: dict[str, Any] = {
        "reading": lambda rows: tf.shape(rows)[0],
        "reading and parsing": lambda rows: tf.add_n(
            [
                tf.shape(column.values)[0]
                for column in tf.io.parse_example(
                    rows, strings | numbers
                ).values()
            ]
        ),
    }
    took = {}
    for name, step in steps.items():
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in data.map(step, tf.data.AUTOTUNE):
            pass
        took[name] = measure.Seconds(
            time.perf_counter() - wall, time.process_time() - cpu
        )
    return took


def _timing(module: Any, name: str, took: dict[str, measure.Seconds]) -> None:
    """Makes the function `name` leave in `took` what it takes."""
    work = getattr(module, name)

    def timed(*arguments: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work(*arguments)
        took[name] = measure.Seconds(
            time.perf_counter() - wall, time.process_time() - cpu
        )
        return result

    setattr(module, name, timed)


def _split(uri: str) -> Any:
    from tfx.types import artifact_utils, standard_artifacts

    examples = standard_artifacts.Examples()
    examples.uri = uri
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    return examples


def _model(uri: str) -> Any:
    from tfx.types import standard_artifacts

    model = standard_artifacts.Model()
    model.uri = uri
    return model


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stock", type=int, default=20_000)
    parser.add_argument("--baseline", action="store_true")
    options = parser.parse_args()
    table = measure.Table(
        f"Evaluator, {options.rows:,} Criteo-shaped rows, 39 features, 1,000"
        " bootstrap replicates"
    )
    with measure.scratch() as home:
        model = measure.alone(trained, home / "model")
        models = [model, model] if options.baseline else [model]
        place = home / "many"
        examples = measure.alone(ingested, options.rows, place)
        parts = measure.alone(parsing, examples, model)
        found = {}
        for name, slices in (
            ("none", ()),
            ("few", _SLICES[:3]),
            ("many", _SLICES),
        ):
            found[name] = measure.alone(
                evaluated, place, home / name, examples, models, slices
            )
        if options.stock:
            small = home / "small"
            some = measure.alone(ingested, options.stock, small)
            ours, stock = (
                measure.alone(
                    evaluated, small, small / name, some, models, (), stock_tfx
                )
                for name, stock_tfx in (("ours", False), ("stock", True))
            )
    plain, few, many = found["none"], found["few"], found["many"]
    for name, took in (
        *parts.items(),
        ("reading, parsing and the model", plain["predictions"]),
        ("metrics and replicates", plain["evaluate"]),
        (f"the same, {few['slices']} slices", few["evaluate"]),
        (f"the same, {many['slices']} slices", many["evaluate"]),
    ):
        table.line(name, _shown(took))
    table.goal(
        f"Evaluator, {plain['rows']:,} rows",
        _shown(plain["whole"]),
        "<= 15 s",
        plain["whole"].wall <= 15,
    )
    ratios = [some["whole"].cpu / plain["whole"].cpu for some in (few, many)]
    table.goal(
        f"with {few['slices']} slices, CPU",
        f"{ratios[0]:.2f}x",
        "< 2x",
        ratios[0] < 2,
    )
    table.line(f"with {many['slices']} slices, CPU", f"{ratios[1]:.2f}x")
    table.line("peak memory", f"{plain['peak']:,.0f} MiB")
    table.line("peak memory, with slices", f"{many['peak']:,.0f} MiB")
    if options.stock:
        table.line(f"{ours['rows']:,} rows", _shown(ours["whole"]))
        table.line("the same, stock TFX", _shown(stock["whole"]))
    table.exit()


def _shown(took: measure.Seconds) -> str:
    return f"{took.wall:.1f} s {took.cpu:9.1f} s CPU"


if __name__ == "__main__":
    main()
