"""The library reads what NumPy reads, and nothing outside of a record."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.example_io import build, native
from components.example_io.decode import decode
from components.example_io.native import OtherLayoutError
from components.example_io.tf_example import encode
from components.example_io.tfrecord import Records, blocks, frame
from models.errors import InputError

NUMPY = native.Library(None, "a test")


@pytest.fixture(scope="module")
def library() -> native.Library:
    loaded = native.load()
    if loaded.functions is None:
        pytest.skip(loaded.reason)
    return loaded


def of_each(library: native.Library, work: Any) -> Iterator[Any]:
    """Result of `work` by the library, then by NumPy."""
    for one in (library, NUMPY):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "load", lambda one=one: one)
            try:
                yield work()
            except (OtherLayoutError, InputError) as error:
                yield type(error)


def rows(count: int) -> bytes:
    columns = {
        "n": pa.array([1, None, -3, 2**40] * count, pa.int64()),
        "x": pa.array([0.5, -1.0, None, 2.0] * count, pa.float32()),
        "text": pa.array(["", None, "ab" * 70, "c"] * count),
        "tags": pa.array([["a", "bb"], [], ["c"], ["d"] * 5] * count),
    }
    data: bytes = frame(encode(columns)).to_pybytes()
    return data


def test_damaged_records_are_read_alike(library: native.Library) -> None:
    """Each record has a buffer of its own: more would be another's memory."""
    random = np.random.default_rng(0)
    (good,) = blocks(io.BytesIO(rows(1)), 4)
    refused = 0
    for _ in range(1500):
        records = [bytearray(record) for record in good.to_list()]
        which = records[random.integers(4)]
        for _ in range(random.integers(1, 3)):
            which[random.integers(len(which))] = random.choice(
                [0, 1, 0x0A, 0x12, 0x1A, 0x7F, 0x80, 0xFF]
            )
        if random.random() < 0.2:
            del which[random.integers(len(which)) :]
        ends = np.cumsum([len(record) for record in records])
        starts = np.append(0, ends[:-1])
        damaged = Records(b"".join(records) + bytes(16), starts, ends)

        def read(made: Records = damaged) -> Any:
            columns = decode(made)
            return {n: (c.type, c.to_pylist()) for n, c in columns.items()}

        ours, numpy = of_each(library, read)
        refused += ours is OtherLayoutError
        assert repr(ours) == repr(numpy)  # NaN is NaN
    assert 100 < refused < 1400


def test_damaged_files_are_refused_alike(library: native.Library) -> None:
    whole = rows(3)
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        cut = len(data) - random.integers(3) * random.integers(90)

        def read(made: bytes = bytes(data[:cut])) -> list[bytes]:
            found = blocks(io.BytesIO(made), 5, 70)
            return [r for block in found for r in block.to_list()]

        assert list(of_each(library, read)) == [InputError, InputError]


def test_without_a_compiler_one_warning_names_cause_and_switch(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    for compiler, cause in (
        ("no-such", "CXX is 'no-such', which is not found"),
        ("false", "`false --version ...` ended with 1: "),
    ):
        monkeypatch.setenv("CXX", compiler)
        assert build.main(tmp_path / "lib") == 1
        error = capsys.readouterr().err
        assert cause in error
        assert build.COMMAND in error
        assert error.count("\n") == 1
    assert not list((tmp_path / "lib").iterdir())


def test_a_library_of_other_sources_is_not_loaded(
    tmp_path: Path, monkeypatch: Any, library: native.Library
) -> None:
    shutil.copytree(build.SOURCES, tmp_path / "cc")
    with (tmp_path / "cc/examples.cc").open("a") as source:
        source.write("// changed\n")
    (tmp_path / library.reason).write_bytes(b"of other sources")
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "SOURCES", tmp_path / "cc")
    found = native.load.__wrapped__()
    assert found.functions is None
    assert build.COMMAND in found.reason
    made = build.build(tmp_path)
    assert list(tmp_path.glob("*.so")) == [made]
    assert native.load.__wrapped__().reason == made.name


def test_ids_are_the_lines_of_the_vocabulary(library: native.Library) -> None:
    random = np.random.default_rng(0)
    lines = {b"%d" % n * int(n % 7 + 1) for n in random.integers(0, 9999, 5000)}
    lines |= {b"\xff\x00", b" ", b"x" * 100_000, b"a\x00", b"a"}
    order = {line: 1 + i for i, line in enumerate(sorted(lines))}
    vocabulary = native.Vocabulary(b"\n".join(order) + b"\n")
    assert vocabulary.size == len(order)
    values = [*order, b"", b"no", b"a\n b", b"x" * 99_999, *list(order)[:9]]
    array = pa.array(values, pa.large_binary())
    expected = [0 if not v else order.get(v, -1) for v in values]
    assert vocabulary.ids(array).tolist() == expected
    assert vocabulary.ids(array[7:]).tolist() == expected[7:]
    assert vocabulary.ids(array[:0]).tolist() == []
    assert native.Vocabulary(b"").ids(array[:2]).tolist() == [-1, -1]
