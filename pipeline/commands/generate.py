"""Synthetic click logs whose true click probabilities are known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import InputError
from pipeline.synthetic.ads import BANNERS, Ads, click_rate, ranked, shown
from pipeline.synthetic.clicks import GRID, WINDOW_SECONDS, ClickLog, ids, iso
from pipeline.synthetic.conversions import Conversions
from pipeline.synthetic.criteo import Criteo
from pipeline.synthetic.draw import DAY, NONE, Floats, Ints
from pipeline.synthetic.files import open_log
from pipeline.synthetic.shop import Shop
from pipeline.synthetic.truth import Truth

__all__ = [
    "FORMATS",
    "MAX_ROWS",
    "SHAPES",
    "VERSION",
    "WINDOW_SECONDS",
    "GenerateError",
    "Summary",
    "generate",
    "generate_days",
]

VERSION = 1
FORMATS = ("tsv", "csv", "jsonl", "parquet")
SHAPES = ("ads", "criteo", "shop")
MAX_ROWS = 1_000_000_000

_CHUNK = 100_000
_START = 1_704_067_200  # Monday 2024-01-01T00:00:00Z
_DAYS = 7
_WORLDS: dict[str, Callable[..., Any]] = {
    "ads": Ads,
    "criteo": Criteo,
    "shop": Shop,
}
_BANNERS = pa.array([f"b{number}" for number in range(1, BANNERS + 1)])


@dataclass(frozen=True)
class Day:
    """One day of a log in a world that drifts.

    number: days before it. of: days of the whole log. drift: see
    `generate_days`.
    """

    number: int
    of: int
    drift: float


class GenerateError(InputError, ValueError):
    """An argument of `generate` is wrong, or `out` cannot take the files."""


@dataclass(frozen=True)
class Summary:
    """Summary of the written logs, as in `summary.json`.

    `clicks` counts the lines of the click log. Among them are `duplicates`
    (a further click of the same impression), `orphans` (the impression is
    not in the log) and `late_clicks` (more than 30 minutes after it).
    `truth_*` scores the probabilities that the labels were drawn from on
    those labels, over all rows and over the last tenth by time: what the
    best possible model would get. The AUC is None where all labels agree.
    """

    generator: int
    shape: str
    format: str
    seed: int
    rows: int
    positives: int
    broken_lines: int
    clicks: int
    duplicates: int
    orphans: int
    late_clicks: int
    truth_logloss: float
    truth_logloss_last_tenth: float
    truth_auc: float | None
    truth_auc_last_tenth: float | None
    files: dict[str, str]
    day: dict[str, Any] | None = None
    position_bias: float = 0.0
    policy_bias: float = 0.0
    conversions: bool = False

    def __str__(self) -> str:
        auc = "none" if self.truth_auc is None else f"{self.truth_auc:.4f}"
        lines = [
            f"rows          {self.rows:,}, {self.positives:,} with label 1",
            f"broken lines  {self.broken_lines:,} more",
            (
                f"clicks        {self.clicks:,}: {self.duplicates:,} repeated, "
                f"{self.orphans:,} without impression, {self.late_clicks:,}"
                f" late"
            ),
            (
                f"the truth     logloss {self.truth_logloss:.4f}, AUC {auc}; "
                f"on the last tenth logloss {self.truth_logloss_last_tenth:.4f}"
            ),
            f"files         {', '.join(self.files.values())}",
        ]
        return "\n".join(lines)


def generate(
    rows: int,
    out: Path | str,
    seed: int = 1,
    format: str = "tsv",
    *,
    shape: str = "ads",
    reuse: bool = False,
    progress: Callable[[int, int], None] | None = None,
    day: Day | None = None,
    position_bias: float = 0.0,
    policy_bias: float = 0.0,
    conversions: bool = False,
) -> Summary:
    """Write `rows` impressions, their clicks and the truth into `out`.

    Rows are made in chunks of fixed size, each from its own seeded
    generator: memory does not grow with `rows`, and the same arguments give
    the same bytes. Files appear whole; `summary.json` comes last.

    `shape="ads"`: `impressions.<format>`, in order of time over a week, with
    a header in csv and tsv, the label `click`, and a few broken lines besides
    the rows (none in parquet); `clicks.<format>`, in order of click time;
    `truth.parquet` (impression_id, probability). `click` is 1 for exactly
    the impressions with a click within 30 minutes. No click comes at exactly
    30, so a join agrees whether or not its window is closed. Times are ISO
    8601 in whole seconds, `2024-01-01T00:00:00Z`.

    `shape="criteo"`: the columns of Criteo's Display Advertising data
    (label, I1..I13, C1..C26; no header; empty = missing), no click log, no
    broken lines; `truth.parquet` has row, probability.

    `shape="shop"`: the files of `ads`, of users who see some 150 items
    each and never return. A user likes a few of 40 topics, of which only
    the clicks before tell: histories decide. `truth.parquet` has also the
    item's `topic`, and `typical`, the probability of a click where the
    user's tastes are unknown: the best that a model without histories does.

    Args:
        rows: How many good rows, from 1 to a billion.
        out: Folder, made if absent. Files of other names are left alone.
        seed: 0 or more.
        format: One of `FORMATS`.
        shape: One of `SHAPES`.
        reuse: Return at once if `out` holds what these arguments give.
        progress: Called with (rows done, rows) after each chunk.
        day: All rows are of this day; `shape="ads"` only.
        position_bias: How much a worse slot costs, `shape="ads"` only. Above
            0, a ranker of the past has put the rows of each page, eight of
            them, into the column `slot`, 1 to 8: it favoured the advertisers
            that paid. Slot s lowers the log-odds of a click by
            position_bias·log(s). `truth.parquet` then has the probability in
            slot 1 as `relevance`.
        policy_bias: How much the banner of an impression counts, `shape="ads"`
            only. Above 0, a policy of the past has chosen one of eight into
            the column `banner`, by its clicks and by chance; `propensity` is
            the probability of its choice. The best banner adds `policy_bias`
            to the log-odds of a click, the worst takes it away.
            `truth.parquet` then has the probability under a uniform choice as
            `uniform`.
        conversions: Whether clicks are followed by conversions, `shape="ads"`
            only. `conversion` is 1 or 0 within 24 hours of the impression, and
            missing where these hours end after the log; `converted` is 1 if
            the log knows of one, else 0. `orders.<format>` has the conversions
            that the log knows, also later ones, in the order of impressions.
            `truth.parquet` then has the probability of a conversion after a
            click as `cvr`.

    Raises:
        GenerateError: An argument is wrong, or `out` is not a folder.
    """
    out = Path(out)
    _check(rows, out, seed, format, shape)
    biases = {"position_bias": position_bias, "policy_bias": policy_bias}
    for name, bias in biases.items():
        if bias and (shape != "ads" or not 0 < bias <= 5):
            raise GenerateError(
                f"`{name}` must be a number from 0 to 5, with the shape ads."
                f" Received: {bias!r} and {shape!r}"
            )
    if conversions and shape != "ads":
        raise GenerateError(
            f"`conversions` needs the shape ads. Received the shape {shape!r}"
        )
    if day is not None:
        _check_day(day, shape)
    names = {"impressions": f"impressions.{format}", "truth": "truth.parquet"}
    if shape != "criteo":
        names["clicks"] = f"clicks.{format}"
    if conversions:
        names["orders"] = f"orders.{format}"
    wanted: dict[str, Any] = {
        "generator": VERSION,
        "shape": shape,
        "format": format,
        "seed": seed,
        "rows": rows,
        "files": names,
        "day": None if day is None else asdict(day),
        **{name: float(bias) for name, bias in biases.items()},
        "conversions": conversions,
    }
    if reuse and (found := _read_summary(out, wanted)) is not None:
        return found
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        paths = {}
        for kind, name in {**names, "summary": "summary.json"}.items():
            paths[kind] = out / f".{name}.{os.getpid()}.tmp"
            undo.callback(paths[kind].unlink, missing_ok=True)
        ending = paths.pop("summary")
        more = Conversions(seed) if conversions else None
        counts = _write(
            paths, rows, seed, format, shape, progress, day, biases, more
        )
        summary = Summary(**wanted, **counts)
        ending.write_text(json.dumps(asdict(summary), indent=2) + "\n")
        # Cut off in between, the files of two runs must not look like one.
        (out / "summary.json").unlink(missing_ok=True)
        for kind, name in names.items():
            paths[kind].replace(out / name)
        ending.replace(out / "summary.json")
    return summary


def generate_days(
    rows: int,
    out: Path | str,
    days: int,
    seed: int = 1,
    format: str = "tsv",
    *,
    drift: float = 0.0,
    reuse: bool = False,
    position_bias: float = 0.0,
    policy_bias: float = 0.0,
    conversions: bool = False,
) -> list[Summary]:
    """Write `rows` impressions a day, each day's logs in a folder of its own.

    The folders are `<out>/2024-01-01` and so on, as `data.spans` reads them;
    in each is what `generate` writes for `shape="ads"`.

    Args:
        rows: How many good rows a day.
        out: Folder, made if absent.
        days: How many days.
        seed, format, reuse, position_bias, policy_bias, conversions: As in
            `generate`.
        drift: From 0 to below 1. Each day this share of users and ads is
            replaced by new ones, and this share of the variance of all
            effects is drawn anew.
    """
    summaries = []
    for number in range(days):
        date = datetime.fromtimestamp(_START + number * DAY, UTC)
        day = Day(number, days, drift)
        folder = Path(out) / f"{date:%Y-%m-%d}"
        summaries.append(
            generate(
                rows,
                folder,
                seed,
                format,
                reuse=reuse,
                day=day,
                position_bias=position_bias,
                policy_bias=policy_bias,
                conversions=conversions,
            )
        )
    return summaries


def _check_day(day: Day, shape: str) -> None:
    if shape != "ads":
        raise GenerateError(
            f"`days` needs the shape ads. Received the shape {shape!r}"
        )
    if not 0 <= day.drift < 1:
        raise GenerateError(
            "`drift` must be a number from 0 to below 1. Received:"
            f" {day.drift!r}"
        )


def _check(rows: int, out: Path, seed: int, format: str, shape: str) -> None:
    for name, value, low, high in (
        ("rows", rows, 1, MAX_ROWS),
        ("seed", seed, 0, 2**63 - 1),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise GenerateError(
                f"`{name}` must be a whole number from {low} to {high}. "
                f"Received: {value!r}"
            )
    for name, text, accepted in (
        ("format", format, FORMATS),
        ("shape", shape, SHAPES),
    ):
        if text not in accepted:
            raise GenerateError(
                f"`{name}` must be one of {', '.join(accepted)}. "
                f"Received: {text!r}"
            )
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise GenerateError(
                f"`out` must be a folder. Received: {str(out)!r}, "
                f"but {str(path)!r} is a file"
            )


def _read_summary(out: Path, wanted: dict[str, Any]) -> Summary | None:
    try:
        found = Summary(**json.loads((out / "summary.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    same = all(getattr(found, key) == value for key, value in wanted.items())
    present = all((out / name).is_file() for name in wanted["files"].values())
    return found if same and present else None


def _write(
    paths: dict[str, Path],
    rows: int,
    seed: int,
    format: str,
    shape: str,
    progress: Callable[[int, int], None] | None,
    day: Day | None,
    biases: Mapping[str, float],
    conversions: Conversions | None,
) -> dict[str, Any]:
    """Writes all but the summary; returns the figures that go into it."""
    world = _WORLDS[shape](_rng(seed, 0))
    clicked = "clicks" in paths
    first, everything = 0, rows
    streams: tuple[int, ...] = (2,)
    if day is not None and isinstance(world, Ads):
        first, everything = day.number * rows, day.of * rows
        streams = (4, day.number)
        for number in range(day.number):
            world.drift(_rng(seed, 3, number), day.drift)
    broken = NONE
    if clicked and format != "parquet":
        broken = _broken_rows(_rng(seed, 1), rows)
    log = ClickLog(everything)
    truth = Truth(rows)
    with ExitStack() as stack:
        files = {}
        for kind, path in paths.items():
            here = "parquet" if kind == "truth" else format
            files[kind] = open_log(path, here, header=clicked)
            stack.callback(files[kind].close)
        for number, start in enumerate(range(0, rows, _CHUNK)):
            rng = _rng(seed, *streams, number)
            stop = min(start + _CHUNK, rows)
            time = _times(rng, start, stop, rows, day)
            others: dict[str, Any] = {}
            if isinstance(world, Shop):
                columns, logit, others = world.draw(rng, time)
            else:
                columns, logit = world.draw(rng, time)
            if bias := biases["position_bias"]:
                others["relevance"] = pa.array(_chance(logit) / GRID)
                slot = ranked(rng, seed, columns["advertiser_id"], logit)
                columns["slot"] = pa.array(slot)
                logit = logit - bias * np.log(slot)
            if bias := biases["policy_bias"]:
                others["uniform"] = pa.array(click_rate(bias, logit))
                banner, propensity, effect = shown(rng, bias, logit)
                columns["banner"] = _BANNERS.take(pa.array(banner))
                columns["propensity"] = pa.array(propensity)
                logit = logit + effect
            chance = _chance(logit)
            label = rng.integers(0, GRID, stop - start) < chance
            truth.add(start, chance, label)
            if conversions is not None:
                end = _START + DAY * (_DAYS if day is None else day.of)
                more = conversions.draw(
                    _rng(seed, 5, *streams, number), columns, logit, label,
                    end - time,
                )  # fmt: skip
                columns |= more.columns
                files["orders"].write(
                    pa.table(
                        {
                            "impression_id": ids(first + start + more.rows),
                            "timestamp": iso(time[more.rows] + more.seconds),
                        }
                    )
                )
                others["cvr"] = pa.array(more.rate)
            key = pa.array(np.arange(start, stop))
            target = pa.array(label.astype(np.int64))
            if clicked:
                files["clicks"].write(
                    log.add(rng, first + start, time, chance, label)
                )
                key = ids(np.arange(first + start, first + stop))
                head = {"impression_id": key, "timestamp": iso(time)}
                table = pa.table({**head, **columns, "click": target})
            else:
                table = pa.table({"label": target, **columns})
            begin, end = np.searchsorted(broken, (start, stop))
            files["impressions"].write(table, broken[begin:end] - start, begin)
            name = "impression_id" if clicked else "row"
            probability = pa.array(chance / GRID)
            files["truth"].write(
                pa.table({name: key, "probability": probability, **others})
            )
            if progress is not None:
                progress(stop, rows)
        if clicked:
            files["clicks"].write(log.rest())
    return {"broken_lines": len(broken), **log.counts, **truth.scores()}


def _chance(logit: Floats) -> Ints:
    """Probabilities, in parts of GRID."""
    chance = np.rint(GRID / (1 + np.exp(-logit))).astype(np.int64)
    return np.clip(chance, 1, GRID - 1)


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _broken_rows(rng: np.random.Generator, rows: int) -> Ints:
    """The rows that a broken line precedes: 1 in 20,000, at least 3."""
    count = max(3, rows // 20_000) if rows >= 1000 else 0
    return np.sort(rng.integers(0, rows, count))


def _times(
    rng: np.random.Generator, start: int, stop: int, rows: int, day: Day | None
) -> Ints:
    """Epoch seconds of rows `start` to `stop`: rising, densest at 15:00."""
    clock = np.linspace(0.0, 1.0, 1441)
    wave = np.cos(2 * np.pi * (clock - 9 / 24))
    passed = clock + 0.6 / (2 * np.pi) * (wave[0] - wave)
    first, days = (0, _DAYS) if day is None else (day.number, 1)
    when = (np.arange(start, stop) + rng.random(stop - start)) / rows * days
    whole = np.floor(when)
    second = DAY * (first + whole + np.interp(when - whole, passed, clock))
    return _START + second.astype(np.int64)
