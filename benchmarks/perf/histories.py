"""ClickLogGen: histories from the log beside the same rows without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.perf.join import Ingested
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000}
_COLUMNS = {
    "item_id": "string",
    "category": "string",
    "device": "string",
    "price": "float",
    "page_seconds": "float",
}
_HISTORY: dict[str, Any] = {
    "from": "impressions",
    "of": "user_id",
    "items": "item_id",
    "max_len": 50,
    "sides": [{"of": "category", "items": "category"}, {"of": "timestamp"}],
}
_KINDS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "clicked items": [_HISTORY],
    "all items": [{**_HISTORY, "clicked": False}],
}


def generate(rows: int, folder: Path) -> None:
    """Write a shop's logs."""
    from pipeline.commands.generate import generate

    generate(rows, folder, shape="shop")


def ingest(data: Path, folder: Path, kind: str) -> Ingested:
    """Run ClickLogGen with one kind of history."""
    import tensorflow_transform  # noqa: F401  a run has loaded it anyway

    from components.click_log_gen.component import ClickLogGen
    from components.click_log_gen.config.sections import DataConfig
    from models.config.sequences import SequenceFeature

    log = {"path": f"{data}/impressions.tsv", "format": "tsv", "header": True}
    config = DataConfig.model_validate(
        {
            "impressions": log,
            "label": "click",
            "time": "timestamp",
            "split": {"by": "time", "eval": 0.1},
        }
    )
    histories = [SequenceFeature.model_validate(one) for one in _KINDS[kind]]
    component = ClickLogGen(config, _COLUMNS, {}, histories=histories)
    took, _ = measure.execute(component, {}, folder)
    return Ingested(took.cpu, took.wall, measure.peak_mib())


def run(rows: int = 1_000_000) -> Table:
    """Measure the ingest without, with some, and with long histories."""
    table = Table(f"Histories of up to 50 items, {rows:,} rows")
    with measure.scratch() as home:
        measure.alone(generate, rows, home / "logs")
        for kind in _KINDS:
            folder = home / kind.replace(" ", "-")
            one = measure.alone(ingest, home / "logs", folder, kind)
            table.line(kind, seconds=one.wall, cpu_seconds=one.cpu, mib=one.mib)
            table.goal(f"peak memory, {kind}", mib=one.mib, at_most=1536)
    return table
