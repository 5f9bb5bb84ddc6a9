"""Columns come out of examples as tfx_bsl's own decoder gives them."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from components.example_io import native
from components.example_io.decode import decode
from components.example_io.native import OtherLayoutError
from components.example_io.record_files import columns_of, record_blocks
from components.example_io.tf_example import encode, timed
from components.example_io.tfrecord import Records, blocks, frame
from models.errors import InputError

INT64 = st.integers(-(2**63), 2**63 - 1)
KINDS: tuple[tuple[pa.DataType, Any], ...] = (
    (pa.int64(), INT64),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.string(), st.text(max_size=300)),
    (pa.list_(pa.int64()), st.lists(INT64, max_size=40)),
    (pa.list_(pa.string()), st.lists(st.text(max_size=99), max_size=9)),
)


@pytest.fixture(autouse=True, scope="module", params=["library", "NumPy"])
def reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who reads: both must pass each test."""
    if request.param == "library":
        if not native.usable():
            pytest.skip(native.load().reason)
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "load", lambda: native.Library(None, "a test"))
        yield


def read(records: pa.BinaryArray, rows: int = 1 << 20) -> list[Records]:
    return list(blocks(io.BytesIO(frame(records).to_pybytes()), rows))


def expected(records: Sequence[bytes]) -> dict[str, list[Any]]:
    batch = ExamplesToRecordBatchDecoder().DecodeBatch(list(records))
    return batch.to_pydict()


def lists_of(columns: dict[str, pa.Array]) -> dict[str, list[Any]]:
    return {name: array.to_pylist() for name, array in columns.items()}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 9), with_time=st.booleans())
def test_what_encode_writes_comes_back(
    data: st.DataObject, rows: int, with_time: bool
) -> None:
    columns = {}
    for i, (kind, values) in enumerate(KINDS):
        drawn = st.none() | values if i < 3 else values
        name = "n" * data.draw(st.sampled_from((1, 5, 9, 140))) + str(i)
        column = data.draw(st.lists(drawn, min_size=rows, max_size=rows))
        columns[name] = pa.array(column, kind)
    records = encode(columns)
    if with_time:
        records = timed(records, np.arange(rows))
    (one,) = read(records)
    received = lists_of(decode(one))
    assert list(received) == list(columns)
    assert received == expected(records.to_pylist())
    name = next(iter(columns))
    assert lists_of(decode(one, [name])) == {name: received[name]}


def example(**features: Any) -> bytes:
    made = {}
    for name, values in features.items():
        one = tf.train.Feature()
        if values and isinstance(values[0], bytes):
            one.bytes_list.value.extend(values)
        elif values:
            one.int64_list.value.extend(values)
        made[name] = one
    features_ = tf.train.Features(feature=made)
    return tf.train.Example(features=features_).SerializeToString(True)


def test_lists_of_text_come_back() -> None:
    rows = [[b"a", b"bb", b""], [b"c"], [b"x" * 200] * 3, [b"d", b"e"]]
    records = [example(tags=tags, n=[i]) for i, tags in enumerate(rows)]
    (one,) = read(pa.array(records, pa.binary()))
    assert decode(one)["tags"].to_pylist() == rows


@pytest.mark.parametrize(
    "other",
    [
        example(a=[1]),
        example(a=[1], c=[2]),
        example(a=[1], b=[b"2"]),
        example(a=[1], b=[]),
        example(a=[1], b=[2], c=[3]),
        example(b=[2]) + example(a=[1]),
        example(a=[1], b=[2]) + b"\xc1\x3e1234567",
        b"",
        b"no example at all",
    ],
)
def test_another_layout_is_left_to_the_parser(other: bytes) -> None:
    records = [example(a=[1], b=[2]), other]
    (one,) = read(pa.array(records, pa.binary()))
    with pytest.raises(OtherLayoutError):
        decode(one)
    try:
        known = expected(records)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match=re.escape(str(error)[:60])):
            columns_of(one)
    else:
        assert columns_of(one).to_pydict() == known


def test_blocks_hold_all_records_whatever_is_read_at_a_time(
    tmp_path: Path,
) -> None:
    records = pa.array([b"x" * (i % 50) for i in range(300)], pa.binary())
    whole = frame(records).to_pybytes()
    (tmp_path / "a").write_bytes(whole)
    (tmp_path / "a.gz").write_bytes(gzip.compress(whole))
    for name in ("a", "a.gz"):
        for size in (1, 40, 1 << 20):
            some = list(record_blocks(str(tmp_path / name), 7, size))
            assert max(map(len, some)) <= 7
            assert [r for b in some for r in b.to_list()] == records.to_pylist()


@pytest.mark.parametrize("at", [0, 9, 30, 80, -1])
def test_damage_is_an_input_error(tmp_path: Path, at: int) -> None:
    records = pa.array([bytes([i]) * 20 for i in range(5)], pa.binary())
    data = bytearray(frame(records).to_pybytes())
    data[at] ^= 0x40
    with pytest.raises(InputError, match="damaged TFRecord"):
        list(blocks(io.BytesIO(data), 100))
    with pytest.raises(InputError, match="end of the file"):
        list(blocks(io.BytesIO(frame(records).to_pybytes()[:-3]), 100))
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(bytes(data) * 50)[:-20])
    with pytest.raises(InputError):
        list(record_blocks(str(packed), 9, 1 << 20))
