"""The join of a click log, against one of plain dicts over the same rows."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen import match, spill
from components.click_log_gen.component import ClickLogGen
from components.click_log_gen.config import DataConfig
from models.errors import InputError
from pipeline.generate import generate
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Output,
    Row,
    bytes_of,
    check_place,
    convert_log,
    cut_into,
    fresh_folder,
    log_of,
    read_output,
    write_log,
)
from tests.components.click_log_gen.object_store import ObjectStore
from tests.components.click_log_gen.test_executor import (
    BEAM,
    execute,
    run_executor,
)

WINDOW = 10
COLUMNS = {"tag": ("string", None), "price": ("float", None)}
HASH = {"by": "hash", "eval": 0.4}

DUPLICATE, HELD_BACK, SPOILED = (why for _, why in match.IMPRESSIONS[1:])
ORPHAN, EARLY, LATE, REPEATED, WAITING = (why for _, why in match.CLICKS[1:6])


def text_of(row: Row) -> str:
    return ",".join("" if v is None else str(v) for v in row.values())


@dataclass
class Truth:
    """What the join must give. Rejected rows are (reason, row)."""

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
            time="t",
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


KEYS = st.sampled_from([None, "a", "b", "b", "c", "d", "e", "f"])
TIMES = st.one_of(st.integers(0, 40), st.none(), st.sampled_from([7, 20]))
IMPRESSIONS = st.builds(
    lambda id, t, tag, price: {"id": id, "t": t, "tag": tag, "price": price},
    KEYS,
    TIMES,
    st.sampled_from(["p", "q", "r"]),
    st.sampled_from([1.5, 1.5, 1.5, "x"]),
)
CLICKS = st.builds(
    lambda id, t, dwell: {"id": id, "t": t, "dwell": dwell},
    KEYS,
    TIMES,
    st.sampled_from([None, 1, 2, 3, "x"]),
)


def files_of(
    rows: list[Row], count: int, random_: random.Random
) -> list[list[Row]]:
    """The rows in some files, in any order; a header needs a row at least."""
    rows = random_.sample(rows, len(rows))
    size = -(-len(rows) // count)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@settings(max_examples=40, deadline=None)
@given(
    shown=st.lists(IMPRESSIONS, min_size=1, max_size=14),
    clicked=st.lists(CLICKS, min_size=1, max_size=14),
    seed=st.integers(0, 99),
    partitions=st.integers(1, 5),
)
def test_the_join_is_that_of_plain_dicts_in_any_files_and_order(
    shown: list[Row], clicked: list[Row], seed: int, partitions: int
) -> None:
    random_ = random.Random(seed)
    truth = join(shown, clicked)
    outputs = []
    for count in (1, 3):
        with fresh_folder() as folder:
            outputs.append(
                joined(
                    folder,
                    files_of(shown, count, random_),
                    files_of(clicked, count, random_),
                    partitions=partitions if count == 1 else None,
                )
            )
            check(outputs[-1], truth)
    assert sorted(map(str, outputs[0].eval)) == sorted(
        map(str, outputs[1].eval)
    )


@settings(max_examples=20, deadline=None)
@given(
    shown=st.lists(IMPRESSIONS, min_size=4, max_size=20),
    clicked=st.lists(CLICKS, min_size=2, max_size=14),
    by=st.sampled_from(["time", "order"]),
    share=st.sampled_from([0.01, 0.3, 0.9]),
)
def test_the_last_share_of_the_joined_rows_goes_to_eval(
    shown: list[Row], clicked: list[Row], by: str, share: float
) -> None:
    for number, row in enumerate(shown):
        row["tag"] = f"n{number:02}"
    truth = join(shown, clicked)
    split = {"by": by, "eval": share}
    with fresh_folder() as folder:
        halves = [shown[:3], shown[3:]]
        output = joined(folder, halves, [clicked], split, partitions=3)
        check(output, truth)
    # Rows are named by their number.
    place = -1 if by == "time" else 0
    marks = sorted(row[place] for row in truth.kept)
    if not marks:
        return
    border = marks[len(marks) - max(1, round(share * len(marks)))]
    late = sorted(row[0] for row in truth.kept if row[place] >= border)
    assert sorted(row["tag"] for row in output.eval) == late


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


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_joins_alike(tmp_path: Path, format: str) -> None:
    shown, clicked = logs(80)
    output = joined(tmp_path, [shown], [clicked], format=format, partitions=3)
    truth = join(shown, clicked)
    assert examples(output) == sorted([r[:4] for r in truth.kept], key=str)
    assert Counter(output.reasons) == sum(
        (Counter({why: n}) for (why, _), n in truth.rejected.items()),
        Counter(),
    )
    keys = Counter(
        re.search(rb"[io]\d+", bytes_of(row))[0].decode()
        for row in output.rejected
    )
    wanted: Counter[str] = Counter()
    for (_, row), count in truth.rejected.items():
        wanted[row.split(",")[0]] += count
    assert keys == wanted


def run(folder: Path, data: Path, *options: str, **more: Any) -> Output:
    """The executor, on Beam."""
    with mock.patch(f"{execute.__module__}.BEAM", [*BEAM, *options]):
        return execute(
            folder,
            log_of(f"{data}/shown*.csv", "csv"),
            more.pop("split", {"by": "time", "eval": 0.2}),
            {"tag": "string", "price": "float"},
            label=more.pop("label", None),
            time="t",
            max_rejected=more.pop("max_rejected", 0.1),
            clicks=clicks_of(f"{data}/clicked*.csv", **more),
        )


def write_both(folder: Path, shown: list[Row], clicked: list[Row]) -> None:
    for name, rows in (("shown", shown), ("clicked", clicked)):
        for number in range(3):
            path = folder / f"{name}{number}.csv"
            write_log(path, "csv", rows[number::3])


def test_on_beam_with_any_number_of_workers(tmp_path: Path) -> None:
    shown, clicked = logs(300)
    write_both(tmp_path, shown, clicked)
    outputs = []
    for workers, partitions, chunk in ((1, 1, 10**6), (3, 7, 900)):
        with cut_into(chunk, chunk // 2):
            outputs.append(
                run(
                    tmp_path / f"out{workers}",
                    tmp_path,
                    f"--direct_num_workers={workers}",
                    "--direct_running_mode=multi_threading",
                    partitions=partitions,
                )
            )
    truth = join(shown, clicked)
    for output in outputs:
        check(output, truth)
        assert not (output.folder / "rejected" / "work").exists()
    one, other = ([sorted(map(str, o.eval)) for o in outputs],) * 2
    assert one[0] == other[1]
    assert len(one[0]) == round(0.2 * len(truth.kept))
    assert outputs[0].counts["positives"] == outputs[1].counts["positives"]
    names = [path for path in outputs[1].files() if "join-" in path]
    assert len(names) == 7


def test_the_same_logs_give_the_same_bytes(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    files = [
        run(tmp_path / name, tmp_path, partitions=2).files() for name in "ab"
    ]
    assert files[0] == files[1]


def test_nothing_temporary_is_left_after_a_failure(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    data = gzip.compress((tmp_path / "clicked1.csv").read_bytes())
    (tmp_path / "clicked1.csv").write_bytes(data[:-9])
    with pytest.raises(InputError, match=r"clicked1\.csv: damaged gzip"):
        run(tmp_path / "out", tmp_path)
    left = [path.name for path in (tmp_path / "out").rglob("*rows-*")]
    assert left == []
    assert not (tmp_path / "out" / "rejected" / "work").exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_logs_and_artifacts_may_be_in_an_object_store(
    tmp_path: Path, damaged: bool
) -> None:
    shown, clicked = logs(200)
    write_both(tmp_path, shown, clicked)
    ObjectStore.files.clear()
    for path in tmp_path.glob("*.csv"):
        ObjectStore.files[f"memory://logs/{path.name}"] = path.read_bytes()
    if damaged:
        data = gzip.compress((tmp_path / "clicked1.csv").read_bytes())
        ObjectStore.files["memory://logs/clicked1.csv"] = data[:-9]
    log = log_of("memory://logs/shown*", "csv")
    clicks = clicks_of("memory://logs/clicked*", partitions=3)
    config = {
        "impressions": log,
        "clicks": clicks,
        "time": "t",
        "split": {"by": "time", "eval": 0.2},
        "max_rejected": 0.1,
    }
    component = ClickLogGen(
        DataConfig.model_validate(config),
        {"tag": "string", "price": "float"},
        {},
    )
    try:
        run_executor(component, "memory://out", tmp_path)
    except InputError as error:
        assert damaged, error
    names = [n for n in ObjectStore.files if n.startswith("memory://out/")]
    assert not any("work" in name for name in names)
    if damaged:
        return
    ObjectStore.save("memory://out/", tmp_path / "out")
    path = tmp_path / "out/rejected/counts.json"
    output = read_output(tmp_path / "out", json.loads(path.read_text()))
    truth = join(shown, clicked)
    assert examples(output) == sorted([r[:4] for r in truth.kept], key=str)
    assert reasons(output) == truth.rejected


def test_a_label_may_be_a_rule_on_the_click(tmp_path: Path) -> None:
    shown, clicked = logs(90)
    write_both(tmp_path, shown, clicked)
    rule = {"column": "dwell", "at_least": 30}
    output = run(tmp_path / "out", tmp_path, label=rule, max_rejected=1.0)
    truth = join(shown, clicked)
    wanted = [(row[0], int((row[3] or 0) >= 30)) for row in truth.kept]
    # A click that has no label leaves its impression without one.
    unknown = {row[0] for row in truth.kept if row[2] and row[3] is None}
    assert len(unknown) > 3
    assert sorted((row["tag"], row["label"]) for row in output.kept) == [
        pair for pair in sorted(wanted) if pair[0] not in unknown
    ]
    assert output.counts["reasons"][SPOILED] == len(unknown)
    missing = sum(row["dwell"] is None for row in clicked)
    assert output.counts["clicks"]["rejected"] == missing


def test_keys_of_several_columns_and_of_other_names(tmp_path: Path) -> None:
    shown = [
        {"user": u, "ad": a, "t": t, "tag": u + a, "price": 1.0}
        for t, (u, a) in enumerate([("a", "bc"), ("ab", "c"), ("a", "b")])
    ]
    write_log(tmp_path / "shown.csv", "csv", shown)
    rows = [
        {"who": "ab", "what": "c", "t": 3},
        {"who": "-", "what": "", "t": 9},
        {"who": "x", "what": "x", "t": 99},
    ]
    write_log(tmp_path / "clicked.csv", "csv", rows)
    output = convert_log(
        tmp_path / "out",
        log_of(tmp_path / "shown.csv", "csv"),
        {"ad": ("string", None)},
        None,
        time="t",
        clicks={
            **log_of(tmp_path / "clicked.csv", "csv"),
            "key": ["who", "what"],
            "impression_key": ["user", "ad"],
        }
        | {"window": "1m"},
    )
    labels = {row["ad"]: row["label"] for row in output.kept}
    assert labels == {"bc": 0, "c": 1, "b": 0}
    assert output.reasons == ["column what: no key to join by", ORPHAN]


@pytest.mark.parametrize(
    ("until", "held_back"),
    [(None, 11), ("1970-01-01T00:00:30Z", 79), ("1970-01-02", 0)],
)
def test_impressions_without_their_whole_window_are_held_back(
    tmp_path: Path, until: str | None, held_back: int
) -> None:
    shown = logs(100)[0][:100]
    clicked = [{"id": f"i{i}", "t": i, "dwell": 1} for i in range(99)]
    output = joined(tmp_path, [shown], [clicked], until=until)
    assert output.counts["held_back"] == held_back
    assert output.counts["rejected"] == 0
    assert Counter(output.reasons)[HELD_BACK] == held_back
    assert len(output.kept) == 100 - held_back


@pytest.mark.parametrize("data", ["", "id,t,dwell\n", "\n"])
def test_a_click_log_without_a_click_gives_zeros(
    tmp_path: Path, data: str
) -> None:
    write_log(tmp_path / "shown.csv", "csv", logs(50)[0][:50])
    (tmp_path / "clicked.csv").write_text(data)
    output = run(tmp_path / "out", tmp_path)
    assert [row["label"] for row in output.kept] == [0] * 40
    assert output.counts["held_back"] == 10
    assert output.counts["clicks"]["read"] == 0


def test_clicks_that_meet_no_impression_at_all_stop_the_run(
    tmp_path: Path,
) -> None:
    shown, clicked = logs(50)
    write_both(tmp_path, shown, [row | {"id": "?"} for row in clicked])
    with pytest.raises(InputError) as error:
        run(tmp_path / "out", tmp_path)
    assert "none of the" in str(error.value)
    assert "data.clicks.key (id)" in str(error.value)


def test_bad_clicks_count_against_max_rejected_and_late_ones_do_not(
    tmp_path: Path,
) -> None:
    shown = logs(50)[0][:50]
    late = [{"id": f"i{i}", "t": i + 11, "dwell": 1} for i in range(40)]
    write_both(tmp_path, shown, late)
    output = run(tmp_path / "good", tmp_path, max_rejected=0.0)
    assert output.counts["clicks"]["late"] == 40
    write_both(tmp_path, shown, late[:38] + [late[0] | {"t": None}] * 2)
    with pytest.raises(InputError) as error:
        run(tmp_path / "bad", tmp_path, max_rejected=0.04)
    assert "2 of 40 clicks (5.00%) were rejected" in str(error.value)
    assert "2 x column t: no time; first at" in str(error.value)
    assert "window" not in str(error.value)


@pytest.mark.parametrize("field", ["shown", "clicked"])
def test_a_key_column_that_is_not_there_is_named(
    tmp_path: Path, field: str
) -> None:
    write_both(tmp_path, *logs(30))
    data = (tmp_path / f"{field}2.csv").read_text().replace("id,", "key,")
    (tmp_path / f"{field}2.csv").write_text(data)
    with pytest.raises(InputError) as error:
        run(tmp_path / "out", tmp_path)
    assert f"{field}2.csv: no column 'id'. Its columns: key" in str(error.value)


def test_a_missing_click_log_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "shown.csv", "csv", logs(3)[0])
    with pytest.raises(InputError, match=r"data\.clicks\.path: no file"):
        run(tmp_path / "out", tmp_path)


class Columns:
    """A log in memory."""

    def __init__(self, rows: list[Row]) -> None:
        names = ("key", "time", "features", "row", "fault")
        table = {n: [row.get(n) for row in rows] for n in names}
        self._table = pa.table(
            table | {"fault": pa.array(table["fault"], "str")}
        )

    def column(self, name: str) -> pa.Array:
        return self._table.column(name).combine_chunks()


def test_times_at_the_edges_of_64_bits_do_not_overflow() -> None:
    far = 9 * 10**18 - 1
    rows = [
        {"key": b"a", "time": -far, "features": b"", "row": b"1"},
        {"key": b"b", "time": far, "features": b"", "row": b"2"},
    ]
    clicks = [rows[0] | {"time": far}, rows[1] | {"time": -far}]
    found = match.match(Columns(rows), Columns(clicks), 10**15, far)
    assert found.impressions.tolist() == [match.KEPT, match.HELD_BACK]
    assert found.clicks.tolist() == [match.LATE, match.EARLY]
    assert found.click.tolist() == [-1, -1]


def test_a_spill_gives_back_each_partitions_rows_in_order(
    tmp_path: Path,
) -> None:
    schema = pa.schema([("n", pa.int64()), ("text", pa.binary())])
    random_ = np.random.default_rng(1)
    where = random_.integers(0, 5, 1000)
    paths = [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c")]
    with mock.patch.object(spill, "SPILL_BYTES", 3000):
        for path, part in zip(
            paths, np.split(np.arange(1000), [0, 400]), strict=True
        ):
            with spill.Writer(path, 5) as writer:
                for rows in np.array_split(part, 9):
                    text = [b"x" * (i % 50) for i in rows]
                    batch = pa.record_batch(
                        [pa.array(rows), pa.array(text, pa.binary())],
                        schema=schema,
                    )
                    writer.add(batch, where[rows])
    for partition in range(5):
        rows = spill.Rows(paths, partition, schema)
        wanted = np.flatnonzero(where == partition)
        assert rows.column("n").to_pylist() == wanted.tolist()
        sizes = [len(text) for text in rows.column("text").to_pylist()]
        assert sizes == [i % 50 for i in wanted]
        assert rows.chunks.tolist() == (1 + (wanted >= 400)).tolist()


def test_json_of_the_counts_is_complete(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    output = run(tmp_path / "out", tmp_path)
    path = output.folder / "rejected" / "counts.json"
    assert json.loads(path.read_text()) == output.counts
    assert output.counts["duplicates"] == 3


def test_generated_logs_join_to_the_label_that_was_drawn(
    tmp_path: Path,
) -> None:
    generated = generate(3000, tmp_path / "logs", format="csv")
    log = log_of(tmp_path / "logs/impressions.csv", "csv")
    columns = {"impression_id": ("string", None)}
    clicks = {
        **log_of(tmp_path / "logs/clicks.csv", "csv"),
        "carry": {"dwell_seconds": "float"},
    }
    outputs = [
        convert_log(tmp_path / name, log, columns, time="timestamp", **more)
        for name, more in (
            ("drawn", {"label": "click"}),
            ("joined", {"label": None, "clicks": clicks}),
        )
    ]
    drawn, found = (
        {
            row["impression_id"]: row["label"]
            for row in output.kept
            if not row["impression_id"].startswith("broken")
        }
        for output in outputs
    )
    assert len(drawn) >= len(found) > 2900
    assert found.items() <= drawn.items()
    counts = outputs[1].counts["clicks"]
    assert counts["read"] == generated.clicks
    assert counts["orphans"] == generated.orphans
    assert counts["late"] == generated.late_clicks
    dwelt = [row["dwell_seconds"] for row in outputs[1].kept if row["label"]]
    assert all(row is None or row > 0 for row in dwelt)
    assert sum(row is not None for row in dwelt) > 0.9 * len(dwelt) > 50
