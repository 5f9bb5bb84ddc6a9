"""tf.Examples and TFRecord files, against TensorFlow's own."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx_bsl.coders.example_coder import (
    ExamplesToRecordBatchDecoder,
    RecordBatchToExamplesEncoder,
)

from components.example_io import tfrecord
from components.example_io.tf_example import encode, timed
from models.errors import InputError

LONG = st.integers(0, 40_000).map(lambda size: "é" * (size % 7) + "x" * size)
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(max_size=6) | LONG,
        st.none() | st.floats(width=32, allow_nan=False),
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    ),
    max_size=8,
)
NAMES = ("site", "price" * 40, "größe")
KINDS = (pa.string(), pa.float32(), pa.int64())


def columns_of(rows: list[Any]) -> dict[str, pa.Array]:
    return {
        name: pa.array([row[i] for row in rows], KINDS[i])
        for i, name in enumerate(NAMES)
    }


def records_of(data: bytes) -> list[bytes]:
    """The records of a TFRecord file."""
    found = list(tfrecord.read(io.BytesIO(data), 1 << 20, 10))
    assert all(len(record) == size for record, size in found)
    return [record for record, _ in found]


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, skip=st.integers(0, 3))
def test_the_same_examples_as_tfx_encodes(rows: list[Any], skip: int) -> None:
    columns = columns_of(rows)
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(
                [[] if v is None else [v] for v in array.to_pylist()],
                pa.list_(
                    pa.large_binary() if array.type == KINDS[0] else array.type
                ),
            )
            for array in columns.values()
        ],
        list(columns),
    )
    # Slices, whose values do not begin where their buffers do.
    sliced = {name: array.slice(skip) for name, array in columns.items()}
    expected = RecordBatchToExamplesEncoder().encode(batch) if rows else []
    found = encode(sliced).to_pylist()
    assert [tf.train.Example.FromString(r) for r in found] == [
        tf.train.Example.FromString(r) for r in expected[skip:]
    ]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.floats(width=32, allow_nan=False), max_size=3),
            st.lists(
                st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
                max_size=40,
            ),
        ),
        max_size=6,
    ),
    skip=st.integers(0, 3),
)
def test_lists_of_numbers_are_as_long_as_they_are(
    rows: list[Any], skip: int
) -> None:
    columns = {
        name: pa.array([row[i] for row in rows], pa.list_(kind)).slice(skip)
        for i, (name, kind) in enumerate(zip(NAMES[1:], KINDS[1:], strict=True))
    }
    for data, row in zip(encode(columns).to_pylist(), rows[skip:], strict=True):
        found = tf.train.Example.FromString(data).features.feature
        prices, sizes = (found[name] for name in NAMES[1:])
        assert list(prices.float_list.value) == row[0]
        assert list(sizes.int64_list.value) == row[1]
        assert len(found) == 2


def test_tensorflow_parses_them() -> None:
    columns = columns_of([("a", 1.5, 7), (None, None, None), ("b", -1.0, -7)])
    parsed = tf.io.parse_example(
        encode(columns).to_pylist(),
        {
            "site": tf.io.VarLenFeature(tf.string),
            NAMES[1]: tf.io.VarLenFeature(tf.float32),
            "größe": tf.io.RaggedFeature(tf.int64),
        },
    )
    assert parsed["site"].values.numpy().tolist() == [b"a", b"b"]
    assert parsed["site"].indices.numpy().tolist() == [[0, 0], [2, 0]]
    assert parsed[NAMES[1]].values.numpy().tolist() == [1.5, -1.0]
    assert parsed["größe"].to_list() == [[7], [], [-7]]


def test_readers_skip_the_time_that_a_record_carries() -> None:
    columns = columns_of([("a", 1.5, 7), (None, None, None), ("b", -1.0, -7)])
    records = encode(columns)
    times = np.array([0, 1_700_000_000_123_456, -1])
    carried = timed(records, times).to_pylist()
    for plain, record, time in zip(
        records.to_pylist(), carried, times.tolist(), strict=True
    ):
        found = tf.train.Example.FromString(record).features
        assert found == tf.train.Example.FromString(plain).features
        assert record.startswith(plain)
        assert int.from_bytes(record[-8:], "little", signed=True) == (
            time // 10**6
        )
    spec = {"site": tf.io.VarLenFeature(tf.string)}
    parsed = tf.io.parse_example(carried, spec)["site"]
    assert parsed.values.numpy().tolist() == [b"a", b"b"]
    decoder = ExamplesToRecordBatchDecoder()
    batches = [
        decoder.DecodeBatch(np.array(some, object))
        for some in (records.to_pylist(), carried)
    ]
    assert batches[0].equals(batches[1])


RECORDS = st.lists(st.binary(max_size=30) | st.just(b"x" * 300), max_size=8)


@settings(max_examples=50, deadline=None)
@given(records=RECORDS, skip=st.integers(0, 2), zipped=st.booleans())
def test_tensorflow_and_we_read_what_the_other_wrote(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[bytes],
    skip: int,
    zipped: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "records"
    array = pa.array(records, pa.binary()).slice(skip)
    ours = tfrecord.frame(array).to_pybytes()
    path.write_bytes(gzip.compress(ours) if zipped else ours)
    read = tf.data.TFRecordDataset(str(path), "GZIP" if zipped else "")
    assert list(read.as_numpy_iterator()) == records[skip:]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[skip:]:
            writer.write(record)
    assert path.read_bytes() == ours
    assert records_of(ours) == records[skip:]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_is_noticed_at_its_record(data: st.DataObject) -> None:
    records = [b"a" * n for n in (3, 0, 11)]
    good = tfrecord.frame(pa.array(records, pa.binary())).to_pybytes()
    starts = np.cumsum([0, 19, 16]).tolist()
    at = data.draw(st.integers(1, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:at]
        if at in starts:  # whole records: no file can tell
            assert records_of(bad) == records[: starts.index(at)]
            return
    else:
        flipped = good[at] ^ (1 << data.draw(st.integers(0, 7)))
        bad = good[:at] + bytes([flipped]) + good[at + 1 :]
    with pytest.raises(InputError, match="damaged TFRecord file") as error:
        records_of(bad)
    assert f"byte {max(s for s in starts if s <= at)}." in str(error.value)


@pytest.mark.parametrize(
    "data",
    [b"x", b"not a TFRecord file at all", struct.pack("<QI", 1 << 60, 0)],
)
def test_what_is_no_tfrecord_file_is_an_error(data: bytes) -> None:
    with pytest.raises(InputError, match=r"damaged TFRecord file: .*byte 0\."):
        records_of(data)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert records_of(b"") == []
    assert tfrecord.frame(pa.array([], pa.binary())).to_pybytes() == b""
