"""Batches: every row once, in an order that can be told and resumed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.input_pipeline import record_index
from models.input_pipeline.dataset import Batches
from tests.examples import example

# A pass takes a second to trace: a failure is not made smaller.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
SPEC = {
    "ids": tf.io.FixedLenFeature([2], tf.int64),
    "dense": tf.io.FixedLenFeature([3], tf.float32),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "list_tags": tf.io.RaggedFeature(tf.int64),
}


@dataclass(frozen=True)
class Transform:
    """As much of tft.TFTransformOutput as Batches asks for."""

    spec: dict[str, Any]

    def transformed_feature_spec(self) -> dict[str, Any]:
        return dict(self.spec)


TRANSFORM: Any = Transform(SPEC)


def example_of(row: int) -> bytes:
    """Row `row`: it can be told from each of its features."""
    return example(
        ids=[row, -row],
        label=row % 2,
        list_tags=tags(row),
        dense=[float(row), row / 2, 0.5],
    )


def tags(row: int) -> list[int]:
    return [row + (i << 40) for i in range(row % 4)]


def write(folder: Path, sizes: list[int], packed: bool = False) -> str:
    """Files of so many rows each, rows numbered in order; their glob."""
    folder.mkdir(parents=True, exist_ok=True)
    row = 0
    for number, size in enumerate(sizes):
        path = folder / f"part-{number:05}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(size):
                writer.write(example_of(row))
                row += 1
        if packed:
            data = gzip.compress(path.read_bytes())
            path.with_suffix(".gz").write_bytes(data)
            path.unlink()
    return str(folder / "part-*")


def seen(data: Any) -> list[list[int]]:
    """The rows of each batch; all features must be of the same row."""
    found = []
    for inputs, label in data:
        rows = inputs["ids"][:, 0].numpy()
        np.testing.assert_array_equal(inputs["ids"][:, 1], -rows)
        np.testing.assert_array_equal(label, rows % 2)
        assert label.dtype == tf.float32
        np.testing.assert_array_equal(
            inputs["dense"], np.stack([rows, rows / 2, 0 * rows + 0.5], 1)
        )
        assert inputs["list_tags"].to_list() == [tags(int(r)) for r in rows]
        found.append([int(r) for r in rows])
    return found


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows make many blocks, and a file several reads."""
    monkeypatch.setattr(record_index, "ROWS", 7)
    monkeypatch.setattr(record_index, "_PIECE", 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@settings(max_examples=6, deadline=None, phases=PHASES)
@given(
    st.lists(st.sampled_from([0, 1, 7, 20, 43]), min_size=1, max_size=4),
    st.sampled_from([1, 4, 16, 100]),
    st.sampled_from([0, 1, 10, 1000]),
    st.booleans(),
    st.data(),
)
def test_any_pass_can_be_resumed_and_split(
    folder: Path,
    sizes: list[int],
    batch: int,
    shuffle: int,
    packed: bool,
    data: st.DataObject,
) -> None:
    name = "-".join(map(str, sizes)) + ("-gz" if packed else "")
    if not (folder / name).exists():
        write(folder / name, sizes, packed)
    files = [str(folder / name / "*")]
    made = Batches(files, TRANSFORM, batch, shuffle, seed=5)
    rows = sum(sizes)
    assert (made.rows, made.steps) == (rows, -(-rows // batch))
    number = data.draw(st.integers(0, 3))
    whole = seen(made.epoch(number))
    flat = [row for rows in whole for row in rows]
    assert sorted(flat) == list(range(rows))
    assert [len(b) for b in whole] == [
        min(batch, rows - i) for i in range(0, rows, batch)
    ]
    if not shuffle:
        assert flat == list(range(rows))
    skip = data.draw(st.integers(0, len(whole)))
    again = Batches(files, TRANSFORM, batch, shuffle, seed=5)
    assert seen(again.epoch(number, skip)) == whole[skip:]
    of = data.draw(st.integers(1, 4))
    mine = sorted(data.draw(st.sets(st.integers(0, of - 1), min_size=1)))
    assert seen(made.epoch(number, skip, mine, of)) == [
        b[len(b) * i // of : len(b) * (i + 1) // of]
        for b in whole[skip:]
        for i in mine
    ]


def test_each_epoch_and_seed_has_an_order_of_its_own(tmp_path: Path) -> None:
    files = [write(tmp_path, [60, 40])]
    made = Batches(files, TRANSFORM, 100, shuffle=100, seed=1)
    other = Batches(files, TRANSFORM, 100, shuffle=100, seed=2)
    orders = [seen(made.epoch(i))[0] for i in range(3)]
    orders.append(seen(other.epoch(0))[0])
    assert len({tuple(order) for order in orders}) == 4


def test_a_stream_is_its_epochs_one_after_another(tmp_path: Path) -> None:
    files = [write(tmp_path, [60, 40])]
    made = Batches(files, TRANSFORM, 16, shuffle=30, seed=1)
    epochs = [seen(made.epoch(i)) for i in range(4)]
    assert seen(made.repeat(2)) == epochs[0] + epochs[1]
    assert seen(made) == epochs[0]
    rest = seen(made.stream(1, 5).take(12))
    assert rest == (epochs[1][5:] + epochs[2] + epochs[3])[:12]


def test_a_buffer_mixes_rows_of_all_files(tmp_path: Path) -> None:
    files = [write(tmp_path, [300, 300])]
    made = Batches(files, TRANSFORM, 30, shuffle=60, seed=1)
    first = [row for batch in seen(made.epoch(0))[:2] for row in batch]
    assert max(first) - min(first) > 300


def test_the_rows_wanted_may_be_none_at_all(tmp_path: Path) -> None:
    made = Batches([write(tmp_path, [0, 0])], TRANSFORM, 8, 100)
    assert (made.rows, made.steps, seen(made)) == (0, 0, [])
    assert seen(made.repeat(None)) == []


@pytest.mark.parametrize("cut", [1, 17, 100])
def test_a_file_that_ends_too_early_is_named(tmp_path: Path, cut: int) -> None:
    files = write(tmp_path, [30])
    path = tmp_path / "part-00000"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"part-00000 is damaged"):
        Batches([files], TRANSFORM, 8)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    write(tmp_path, [30], packed=True)
    path = tmp_path / "part-00000.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-00000.gz cannot be unpacked"):
        Batches([str(path)], TRANSFORM, 8)


def test_a_glob_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*none-\*"):
        Batches([str(tmp_path / "none-*")], TRANSFORM, 8)


def test_a_damaged_record_stops_the_reading(tmp_path: Path) -> None:
    files = write(tmp_path, [30])
    path = tmp_path / "part-00000"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((tf.errors.DataLossError, InputError)):
        seen(Batches([files], TRANSFORM, 8))


def test_unpacked_files_go_with_the_batches(tmp_path: Path) -> None:
    made = Batches([write(tmp_path, [9], packed=True)], TRANSFORM, 8)
    folder = Path(made._blocks.files[0]).parent
    assert folder.exists()
    del made
    assert not folder.exists()
