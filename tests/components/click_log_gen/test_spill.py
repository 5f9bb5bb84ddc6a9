"""Spilled rows and the match of one partition."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

from components.click_log_gen.join import matching
from components.click_log_gen.output import spill
from tests.components.click_log_gen.ingest import (
    Row,
)


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
    found = matching.match(Columns(rows), Columns(clicks), 10**15, far)
    assert found.impressions.tolist() == [matching.KEPT, matching.HELD_BACK]
    assert found.clicks.tolist() == [matching.LATE, matching.EARLY]
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
            with spill.Writer(path) as writer:
                for rows in np.array_split(part, 9):
                    text = [b"x" * (i % 50) for i in rows]
                    batch = pa.record_batch(
                        [pa.array(rows), pa.array(text, pa.binary())],
                        schema=schema,
                    )
                    writer.add(batch, where[rows])
    for partition in range(5):
        rows = spill.SpilledRows(paths, partition, schema)
        wanted = np.flatnonzero(where == partition)
        assert rows.column("n").to_pylist() == wanted.tolist()
        sizes = [len(text) for text in rows.column("text").to_pylist()]
        assert sizes == [i % 50 for i in wanted]
        assert rows.chunks.tolist() == (1 + (wanted >= 400)).tolist()
