"""Our Transform against stock TFX's on the same examples and schema."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure

_CONFIG = Path(__file__).resolve().parent.parent / "configs/criteo.yaml"


def prepare(rows: int, home: Path) -> tuple[str, str]:
    """URIs of Criteo-shaped examples and of their schema."""
    from tfx.components import SchemaGen, StatisticsGen

    from pipeline.generate import generate

    generate(rows, home / "logs", shape="criteo")
    nodes = _nodes(home)
    _, ingested = measure.execute(nodes["ClickLogGen"], {}, home / "ingest")
    examples = {"examples": ingested["examples"]}
    component = StatisticsGen(examples=nodes["ClickLogGen"].outputs["examples"])
    _, measured = measure.execute(component, examples, home / "statistics")
    component = SchemaGen(
        statistics=component.outputs["statistics"], infer_feature_shape=False
    )
    _, schema = measure.execute(component, measured, home / "schema")
    return ingested["examples"].uri, schema["schema"].uri


def stock(
    home: Path, folder: Path, uris: tuple[str, str], statistics: bool
) -> float:
    """Seconds of stock TFX Transform, everything else at its default."""
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


def ours(home: Path, folder: Path, uris: tuple[str, str]) -> float:
    """Seconds of Transform as pipeline/dag.py configures it."""
    from pipeline import dag
    from pipeline.config import load

    beam = tuple(dag.beam_arguments(load(_CONFIG)))
    component = _nodes(home)["Transform"]
    return measure.execute(component, _artifacts(uris), folder, beam)[0]


def _nodes(home: Path) -> Mapping[str, Any]:
    from pipeline import dag
    from pipeline.config import load

    logs = home / "logs/impressions.tsv"
    config = load(_CONFIG, [f"data.impressions.path={logs}"])
    pipeline = dag.create_pipeline(config, str(home))
    return {component.id: component for component in pipeline.components}


def _artifacts(uris: tuple[str, str]) -> dict[str, Any]:
    from tfx.types import artifact_utils, standard_artifacts

    examples, schema = (
        standard_artifacts.Examples(),
        standard_artifacts.Schema(),
    )
    examples.uri, schema.uri = uris
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    return {"examples": examples, "schema": schema}


def main() -> None:
    """Prints the seconds of each and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        help="runs of ours, of which the median counts (stock runs once)",
    )
    options = parser.parse_args()
    table = measure.Table(
        f"Transform, {options.rows:,} Criteo-shaped rows, 13 z-scores and 26"
        " vocabularies"
    )
    with measure.scratch() as home:
        uris = measure.alone(prepare, options.rows, home)
        times = [
            measure.alone(ours, home, home / f"ours-{i}", uris)
            for i in range(options.repeat)
        ]
        full = measure.alone(stock, home, home / "stock", uris, True)
        bare = measure.alone(stock, home, home / "stock-bare", uris, False)
    seconds = statistics.median(times)
    table.line("stock TFX", f"{full:.1f} s")
    table.line("stock TFX, disable_statistics=True", f"{bare:.1f} s")
    table.line(f"ours, median of {options.repeat}", f"{seconds:.1f} s")
    table.line("ours to stock without statistics", f"{seconds / bare:.2f}")
    ratio = seconds / full
    table.goal("ours to stock", f"{ratio:.2f}", "<= 0.25", ratio <= 0.25)
    table.exit()


if __name__ == "__main__":
    main()
