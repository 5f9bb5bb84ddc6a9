"""Truth of histories: for each row, all rows are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from components.click_log_gen import stages
from components.click_log_gen.history import build, events
from components.click_log_gen.output import spill
from tests.components.click_log_gen.ingest import Output, Row, cut_into

COLUMNS = {"row": ("string", None), "item": ("string", None)}
SEQUENCE = {
    "from": "impressions",
    "of": "user",
    "items": "item",
    "max_len": 3,
    "sides": [{"of": "kind", "items": "kind"}, {"of": "price"}, {"of": "t"}],
}
NAMES = ("user_item", "user_item_kind", "user_item_price", "user_item_t")
History = tuple[tuple[Any, ...], ...]  # item, kind, price, gap; each a list


def histories(
    rows: Sequence[Row], clicked: bool = True, most: int = 3
) -> dict[str, History]:
    """History of each row, by its name.

    The time of a row's item is `at`, where the row has it.
    """
    found = {}
    for row in rows:
        before = [
            (
                other.get("at", other["t"]),
                other["item"],
                other["t"],
                other["kind"] or "",
                other["price"] or 0.0,
            )
            for other in rows
            if row["user"] is not None
            and other["user"] == row["user"]
            and other["item"] is not None
            and (other["click"] == 1 or not clicked)
            and other.get("at", other["t"]) < row["t"]
        ]
        seen = sorted(before)[-most:]
        found[row["row"]] = (
            tuple(e[1] for e in seen),
            tuple(e[3] for e in seen),
            tuple(e[4] for e in seen),
            tuple(float(row["t"] - e[2]) for e in seen),
        )
    return found


def made(
    output: Output | Iterable[Row], names: Sequence[str] = NAMES
) -> dict[str, History]:
    """Histories of the examples, by the name of the row."""
    rows = output.kept if isinstance(output, Output) else output
    return {row["row"]: tuple(_list(row[n]) for n in names) for row in rows}


def _list(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


@contextmanager
def small_parts(
    users: int = 60, rows: int = 3, chunk: int = 90
) -> Iterator[None]:
    """Many partitions, blocks and spills for a few rows."""
    with (
        mock.patch.object(stages, "_USERS_BYTES", users),
        mock.patch.object(events, "VALUES", 1),
        mock.patch.object(events, "LEAST", rows),
        mock.patch.object(build, "_MEMBERS", 7),
        mock.patch.object(spill, "SPILL_BYTES", 10 * chunk),
        cut_into(chunk, chunk // 2),
    ):
        yield


def random_rows(count: int, seed: int, **fixed: Any) -> list[Row]:
    """Rows with ties, missing values and equal rows."""
    draw = np.random.default_rng(seed)

    def one(values: Sequence[Any]) -> Any:
        return values[int(draw.integers(len(values)))]

    return [
        {
            "row": f"r{number}",
            "user": one(["u", "v", "w", None]),
            "item": one(["a", "b", "c", "d", None]),
            "kind": one(["x", "y", None]),
            "price": one([0.5, 2.0, None]),
            "t": int(draw.integers(count)),
            "click": int(draw.random() < 0.6),
            **fixed,
        }
        for number in range(count)
    ]


def without(row: Mapping[str, Any], names: Sequence[str] = NAMES) -> Row:
    """An example without its histories."""
    return {name: row[name] for name in row if name not in names}
