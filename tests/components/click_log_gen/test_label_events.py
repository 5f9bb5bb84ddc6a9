"""Labels from events of another log, against a truth in plain Python."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.click_log_gen import checks, stages
from components.click_log_gen.label_events.build import (
    CREDITED,
    ORPHAN,
    OUTSIDE,
    credit,
)
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    convert_log,
    log_of,
    write_log,
)

HOUR = 3600
COLUMNS = {"id": ("string", None)}
CHECKED = stages.DataConfig.model_validate(
    {
        "impressions": {"path": "x", "format": "jsonl"},
        "labels": {
            "click": "click",
            "buy": {
                "from": "orders",
                "key": ["buyer", "what"],
                "window": "24h",
                "of": "click",
            },
        },
        "events": {"orders": {"path": "orders", "format": "jsonl"}},
        "time": "t",
    }
)


def rows(count: int, seed: int = 1) -> tuple[list[Row], list[Row]]:
    """Impressions of a few users and items over four days, and orders."""
    draw = random.Random(seed)
    start = 1_704_067_200
    shown = [
        {
            "id": f"i{n}",
            "user": f"u{draw.randrange(6)}",
            "item": draw.randrange(3),
            "t": start + draw.randrange(96) * HOUR,
            "click": int(draw.random() < 0.5),
        }
        for n in range(count)
    ]
    orders = [
        {
            "buyer": f"u{draw.randrange(7)}",
            "what": draw.randrange(3),
            "t": start + draw.randrange(96) * HOUR,
        }
        for _ in range(count // 3)
    ]
    return shown, orders


def truth(
    shown: list[Row], orders: list[Row], window: int, of: bool, end: int
) -> dict[str, int]:
    """Id -> label, by the words of the manual."""
    labels = {}
    for row in shown:
        labels[row["id"]] = -1 if row["t"] + window > end else 0
    for order in orders:
        before = [
            row
            for row in shown
            if (row["user"], row["item"]) == (order["buyer"], order["what"])
            and row["t"] <= order["t"]
            and (row["click"] or not of)
        ]
        if not before:
            continue
        last = max(row["t"] for row in before)
        for row in before:
            if row["t"] == last and order["t"] - last <= window:
                labels[row["id"]] = labels[row["id"]] or 1
    return labels


def ingest(
    folder: Path,
    shown: list[Row],
    orders: list[Row],
    format: str = "csv",
    of: str | None = "click",
    split: Row | None = None,
    events: Row | None = None,
    max_rejected: float = 1,
    **buy: Any,
) -> Output:
    half = len(shown) // 2
    paths = [
        str(write_log(folder / f"{name}.{format}", format, part))
        for name, part in (("a", shown[:half]), ("b", shown[half:]))
    ]
    log = write_log(folder / f"orders.{format}", format, orders)
    task = {
        "from": "orders",
        "key": ["buyer", "what"],
        "impression_key": ["user", "item"],
        "window": "24h",
        "of": of,
    }
    return convert_log(
        folder / "out",
        log_of(paths, format),
        COLUMNS,
        None,
        split,
        labels={"click": "click", "buy": task | buy},
        events={"orders": log_of(log, format) | (events or {})},
        time=SECONDS,
        max_rejected=max_rejected,
    )


@pytest.mark.parametrize("of", ["click", None])
@pytest.mark.parametrize(
    ("format", "by"),
    [("csv", "hash"), ("csv", "time"), ("parquet", "time"), ("jsonl", "order")],
)
def test_labels_are_those_of_the_events(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    by: str,
    of: str | None,
) -> None:
    monkeypatch.setattr(stages, "PARTITION_BYTES", 2000)  # several partitions
    shown, orders = rows(400)
    split = {"by": by, "eval": 0.3}
    found = ingest(tmp_path, shown, orders, format, of, split)
    end = max(order["t"] for order in orders)
    expected = truth(shown, orders, 24 * HOUR, of is not None, end)
    assert set(expected.values()) == {-1, 0, 1}
    labels = {row["id"]: row["example_label_buy"] for row in found.kept}
    assert labels == expected
    clicked = [
        expected[row["id"]] for row in shown if row["click"] or of is None
    ]
    counted = found.counts["labels"]["buy"]
    parts = counted.pop("splits").values()
    assert counted == {
        what: sum(part[what] for part in parts) for what in counted
    }
    assert counted == {
        "positives": clicked.count(1),
        "negatives": clicked.count(0),
        "unknown": clicked.count(-1),
    }
    events = found.counts["events"]["buy"]
    strangers = sum(order["buyer"] == "u6" for order in orders)
    assert events["orphans"] == strangers
    fates = sum(events[name] for name in ("credited", "orphans", "outside"))
    assert fates == events["read"] == len(orders)


@pytest.mark.parametrize("by", ["hash", "time"])
def test_labels_are_counted_from_the_click_of_a_click_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(stages, "PARTITION_BYTES", 2000)
    shown, orders = rows(400)
    clicked = [
        {**row, "t": row["t"] + 20 * 60} for row in shown if row["click"]
    ]
    orders = [{**row, "t": row["t"] + 10 * 60} for row in orders]
    clicks = [{"id": row["id"], "t": row["t"]} for row in clicked]
    parts = [
        log_of(write_log(tmp_path / f"{name}.csv", "csv", some), "csv")
        for name, some in (
            ("shown", [{**row, "click": ""} for row in shown]),
            ("clicks", clicks),
            ("orders", orders),
        )
    ]
    found = convert_log(
        tmp_path / "out",
        parts[0],
        COLUMNS,
        None,
        {"by": by, "eval": 0.3},
        time=SECONDS,
        clicks=parts[1]
        | {"key": "id", "window": "30m", "until": "2024-01-10T00:00:00Z"},
        events={"orders": parts[2]},
        labels={
            "click": {"from": "clicks"},
            "buy": {
                "from": "orders",
                "key": ["buyer", "what"],
                "impression_key": ["user", "item"],
                "window": "24h",
                "of": "click",
            },
        },
    )
    assert not found.rejected
    at = {row["id"]: row for row in shown} | {row["id"]: row for row in clicked}
    end = max(order["t"] for order in orders)
    expected = truth(list(at.values()), orders, 24 * HOUR, True, end)
    labels = {row["id"]: row["example_label_buy"] for row in found.kept}
    assert labels == expected
    assert set(expected.values()) == {-1, 0, 1}
    assert sum(row["label"] for row in found.kept) == len(clicked)


def test_no_event_moves_a_row_to_another_split(tmp_path: Path) -> None:
    shown, orders = rows(300)
    one = ingest(tmp_path / "1", shown, orders)
    two = ingest(tmp_path / "2", shown, orders[:20], window="2h")
    assert [r["id"] for r in one.train] == [r["id"] for r in two.train]


def test_the_log_ends_as_told(tmp_path: Path) -> None:
    shown, orders = rows(200)
    until = "2024-01-10T00:00:00Z"
    found = ingest(tmp_path, shown, orders, events={"until": until})
    assert found.counts["labels"]["buy"]["unknown"] == 0
    assert -1 not in {row["example_label_buy"] for row in found.kept}


def test_bad_events_are_rejected_with_their_place(tmp_path: Path) -> None:
    shown, orders = rows(200)
    bad = [
        {"buyer": None, "what": 1, "t": orders[0]["t"]},
        {"buyer": "u1", "what": 1, "t": "soon"},
    ]
    found = ingest(tmp_path, shown, orders + bad)
    first, second = sorted(found.reasons)
    assert first == "column buyer: no key of a label's events"
    assert second.startswith("column t: ")
    assert found.counts["events"]["buy"]["rejected"] == 2
    assert found.counts["rejected"] == 0
    assert {row["file"] for row in found.rejected} == {
        str(tmp_path / "orders.csv")
    }


def test_events_without_any_impression_stop_the_run(tmp_path: Path) -> None:
    shown, orders = rows(200)
    found = ingest(tmp_path, shown, orders, impression_key=["id", "item"])
    with pytest.raises(InputError, match="none of the 66 events has an imp"):
        checks.check(found.counts | {"rejected": 0}, CHECKED)
    empty = [{"buyer": None, "what": None, "t": 1}]
    with pytest.raises(InputError, match=r"no event in any file \(1 were"):
        ingest(tmp_path / "none", shown, empty)


def test_events_that_are_all_rejected_are_named(tmp_path: Path) -> None:
    shown, orders = rows(200)
    nameless = [{**order, "buyer": None} for order in orders]
    reason = (
        r"66 of 66 events of the label buy \(100.00%\).*\n"
        "  66 x column buyer: no key"
    )
    with pytest.raises(InputError, match=reason):
        ingest(tmp_path, shown, nameless, max_rejected=0.01)


def test_a_log_that_ends_before_all_windows_stops_the_ingest(
    tmp_path: Path,
) -> None:
    shown, orders = rows(200)
    early = [{**order, "t": order["t"] - 400 * HOUR} for order in orders]
    found = ingest(tmp_path, shown, early, split={"by": "time", "eval": 0.3})
    clicked = sum(row["label"] for row in found.train)
    reason = (
        f"data.labels.buy: 0 positives, 0 negatives, {clicked} not known in"
        rf" the {clicked} training rows with click \(eval 0 positives, .*\);"
        " accepted: .* window of 24h ends before the"
        " log of orders does, 2023-12-.*; train 2024-01-01.*; eval 2024-01-"
    )
    with pytest.raises(InputError, match=reason):
        checks.check(found.counts, CHECKED)


def test_the_window_is_closed_and_ties_share_an_event() -> None:
    keys, times = np.array([0, 0, 0, 1, 1]), np.array([0, 10, 10, 5, 9])
    counts = np.array([True, True, True, True, False])
    owners = np.array([0, 0, 1, 2, 1, 0])
    at = np.array([9, 20, 9, 9, 4, 21])
    hit, fates = credit(keys, times, counts, owners, at, 10)
    assert hit.tolist() == [True, True, True, True, False]
    assert fates.tolist() == [
        CREDITED, CREDITED, CREDITED, ORPHAN, OUTSIDE, OUTSIDE,
    ]  # fmt: skip
    nothing = np.zeros(0, np.int64)
    hit, fates = credit(keys, times, counts, nothing, nothing, 10)
    assert not hit.any() and not len(fates)
    hit, fates = credit(nothing, nothing, nothing > 0, owners, at, 10)
    assert not len(hit) and (fates == ORPHAN).all()
