"""Truth of a join: plain dicts over the same rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from components.click_log_gen.join import matching
from components.click_log_gen.output import spill
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    check_place,
    convert_log,
    cut_into,
    log_of,
    write_log,
)

WINDOW = 10
COLUMNS = {"tag": ("string", None), "price": ("float", None)}
HASH = {"by": "hash", "eval": 0.4}
DUPLICATE, HELD_BACK, SPOILED = (
    why for _, why in matching.IMPRESSION_OUTCOMES[1:]
)
ORPHAN, EARLY, LATE, REPEATED, WAITING = (
    why for _, why in matching.CLICK_OUTCOMES[1:6]
)


def text_of(row: Row) -> str:
    return ",".join("" if v is None else str(v) for v in row.values())


@dataclass
class Truth:
    """Result that the join must give. Rejected rows are (reason, row)."""

    kept: list[tuple[str, float, int, int | None, int]] = field(
        default_factory=list  # tag, price, label, dwell, time
    )
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    held_back: int = 0
    joined: int = 0


def fault_of(row: Row) -> str | None:
    """Why a row is rejected by itself."""
    if row.get("price") == "x":
        return "column price: not a number"
    for name, what in (("id", "no key to join by"), ("t", "no time")):
        if row[name] is None:
            return f"column {name}: {what}"
    return None


def join(shown: list[Row], clicked: list[Row]) -> Truth:
    """One dict, one row after the other."""
    truth = Truth()
    first: dict[str, Row] = {}

    def rank(row: Row) -> tuple[Any, ...]:
        return row["t"], row["tag"], row["price"], text_of(row)

    good = []
    for row in shown:
        if fault := fault_of(row):
            truth.rejected[fault, text_of(row)] += 1
        else:
            good.append(row)
    for row in sorted(good, key=rank):
        if row["id"] in first:
            truth.rejected[DUPLICATE, text_of(row)] += 1
        else:
            first[row["id"]] = row

    def moment(row: Row) -> tuple[Any, ...]:
        dwell = row["dwell"]
        known = isinstance(dwell, int)
        return row["t"], known, dwell if known else 0, text_of(row)

    usable = [row for row in clicked if not fault_of(row)]
    times = [row["t"] for row in usable] or [row["t"] for row in good]
    end = max(times, default=0)
    chosen: dict[str, Row] = {}
    for row in clicked:
        if fault := fault_of(row):
            truth.rejected[fault, text_of(row)] += 1
    for row in sorted(usable, key=moment):
        owner = first.get(row["id"])
        if owner is None:
            reason = ORPHAN
        elif row["t"] < owner["t"]:
            reason = EARLY
        elif row["t"] > owner["t"] + WINDOW:
            reason = LATE
        elif row["id"] in chosen:
            reason = REPEATED
        else:
            chosen[row["id"]] = row
            reason = WAITING if owner["t"] + WINDOW > end else ""
        if row["dwell"] == "x":
            reason = "column dwell: not an integer of 64 bits"
        if reason:
            truth.rejected[reason, text_of(row)] += 1
        else:
            truth.joined += 1
    for key, row in first.items():
        click = chosen.get(key)
        if row["t"] + WINDOW > end:
            truth.held_back += 1
            truth.rejected[HELD_BACK, text_of(row)] += 1
        elif click is not None and click["dwell"] == "x":
            truth.rejected[SPOILED, text_of(row)] += 1
        else:
            truth.kept.append(
                (
                    row["tag"],
                    row["price"],
                    int(click is not None),
                    None if click is None else click["dwell"],
                    row["t"],
                )
            )
    return truth


def clicks_of(path: Path | list[str], format: str = "csv", **more: Any) -> Row:
    return {
        **log_of(path, format),
        "key": "id",
        "window": f"{WINDOW}s",
        "carry": {"dwell": "int"},
        **more,
    }


def joined(
    folder: Path,
    shown: list[list[Row]],
    clicked: list[list[Row]],
    by: Row = HASH,
    format: str = "csv",
    **more: Any,
) -> Output:
    """The ingest of logs in several files, cut into small pieces."""
    paths: dict[str, list[str]] = {}
    for name, files in (("shown", shown), ("clicked", clicked)):
        paths[name] = [
            str(write_log(folder / f"{name}{i}.{format}", format, rows))
            for i, rows in enumerate(files)
        ]
    with cut_into(90, 40), mock.patch.object(spill, "SPILL_BYTES", 500):
        return convert_log(
            folder / "out",
            log_of(paths["shown"], format),
            COLUMNS,
            None,
            by,
            time=SECONDS,
            clicks=clicks_of(paths["clicked"], format, **more),
        )


def examples(output: Output) -> list[Any]:
    return sorted(
        (
            tuple(row[name] for name in ("tag", "price", "label", "dwell"))
            for row in output.kept
        ),
        key=str,
    )


def reasons(output: Output) -> Counter[tuple[str, str]]:
    return Counter((row["reason"], row["row"]) for row in output.rejected)


def check(output: Output, truth: Truth) -> None:
    """The output is the truth, and every row is somewhere exactly once."""
    assert examples(output) == sorted([r[:4] for r in truth.kept], key=str)
    assert reasons(output) == truth.rejected
    counts, clicks = output.counts, output.counts["clicks"]
    assert counts["kept"] == len(truth.kept)
    assert counts["held_back"] == truth.held_back
    assert clicks["joined"] == truth.joined
    ours = counts["kept"] + counts["rejected"] + counts["held_back"]
    assert counts["read"] == ours
    others = ("orphans", "early", "late", "repeated", "held_back", "rejected")
    assert clicks["read"] == truth.joined + sum(clicks[n] for n in others)
    read = counts["read"] + clicks["read"]
    assert read == counts["kept"] + truth.joined + len(output.rejected)
    places = {(row["file"], row["where"]) for row in output.rejected}
    assert len(places) == len(output.rejected)
    for row in output.rejected:
        check_place(row)


def logs(count: int, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Impressions in order of time, and clicks of all kinds."""
    random_ = random.Random(seed)
    shown = [
        {"id": f"i{i}", "t": i, "tag": f"n{i:04}", "price": 1.5}
        for i in range(count)
    ]
    shown += [row | {"t": row["t"] + 1} for row in shown[::20]]
    clicked = [
        {
            "id": random_.choice([f"i{i}", f"i{i}", f"o{i}"]),
            "t": i + random_.randrange(-3, 15),
            "dwell": random_.choice([None, 1, 60]),
        }
        for i in range(0, count, 3)
        for _ in range(random_.choice([1, 1, 2]))
    ]
    return shown, clicked
