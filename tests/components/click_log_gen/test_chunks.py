"""Files, and how they are cut: no cut changes what is read."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files import chunks, spans
from components.click_log_gen.formats.plan import plan
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    check_place,
    convert_log,
    cut_into,
    fresh_folder,
    log_of,
    write_log,
)

COLUMNS = {
    "price": ("float", None),
    "site": ("string", None),
    "slot": ("int", None),
    "tags": ("string", "|"),
}


def source(path: Any, format: str = "jsonl", **options: Any) -> LogFiles:
    return LogFiles.model_validate(log_of(path, format, **options))


def names(path: Any) -> list[str]:
    return [Path(c.path).name for c in plan(source(path))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("day_1", "day_10", "day_9"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "empty").touch()
    return tmp_path


def test_a_glob_is_sorted_and_a_list_keeps_its_order(folder: Path) -> None:
    assert names(f"{folder}/day_*") == ["day_1", "day_10", "day_9"]
    listed = [f"{folder}/day_9", f"{folder}/day_10", f"{folder}/day_*"]
    assert names(listed) == ["day_9", "day_10", "day_1"]


def test_empty_files_are_left_out(folder: Path) -> None:
    assert names([f"{folder}/empty", f"{folder}/day_9"]) == ["day_9"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "no file matches"),
        ("missing*", "no file matches"),
        ("sub", "is a folder"),
    ],
)
def test_what_is_no_file_is_an_error_with_the_pattern(
    folder: Path, path: str, message: str
) -> None:
    (folder / "sub").mkdir()
    with pytest.raises(InputError, match=message) as error:
        plan(source(f"{folder}/{path}"))
    assert f"{folder}/{path}" in str(error.value)


def test_a_folder_that_a_glob_matches_is_left_out(folder: Path) -> None:
    (folder / "day_2").mkdir()
    assert names(f"{folder}/day_*") == ["day_1", "day_10", "day_9"]


def test_the_version_changes_with_any_file(folder: Path) -> None:
    log = {"path": f"{folder}/day_*", "format": "jsonl"}
    clicks = log | {"path": f"{folder}/clicks"}
    (folder / "clicks").touch()
    data = DataConfig.model_validate(
        {"impressions": log, "clicks": clicks, "time": "t"}
    )

    def version() -> str:
        return spans.data_version(data)

    versions = [version()]
    assert version() == versions[0]
    (folder / "day_9").write_text("{}\n{}\n")
    versions.append(version())
    (folder / "day_3").write_text("{}\n")
    versions.append(version())
    (folder / "day_3").unlink()
    (folder / "day_9").unlink()
    versions.append(version())
    (folder / "clicks").write_text("{}\n")
    versions.append(version())
    assert len(set(versions)) == 5


@pytest.mark.parametrize("way", ["write", "replace", "copy"])
def test_the_version_sees_an_edit_that_keeps_size_and_time(
    folder: Path, tmp_path: Path, way: str
) -> None:
    data = DataConfig.model_validate(
        {"impressions": {"path": f"{folder}/day_9", "format": "jsonl"}}
        | {"label": "y"}
    )
    log = folder / "day_9"
    log.write_text('{"y": 0}\n')
    before, version = log.stat(), spans.data_version(data)
    times = before.st_atime_ns, before.st_mtime_ns
    time.sleep(0.02)  # more than a tick of the file system's clock
    other = log if way == "write" else tmp_path / "other"
    other.write_text('{"y": 1}\n')
    os.utime(other, ns=times)
    if way == "replace":
        other.replace(log)
    elif way == "copy":
        shutil.copy2(other, log)
    after = log.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, times[1])
    assert spans.data_version(data) != version
    version = spans.data_version(data)
    assert log.read_text() == '{"y": 1}\n'  # reading changes nothing
    assert spans.data_version(data) == version


def test_plain_text_is_cut_and_gzip_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 250)
    (tmp_path / "b.gz").write_bytes(gzip.compress(bytes(range(256)) * 4))
    # Told by its bytes, whatever the name says.
    (tmp_path / "c").write_bytes(gzip.compress(b"x"))
    with cut_into(100, 10):
        pieces = plan(source(f"{tmp_path}/*"))
    assert [(c.number, c.start, c.end, c.codec) for c in pieces] == [
        (0, 0, 100, ""),
        (1, 100, 200, ""),
        (2, 200, 250, ""),
        (3, 0, -1, "gzip"),
        (4, 0, -1, "gzip"),
    ]


@settings(max_examples=200, deadline=None)
@given(
    data=st.text(st.sampled_from("ab\r\n"), max_size=40).map(str.encode),
    chunk=st.integers(1, 50),
    block=st.integers(1, 50),
    zipped=st.booleans(),
)
def test_blocks_are_the_file_cut_at_line_ends(
    data: bytes, chunk: int, block: int, zipped: bool
) -> None:
    with fresh_folder() as folder, cut_into(chunk, block):
        (folder / "log").write_bytes(gzip.compress(data) if zipped else data)
        log = source(folder / "log")
        found = [
            block for part in plan(log) for block in chunks.blocks(part, log)
        ]
    assert b"".join(block.data for block in found) == data
    position = 0
    for block in found:
        assert block.offset == position
        position += len(block.data)
        assert block.data.endswith(b"\n") or position == len(data)


TEXTS = st.sampled_from(["a", "b|c", "", "é", "x y", "\\N", "1", "nan", "1.5"])
LINES = st.one_of(
    st.tuples(
        st.sampled_from(["0", "1", "true", "1.0", "", "7"]),
        st.sampled_from(["1.5", "", " 2 ", "inf", "x", "+3", "1e50", "NaN"]),
        TEXTS,
        st.sampled_from(["1", "2.0", "", "1.5", "0x1", "9" * 19, "-0"]),
        TEXTS,
        st.sampled_from(
            ["10", "12", "1600000000123", "2020-01-01", "2020-01-01T00:00Z"]
        ),
    ).map(",".join),
    st.sampled_from(
        [
            "0,1",
            '1,2,"a,1,b,5',
            "0,1,a\rb,2,c,6",
            '0,1,"q,""",1,"b",7',
            "",
            "\r",
        ]
    ),
)
VALUES: dict[str, list[Any]] = {
    "click": [0, 1, True, "1", 1.0, None, 2, [1]],
    "price": [1, 1.5, "2.5", None, True, "x", float("nan"), [1.5]],
    "site": ["a", "é", 5, 1.0, None, True, ["x"], ["x", "y"], {"a": 1}],
    "slot": [1, 2.0, "3", None, 10**20, 1.5],
    "tags": ["a|b", ["a", "b"], [], [None, "c"], [1, 2], None, "d"],
    "t": [
        1_600_000_010,
        1_600_000_012.5,
        "1600000012",
        "2020-01-01",
        1600000000123,
        14102100,
        "2020/01/01",
    ],
}
OBJECTS = st.fixed_dictionaries(
    {
        # Mostly the first, so that some blocks are of one kind.
        name: st.one_of(st.just(values[0]), st.sampled_from(values))
        for name, values in VALUES.items()
    }
)
SPLITS: list[Row] = [
    {"by": "order", "eval": 0.3},
    {"by": "time", "eval": 0.3},
    {"by": "hash", "eval": 0.4},
    {"by": "hash", "eval": 0.4, "key": "site"},
]
SIZES = st.tuples(st.integers(20, 150), st.integers(1, 150))


