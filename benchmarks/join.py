"""ClickLogGen: joining clicks to impressions against reading both alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import measure

_CONFIG = Path(__file__).resolve().parent.parent / "configs/demo_join.yaml"
_CLICKS = {"impression_id": "string", "dwell_seconds": "float"}


def generate(rows: int, clicks: int, folder: Path) -> int:
    """Writes both logs, of `clicks` clicks at least; returns how many."""
    from pipeline.commands.generate import generate

    summary = generate(rows, folder)
    log = folder / "clicks.tsv"
    lines = log.read_text().splitlines(keepends=True)
    # The generator's clicks are fewer: more of them, for other impressions,
    # a second after they were shown.
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


def ingest(data: Path, folder: Path, *logs: str) -> tuple[float, float, float]:
    """Seconds of CPU and of wall, and peak MiB, of ClickLogGen."""
    import tensorflow_transform  # noqa: F401  what a run has loaded anyway

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
        rule = {"column": "impression_id", "equals": "none"}
        sections |= {"impressions": log, "clicks": None, "label": rule}
        columns = _CLICKS
    component = ClickLogGen(DataConfig.model_validate(sections), columns, {})
    seconds, _ = measure.execute(component, {}, folder)
    return seconds.cpu, seconds.wall, measure.peak_mib()


def main() -> None:
    """Prints seconds of each log alone and of the join, and its memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clicks", type=int, default=250_000)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    table = measure.Table("ClickLogGen, a click log joined to impressions")
    best: dict[tuple[str, ...], tuple[float, float, float]] = {}
    with measure.scratch() as home:
        clicks = measure.alone(
            generate, options.rows, options.clicks, home / "logs"
        )
        # In turn, so that other work on the machine slows all of them down.
        for turn in range(options.repeat):
            for logs in (("impressions",), ("clicks",), ("both", "joined")):
                folder = home / f"{'-'.join(logs)}-{turn}"
                found = measure.alone(ingest, home / "logs", folder, *logs)
                best[logs] = min(found, best.get(logs, found))
    shown, clicked, joined = best.values()
    for name, count, (cpu, wall, mib) in (
        ("impressions alone", options.rows, shown),
        ("clicks alone", clicks, clicked),
        ("joined", options.rows, joined),
    ):
        table.line(
            f"{name}, {count:,} rows",
            f"{cpu:.1f} s CPU, {wall:.1f} s, {mib:,.0f} MiB",
        )
    ratio = joined[0] / (shown[0] + clicked[0])
    table.goal(
        "CPU, join to reading both", f"{ratio:.2f}x", "<= 2.00x", ratio <= 2
    )
    peak = joined[2]
    table.goal("peak memory", f"{peak:,.0f} MiB", "<= 1536 MiB", peak <= 1536)
    table.exit()


if __name__ == "__main__":
    main()
