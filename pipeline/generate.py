"""Synthetic click logs whose true click probabilities are known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

VERSION = 1
FORMATS = ("tsv", "csv", "jsonl", "parquet")
SHAPES = ("ads", "criteo")
WINDOW_SECONDS = 1800
MAX_ROWS = 1_000_000_000

_CHUNK = 100_000
_START = 1_704_067_200  # Monday 2024-01-01T00:00:00Z
_DAYS = 7
_DAY = 86_400
_GRID = 1_000_000  # Probabilities are whole multiples of 1 / _GRID.
_FIRST_ID = 1_000_000_000
_DELIMITERS = {"tsv": "\t", "csv": ","}

_TOPICS = 40
_CATEGORIES = (
    "news sport games music video travel food cars health shopping science kids"
)
_COUNTRIES = (
    "US IN BR ID DE GB FR JP MX TR IT ES PL NL CA VN TH PH EG NG KR AR CO ZA "
    "UA AU SE CZ PT GR"
)

# Criteo: mean and deviation of log(1 + I), and how often I is missing; the
# ids of each C in Criteo's public data, and how often it is missing.
_NUMBERS = (
    (0.8, 1.0, 0.45),
    (2.1, 2.1, 0.0),
    (2.2, 1.3, 0.2),
    (1.7, 1.0, 0.2),
    (7.2, 2.9, 0.05),
    (3.6, 1.8, 0.25),
    (1.5, 1.4, 0.05),
    (2.1, 1.2, 0.001),
    (3.6, 1.7, 0.05),
    (0.4, 0.4, 0.45),
    (0.9, 0.7, 0.05),
    (0.3, 0.6, 0.77),
    (1.9, 1.1, 0.2),
)
# fmt: off
_SIZES = (
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683,
    8_351_593, 3194, 27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18,
    15, 286_181, 105, 142_572,
)
_HIDDEN = (
    0, 0, 0.04, 0.04, 0, 0.13, 0, 0, 0, 0, 0, 0.04, 0, 0, 0, 0.04, 0, 0, 0.45,
    0.45, 0.04, 0.8, 0, 0.04, 0.45, 0.45,
)
# fmt: on
_KNOWN = 2000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_NONE: Ints = np.zeros(0, np.int64)
_ONE: Floats = np.ones(1)


class GenerateError(ValueError):
    """An argument of `generate` is wrong, or `out` cannot take the files."""


@dataclass(frozen=True)
class Summary:
    """What was written; `summary.json` holds the same.

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

    def __str__(self) -> str:
        auc = "none" if self.truth_auc is None else f"{self.truth_auc:.4f}"
        lines = [
            f"rows          {self.rows:,}, {self.positives:,} with label 1",
            f"broken lines  {self.broken_lines:,} more",
            f"clicks        {self.clicks:,}: {self.duplicates:,} repeated, "
            f"{self.orphans:,} without impression, {self.late_clicks:,} late",
            f"the truth     logloss {self.truth_logloss:.4f}, AUC {auc}; "
            f"on the last tenth logloss {self.truth_logloss_last_tenth:.4f}",
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

    Args:
        rows: How many good rows, from 1 to a billion.
        out: Folder, made if absent. Files of other names are left alone.
        seed: 0 or more.
        format: One of `FORMATS`.
        shape: One of `SHAPES`.
        reuse: Return at once if `out` holds what these arguments give.
        progress: Called with (rows done, rows) after each chunk.

    Raises:
        GenerateError: An argument is wrong, or `out` is not a folder.
    """
    out = Path(out)
    _check(rows, out, seed, format, shape)
    names = {"impressions": f"impressions.{format}", "truth": "truth.parquet"}
    if shape == "ads":
        names["clicks"] = f"clicks.{format}"
    wanted: dict[str, Any] = {
        "generator": VERSION,
        "shape": shape,
        "format": format,
        "seed": seed,
        "rows": rows,
        "files": names,
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
        counts = _write(paths, rows, seed, format, shape, progress)
        summary = Summary(**wanted, **counts)
        ending.write_text(json.dumps(asdict(summary), indent=2) + "\n")
        # Cut off in between, the files of two runs must not look like one.
        (out / "summary.json").unlink(missing_ok=True)
        for kind, name in names.items():
            paths[kind].replace(out / name)
        ending.replace(out / "summary.json")
    return summary


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
) -> dict[str, Any]:
    """Writes all but the summary; returns the figures that go into it."""
    ads = shape == "ads"
    world = _Ads(_rng(seed, 0)) if ads else _Criteo(_rng(seed, 0))
    broken = _NONE
    if ads and format != "parquet":
        broken = _broken_rows(_rng(seed, 1), rows)
    log = _ClickLog(rows)
    truth = _Truth(rows)
    with ExitStack() as stack:
        files = {}
        for kind, path in paths.items():
            here = "parquet" if kind == "truth" else format
            files[kind] = _open(path, here, header=ads)
            stack.callback(files[kind].close)
        for number, start in enumerate(range(0, rows, _CHUNK)):
            rng = _rng(seed, 2, number)
            stop = min(start + _CHUNK, rows)
            time = _times(rng, start, stop, rows)
            columns, logit = world.draw(rng, time)
            chance = np.rint(_GRID / (1 + np.exp(-logit))).astype(np.int64)
            chance = np.clip(chance, 1, _GRID - 1)
            label = rng.integers(0, _GRID, stop - start) < chance
            truth.add(start, chance, label)
            key = pa.array(np.arange(start, stop))
            target = pa.array(label.astype(np.int64))
            if ads:
                files["clicks"].write(log.add(rng, start, time, chance, label))
                key = _ids(np.arange(start, stop))
                first = {"impression_id": key, "timestamp": _iso(time)}
                table = pa.table({**first, **columns, "click": target})
            else:
                table = pa.table({"label": target, **columns})
            begin, end = np.searchsorted(broken, (start, stop))
            files["impressions"].write(table, broken[begin:end] - start, begin)
            name = "impression_id" if ads else "row"
            probability = pa.array(chance / _GRID)
            files["truth"].write(
                pa.table({name: key, "probability": probability})
            )
            if progress is not None:
                progress(stop, rows)
        if ads:
            files["clicks"].write(log.rest())
    return {"broken_lines": len(broken), **log.counts, **truth.scores()}


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _broken_rows(rng: np.random.Generator, rows: int) -> Ints:
    """The rows that a broken line precedes: 1 in 20,000, at least 3."""
    count = max(3, rows // 20_000) if rows >= 1000 else 0
    return np.sort(rng.integers(0, rows, count))


def _times(rng: np.random.Generator, start: int, stop: int, rows: int) -> Ints:
    """Epoch seconds of rows `start` to `stop`: rising, densest at 15:00."""
    clock = np.linspace(0.0, 1.0, 1441)
    wave = np.cos(2 * np.pi * (clock - 9 / 24))
    passed = clock + 0.6 / (2 * np.pi) * (wave[0] - wave)
    day = (np.arange(start, stop) + rng.random(stop - start)) / rows * _DAYS
    whole = np.floor(day)
    second = _DAY * (whole + np.interp(day - whole, passed, clock))
    return _START + second.astype(np.int64)


def _ids(row: Ints) -> Any:
    number = pa.array(row + _FIRST_ID).cast(pa.string())
    return pc.binary_join_element_wise("i", number, "")


def _iso(time: Ints) -> Any:
    text = pa.array(time).cast(pa.timestamp("s", "UTC")).cast(pa.string())
    return pc.utf8_replace_slice(text, start=10, stop=11, replacement="T")


class _ClickLog:
    """Draws the clicks of each chunk; gives them back in order of time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        # [time, row of the impression, dwell in ms or -1; click]
        self._waiting: Ints = np.zeros((3, 0), np.int64)
        self.counts = dict.fromkeys(
            ("clicks", "duplicates", "orphans", "late_clicks"), 0
        )

    def add(
        self,
        rng: np.random.Generator,
        start: int,
        time: Ints,
        chance: Ints,
        label: Mask,
    ) -> Any:
        """Returns the clicks that no click of a later chunk can precede."""
        late = ~label & (rng.random(len(label)) < 0.06 * chance / _GRID)
        soon, later = np.flatnonzero(label), np.flatnonzero(late)
        delay = np.concatenate(
            [
                1 + _lognormal(rng, len(soon), 25, 1.4, WINDOW_SECONDS - 2),
                1 + WINDOW_SECONDS + _lognormal(rng, len(later), 7200, 1.0),
            ]
        )
        row = np.concatenate([soon, later])
        again = np.flatnonzero(rng.random(len(row)) < 0.04)
        pause = _lognormal(rng, len(again), 60, 1.5)
        pause *= rng.random(len(again)) < 0.75  # The others are logged twice.
        second = delay[again] + pause
        second += second == WINDOW_SECONDS
        copied = np.flatnonzero(pause == 0)
        copy = len(row) + copied
        row = np.concatenate([row, row[again]])
        delay = np.concatenate([delay, second])
        orphans = int(rng.poisson(0.02 * len(soon)))
        stray = rng.integers(time[0], time[-1] + 1, orphans)
        unknown = self._rows + rng.integers(0, self._rows, orphans)
        dwell = 100 * _lognormal(rng, len(row) + orphans, 200, 1.2)
        dwell[rng.random(len(dwell)) < 0.02] = -1
        dwell[copy] = dwell[again[copied]]
        when = np.concatenate([time[row] + delay, stray])
        new = np.stack([when, np.concatenate([start + row, unknown]), dwell])
        self._waiting = np.concatenate([self._waiting, new], axis=1)
        self.counts["clicks"] += new.shape[1]
        self.counts["duplicates"] += len(again)
        self.counts["orphans"] += orphans
        self.counts["late_clicks"] += int((delay > WINDOW_SECONDS).sum())
        return self._release(int(time[-1]))

    def rest(self) -> Any:
        return self._release(np.iinfo(np.int64).max)

    def _release(self, before: int) -> Any:
        click = self._waiting[:, np.lexsort(self._waiting[::-1])]
        due = int(np.searchsorted(click[0], before))
        self._waiting = click[:, due:]
        time, row, dwell = click[:, :due]
        seconds = pa.array(dwell / 1000, mask=dwell < 0)
        return pa.table(
            {
                "impression_id": _ids(row),
                "timestamp": _iso(time),
                "dwell_seconds": seconds,
            }
        )


def _lognormal(
    rng: np.random.Generator,
    size: int,
    median: float,
    sigma: float,
    limit: float = _DAY,
) -> Ints:
    draw = median * np.exp(sigma * rng.standard_normal(size))
    return np.minimum(draw, limit).astype(np.int64)


class _Truth:
    """Scores the true probabilities on the labels, exactly.

    Probabilities lie on a grid, so a histogram of them per label is enough.
    """

    def __init__(self, rows: int) -> None:
        self._tail = rows - max(1, rows // 10)
        # [all or last tenth, label, probability * _GRID]
        self._seen: Ints = np.zeros((2, 2, _GRID + 1), np.int64)

    def add(self, start: int, chance: Ints, label: Mask) -> None:
        for part, begin in enumerate((0, max(0, self._tail - start))):
            for value in (0, 1):
                seen = chance[begin:][label[begin:] == value]
                if len(seen):
                    self._seen[part, value] += np.bincount(
                        seen, minlength=_GRID + 1
                    )

    def scores(self) -> dict[str, Any]:
        result: dict[str, Any] = {"positives": int(self._seen[0, 1].sum())}
        p = np.arange(1, _GRID) / _GRID
        for part, suffix in enumerate(("", "_last_tenth")):
            no, yes = self._seen[part].astype(np.float64)
            loss = -(yes[1:-1] @ np.log(p) + no[1:-1] @ np.log1p(-p))
            logloss = float(loss / (yes.sum() + no.sum()))
            won = float(yes @ (np.cumsum(no) - no / 2))
            pairs = float(yes.sum() * no.sum())
            result["truth_logloss" + suffix] = round(logloss, 6)
            result["truth_auc" + suffix] = (
                round(won / pairs, 6) if pairs else None
            )
        return result


class _Text:
    """Writes tables as one delimited file, or JSON lines without one."""

    def __init__(self, path: Path, delimiter: str | None, header: bool) -> None:
        self._file = path.open("wb")
        self._delimiter = delimiter
        self._header = header

    def close(self) -> None:
        self._file.close()

    def write(self, table: Any, broken: Ints = _NONE, first: int = 0) -> None:
        """Appends `table`, with a broken line before each row in `broken`."""
        if self._header and self._delimiter is not None:
            names = self._delimiter.join(table.column_names)
            self._file.write(names.encode() + b"\n")
        self._header = False
        done = 0
        for number, row in enumerate(broken.tolist(), first):
            self._good(table.slice(done, row - done))
            self._broken(table.slice(row, 1).to_pylist()[0], number)
            done = row
        self._good(table.slice(done))

    def _good(self, table: Any) -> None:
        if self._delimiter is None:
            self._file.write(_json_lines(table))
        else:
            options = pyarrow.csv.WriteOptions(
                include_header=False,
                delimiter=self._delimiter,
                quoting_style="none",
            )
            pyarrow.csv.write_csv(table, self._file, options)

    def _broken(self, row: dict[str, Any], number: int) -> None:
        """In turn: cut short, a word for a number, bytes that are not text."""
        row["impression_id"] = f"broken{number}"
        if number % 3 == 1:
            row["price"] = "n/a"
        elif number % 3 == 2:
            row["site_id"] = "\udcff\udcfe"
        if self._delimiter is None:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        else:
            values = ("" if v is None else str(v) for v in row.values())
            line = self._delimiter.join(values)
        if number % 3 == 0:
            line = line[: len(line) // 2]
        self._file.write(line.encode("utf-8", "surrogateescape") + b"\n")


def _json_lines(table: Any) -> Any:
    """One object a line; no string that is generated here needs escaping."""
    if not table.num_rows:
        return b""
    parts = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        text = column.cast(pa.string())
        if pa.types.is_string(column.type):
            text = pc.binary_join_element_wise('"', text, '"', "")
        parts += [f',"{name}":', pc.fill_null(text, "null")]
    parts[0] = "{" + parts[0][1:]
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    ends = np.frombuffer(lines.buffers()[1], np.int32)
    return lines.buffers()[2].slice(0, int(ends[len(lines)]))


class _Parquet:
    """Writes tables as one Parquet file, a row group for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: Any, broken: Ints = _NONE, first: int = 0) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        if table.num_rows:
            self._writer.write_table(table)


def _open(path: Path, format: str, header: bool) -> _Text | _Parquet:
    if format == "parquet":
        return _Parquet(path)
    return _Text(path, _DELIMITERS.get(format), header)


def _effects(rng: np.random.Generator, weight: Floats, spread: float) -> Floats:
    """Normal draws, scaled to mean 0 and deviation `spread` by `weight`."""
    draw: Floats = rng.standard_normal(weight.shape)
    draw -= np.average(draw, weights=weight)
    draw *= spread / np.sqrt(np.average(draw**2, weights=weight))
    return draw


class _Field:
    """A categorical column: how often each id comes, and its effect."""

    def __init__(
        self,
        rng: np.random.Generator,
        names: str | tuple[str, int],
        spread: float,
        skew: float = 1.0,
        missing: float = 0.0,
        group: str = "",
        of: Floats = _ONE,
    ) -> None:
        """Ids by Zipf's law; or, with `group`, a group for each id `of` it.

        `names` are the ids, or a letter and how many to number.
        """
        if isinstance(names, str):
            ids = names.split()
        else:
            # Shuffled: a name must not tell how frequent it is.
            numbers = 1 + rng.permutation(names[1])
            ids = [f"{names[0]}{number}" for number in numbers]
        self.weight: Floats = np.arange(1.0, len(ids) + 1) ** -skew
        self.group = group
        self.member = rng.permutation(len(of)) % len(ids)
        if group:
            self.weight = np.bincount(self.member, of).astype(np.float64)
        self.weight = self.weight / self.weight.sum()
        self.names = pa.array(ids)
        self.missing = missing
        # The last one, index -1, is for a missing value.
        self.effect = np.append(_effects(rng, self.weight, spread), 0.0)

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        ends = np.cumsum(self.weight)[:-1]
        index: Ints = np.searchsorted(ends, rng.random(size), "right")
        return np.where(rng.random(size) < self.missing, -1, index)


class _Ads:
    """Impressions of advertisements on sites."""

    def __init__(self, rng: np.random.Generator) -> None:
        user = _Field(rng, ("u", 20_000), 0.1, 1.1)
        ad = _Field(rng, ("a", 2000), 0.12, 1.2)
        campaign = _Field(rng, ("c", 100), 0.2, group="ad_id", of=ad.weight)
        advertiser = _Field(
            rng, ("v", 30), 0.2, group="campaign_id", of=campaign.weight
        )
        site = _Field(rng, ("s", 500), 0.2, 1.2)
        category = _Field(
            rng, _CATEGORIES, 0.25, group="site_id", of=site.weight
        )
        device = _Field(rng, "mobile desktop tablet tv console", 0.25)
        position = _Field(rng, "feed top sidebar footer", 0.25, 0.7)
        self._fields = {
            "user_id": user,
            "ad_id": ad,
            "campaign_id": campaign,
            "advertiser_id": advertiser,
            "site_id": site,
            "site_category": category,
            "device": device,
            "position": position,
            "country": _Field(rng, _COUNTRIES, 0.25, missing=0.03),
            "connection": _Field(rng, "wifi 4g 5g 3g", 0.2, 0.7, 0.1),
        }

        def cross(one: _Field, other: _Field, spread: float) -> Floats:
            return _effects(rng, np.outer(one.weight, other.weight), spread)

        self._crosses = (
            ("device", "position", cross(device, position, 0.5)),
            ("device", "site_category", cross(device, category, 0.25)),
            ("campaign_id", "site_category", cross(campaign, category, 0.05)),
        )
        self._peak = rng.uniform(0, 24, len(category.names))
        self._price = np.array([-0.4, 0.3, -0.3, 0.4, 0.0])  # by device
        users = len(user.names)
        topic = (_TOPICS * rng.random((users, 5)) ** 2).astype(np.int64)
        liked = np.zeros((users, _TOPICS), np.bool_)
        who, which = np.nonzero(rng.random((users, 5)) < 0.45)
        liked[who, topic[who, which]] = True
        who, what = np.nonzero(liked)
        count = liked.sum(axis=1)
        names = pa.array([f"t{number}" for number in range(_TOPICS)])
        ends = np.append(0, np.cumsum(count)).astype(np.int32)
        lists = pa.ListArray.from_arrays(ends, names.take(pa.array(what)))
        joined = pc.binary_join(lists, "|")
        self._interests = pc.if_else(pa.array(count > 0), joined, None)
        effect = rng.normal(0, 0.2, _TOPICS)[what]
        self._liking = np.bincount(who, effect, users) / np.maximum(1, count)

    def draw(
        self, rng: np.random.Generator, time: Ints
    ) -> tuple[dict[str, Any], Floats]:
        """Returns the columns and the logit of one row for each `time`."""
        size = len(time)
        logit: Floats = np.full(size, -2.3)
        columns: dict[str, Any] = {}
        index: dict[str, Ints] = {}
        for name, field in self._fields.items():
            if field.group:
                index[name] = field.member[index[field.group]]
            else:
                index[name] = field.draw(rng, size)
            hidden = index[name] < 0
            columns[name] = field.names.take(pa.array(index[name], mask=hidden))
            logit += field.effect[index[name]]
        for one, other, effect in self._crosses:
            logit += effect[index[one], index[other]]
        columns["interests"] = self._interests.take(pa.array(index["user_id"]))
        logit += self._liking[index["user_id"]]

        def number(
            name: str, value: Any, effect: Floats, missing: float = 0.0
        ) -> None:
            hidden = rng.random(size) < missing
            columns[name] = pa.array(value, mask=hidden)
            logit[:] += np.where(hidden, 0.0, effect)

        hour = time // 3600 % 24
        late = hour - self._peak[index["site_category"]]
        number("hour", hour, 0.3 * np.cos(2 * np.pi * late / 24))
        log = rng.standard_normal(size)
        price = np.round(0.01 + 1.5 * np.exp(0.8 * log), 2)
        number("price", price, self._price[index["device"]] * log, 0.05)
        depth = np.round(rng.beta(1.2, 1.8, size), 3)
        number("page_depth", depth, 0.3 - 5 * (depth - 0.4) ** 2, 0.1)
        age = _lognormal(rng, size, 40, 1.3, 1e6)
        bump = np.exp(-(((np.log1p(age) - 3.5) / 0.8) ** 2))
        number("ad_age_hours", age, 1.1 * (bump - 0.5))
        session = _lognormal(rng, size, 90, 1.2, 1e6)
        number("session_seconds", session, 0.1 * np.log1p(session) - 0.45, 0.03)
        shown = _lognormal(rng, size, 3, 1.4, 1e6)
        number("user_impressions", shown, 0.35 - 0.25 * np.log1p(shown))
        clicks = _lognormal(rng, size, 0.8, 1.4, 1e6)
        number("user_clicks", clicks, 0.25 * np.log1p(clicks) - 0.15, 0.15)
        return columns, logit


class _Criteo:
    """Rows shaped as Criteo's: 13 integers and 26 hashed categories."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._key = rng.integers(0, 2**63, len(_SIZES), np.uint64)
        self._tilt = rng.normal(0, 0.15, len(_NUMBERS))
        self._effect = []
        share = []
        for size in _SIZES:
            # Ids that are too rare to be learnt have no effect.
            rank = np.arange(1.0, min(size, _KNOWN) + 1)
            share.append(np.log1p(1 / rank) / np.log1p(size))
            effect = _effects(rng, share[-1], 0.25)
            self._effect.append(np.append(effect, np.zeros(2)))
        self._crosses = [
            (one, other, _effects(rng, np.outer(share[one], share[other]), 0.3))
            for one, other in ((5, 13), (8, 16), (13, 22))
        ]
        digits = "".join(f"{number:04x}" for number in range(1 << 16))
        self._hex = np.frombuffer(digits.encode(), np.uint32)

    def draw(
        self, rng: np.random.Generator, time: Ints
    ) -> tuple[dict[str, Any], Floats]:
        """Returns the columns and the logit of one row for each `time`."""
        size = len(time)
        logit: Floats = np.full(size, -1.35)
        columns: dict[str, Any] = {}
        for i, (mean, spread, missing) in enumerate(_NUMBERS):
            log = rng.standard_normal(size)
            value = np.rint(np.expm1(np.minimum(mean + spread * log, 16.0)))
            if i != 1:  # I2 alone can be negative.
                value = np.maximum(value, 0.0)
            hidden = rng.random(size) < missing
            effect = self._tilt[i] * (log**2 - 1 if i % 4 == 1 else log)
            logit += np.where(hidden, 0.0, effect)
            columns[f"I{i + 1}"] = pa.array(value.astype(np.int64), mask=hidden)
        ranks = []
        for i, (items, missing) in enumerate(zip(_SIZES, _HIDDEN, strict=True)):
            # Log-uniform: Zipf's law with exponent 1.
            rank = np.exp(rng.random(size) * np.log1p(items)).astype(np.int64)
            rank = np.minimum(rank, items)
            hidden = rng.random(size, np.float32) < missing
            ranks.append(np.minimum(rank, len(self._effect[i]) - 1) - 1)
            ranks[-1][hidden] = -1
            logit += self._effect[i][ranks[-1]]
            columns[f"C{i + 1}"] = self._hashed(rank, hidden, self._key[i])
        for one, other, effect in self._crosses:
            logit += effect[ranks[one], ranks[other]]
        return columns, logit

    def _hashed(self, rank: Ints, hidden: Mask, key: np.uint64) -> Any:
        """Eight hexadecimal digits for each rank (splitmix64's mixing)."""
        x = rank.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        text = np.empty((len(x), 2), np.uint32)
        text[:, 0] = self._hex[x >> np.uint64(48)]
        text[:, 1] = self._hex[x >> np.uint64(32) & np.uint64(0xFFFF)]
        ends = 8 * np.arange(len(x) + 1, dtype=np.int32)
        valid = np.packbits(~hidden, bitorder="little")
        buffers = [pa.py_buffer(a) for a in (valid, ends, text)]
        return pa.Array.from_buffers(pa.string(), len(x), buffers)