def same_rows(one: Output, other: Output) -> None:
    """The two hold the same, though not cut into the same files."""
    assert one.train == other.train
    assert one.eval == other.eval
    assert one.rejected == other.rejected
    assert {k: v for k, v in one.counts.items() if v} == {
        k: v for k, v in other.counts.items() if v
    }


def both_ways(
    folder: Path, log: Row, sizes: tuple[int, int], split: Row
) -> Output:
    """Converts whole, and cut into pieces; checks that the two agree."""
    outputs = []
    for name, (chunk, block) in (("whole", (10**6, 10**6)), ("cut", sizes)):
        with cut_into(chunk, block):
            outputs.append(
                convert_log(
                    folder / name, log, COLUMNS, split_by=split, time="t"
                )
            )
    same_rows(*outputs)
    return outputs[0]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(LINES, min_size=1, max_size=8),
    sizes=SIZES,
    split=st.sampled_from(SPLITS),
)
def test_csv_reads_the_same_for_any_chunk_and_block(
    lines: list[str], sizes: tuple[int, int], split: Row
) -> None:
    with fresh_folder() as folder:
        path = folder / "log"
        text = "\n".join(["click,price,site,slot,tags,t", *lines])
        path.write_text(text, newline="")
        output = both_ways(folder, log_of(path, "csv"), sizes, split)
        for row in output.rejected:
            check_place(row)
    rows = sum(line.strip("\r") != "" for line in lines)
    assert len(output.kept) + len(output.rejected) == rows


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(OBJECTS, min_size=1, max_size=6),
    sizes=SIZES,
    split=st.sampled_from(SPLITS),
)
def test_jsonl_reads_the_same_for_any_chunk_and_block(
    rows: list[Row], sizes: tuple[int, int], split: Row
) -> None:
    with fresh_folder() as folder:
        log = log_of(write_log(folder / "log", "jsonl", rows), "jsonl")
        output = both_ways(folder, log, sizes, split)
        for row in output.rejected:
            check_place(row)
    assert len(output.kept) + len(output.rejected) == len(rows)
