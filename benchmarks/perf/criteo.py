"""Criteo-shaped logs and the components of configs/criteo.yaml on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import measure

CONFIG = Path(__file__).resolve().parents[2] / "configs/criteo.yaml"
LOG = "logs/impressions.tsv"


def components(
    home: Path, *overrides: str, cache: str | None = None
) -> Mapping[str, Any]:
    """Id -> component of the pipeline on the log of `home`."""
    from components.batching import prefer_large_batches
    from pipeline import dag
    from pipeline.config import load

    prefer_large_batches()  # as `lionctr run` does
    config = load(CONFIG, [f"data.impressions.path={home / LOG}", *overrides])
    pipeline = dag.create_pipeline(config, str(home), analysis_cache=cache)
    return {component.id: component for component in pipeline.components}


def ingest(
    rows: int, home: Path, eval_share: float = 0.1, seed: int = 1
) -> str:
    """Generate a log in `home` and ingest it.

    Returns:
        URI of the examples, with the splits train and eval.
    """
    from pipeline.commands.generate import generate

    generate(rows, home / "logs", shape="criteo", seed=seed)
    component = components(home, f"data.split.eval={eval_share}")["ClickLogGen"]
    _, made = measure.execute(component, {}, home / "ingest")
    return str(made["examples"].uri)


def schema(home: Path, examples_uri: str) -> str:
    """URI of the schema that SchemaGen infers from the examples."""
    nodes = components(home)
    inputs = {"examples": examples(examples_uri)}
    _, made = measure.execute(
        nodes["StatisticsGen"], inputs, home / "statistics"
    )
    _, made = measure.execute(nodes["SchemaGen"], made, home / "schema")
    return str(made["schema"].uri)


def prepare(rows: int, home: Path) -> tuple[str, str]:
    """URIs of the examples of a new log, and of their schema."""
    uri = ingest(rows, home)
    return uri, schema(home, uri)


def examples(uri: str) -> Any:
    """The artifact of the examples at `uri`."""
    from tfx.types import artifact_utils, standard_artifacts

    artifact = standard_artifacts.Examples()
    artifact.uri = uri
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    return artifact


def artifact(kind: str, uri: str) -> Any:
    """The artifact of type `kind` (Schema, Model) at `uri`."""
    from tfx.types import standard_artifacts

    made = getattr(standard_artifacts, kind)()
    made.uri = uri
    return made
