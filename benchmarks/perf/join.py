"""ClickLogGen: a join of clicks to impressions beside reading both alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.perf.table import Table

SMOKE = {"rows": 2000, "clicks": 300}
_CONFIG = Path(__file__).resolve().parents[2] / "configs/demo_join.yaml"
_LOGS: tuple[tuple[str, ...], ...] = (
    ("impressions",),
    ("clicks",),
    ("both", "joined"),
)
_CLICKS = {"impression_id": "string", "dwell_seconds": "float"}


class Ingested(NamedTuple):
    """CPU seconds first: the least of several turns counts."""

    cpu: float
    wall: float
    mib: float


def generate(rows: int, clicks: int, folder: Path) -> int:
    """Write both logs, with `clicks` clicks or more; return their number."""
    from pipeline.commands.generate import generate

    summary = generate(rows, folder)
    log = folder / "clicks.tsv"
    lines = log.read_text().splitlines(keepends=True)
    # The generator's clicks are fewer: add clicks on other impressions, at
    # the time they were shown.
    clicked = {line.split("\t")[0] for line in lines}
    missing = clicks - summary.clicks
    with (folder / "impressions.tsv").open(errors="replace") as shown:
        next(shown)
        for line in shown:
            if missing <= 0:
                break
            key, time, _ = line.split("\t", 2)
            if key not in clicked and key.startswith("i"):
                lines.append(f"{key}\t{time}\t1.5\n")
                missing -= 1
    log.write_text("".join(lines))
    return len(lines) - 1


def ingest(data: Path, folder: Path, *logs: str) -> Ingested:
    """Run ClickLogGen on one log, or on both."""
    import tensorflow_transform  # noqa: F401  a run has loaded it anyway

    from components.click_log_gen.component import ClickLogGen
    from components.click_log_gen.config.sections import DataConfig
    from pipeline.config import load

    config = load(
        _CONFIG,
        [
            f"data.impressions.path={data}/impressions.tsv",
            f"data.clicks.path={data}/clicks.tsv",
        ],
    )
    sections: dict[str, Any] = config.data.model_dump()
    columns = config.columns()
    if logs == ("impressions",):
        sections |= {"clicks": None, "label": "click"}
    if logs == ("clicks",):
        log = {"path": f"{data}/clicks.tsv", "format": "tsv", "header": True}
        rule = {"column": "dwell_seconds", "at_least": 2}
        sections |= {"impressions": log, "clicks": None, "label": rule}
        sections["max_rejected"] = 0.1  # some dwell times are missing
        columns = _CLICKS
    component = ClickLogGen(DataConfig.model_validate(sections), columns, {})
    took, _ = measure.execute(component, {}, folder)
    return Ingested(took.cpu, took.wall, measure.peak_mib())


def run(rows: int = 1_000_000, clicks: int = 250_000, turns: int = 1) -> Table:
    """Measure each log alone, and the join, `turns` times."""
    table = Table(f"Join, {rows:,} impressions and {clicks:,} clicks")
    best: dict[tuple[str, ...], Ingested] = {}
    with measure.scratch() as home:
        measure.alone(generate, rows, clicks, home / "logs")
        # In turns, so that other work on the machine slows all of them down.
        for turn in range(turns):
            for logs in _LOGS:
                folder = home / f"{'-'.join(logs)}-{turn}"
                took = measure.alone(ingest, home / "logs", folder, *logs)
                best[logs] = min(took, best.get(logs, took))
    for logs, one in best.items():
        table.line(
            " ".join(logs), seconds=one.wall, cpu_seconds=one.cpu, mib=one.mib
        )
    impressions, clicked, joined = best.values()
    table.goal(
        "CPU, the join to reading both",
        ratio=joined.cpu / (impressions.cpu + clicked.cpu),
        at_most=2,
    )
    table.goal("peak memory", mib=joined.mib, at_most=1536)
    return table
