"""Rows with histories: spilled as they are read, completed to tf.Examples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from components.click_log_gen import conversion
from components.click_log_gen.conversion import ConversionSettings
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.history import events
from components.click_log_gen.history.build import Histories
from components.click_log_gen.history.events import HistorySettings
from components.click_log_gen.output import spill
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.example_io.tf_example import join, wrap

_ROW = [
    ("features", pa.binary()),
    ("positive", pa.bool_()),
    ("side", pa.int8()),
    ("sampled", pa.bool_()),
]
_MORE = {"time": pa.int64(), "weight": pa.float32()}  # where they are read


@dataclass(frozen=True)
class CompletionSettings:
    """All that a worker needs besides the chunk.

    counts: good rows of each chunk.
    """

    conversion: ConversionSettings
    counts: Sequence[int]


def spill_chunk(chunk: Chunk, job: ConversionSettings) -> dict[str, Any]:
    """Spills the good rows of a chunk, and what they tell of their users.

    Returns the chunk's counts, and `rows`, how many are good.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    reading = conversion.Reading(chunk, job)
    shards = Shards(job.folders, chunk.number, job.chunks)
    assert job.histories is not None
    schema, block = _schema(job), job.histories.block
    with (
        naming(chunk.path),
        shards,
        spill.Writer(_path(job.histories, chunk.number)) as writer,
        events.Writer(job.histories, chunk.number) as found,
    ):
        for batch in reading.batches(shards):
            assert batch.moments is not None
            columns = {
                "features": join(*batch.features),
                "positive": batch.positive,
                "side": batch.sides,
                "sampled": batch.sampled,
                "time": batch.times,
                "weight": batch.weights,
            }
            numbers = found.rows + np.arange(len(batch.positive))
            arrays = [pa.array(columns[name]) for name in schema.names]
            writer.add(pa.record_batch(arrays, schema), numbers // block)
            found.add(batch.history, batch.moments, batch.positive)
    return {**reading.to_json(), "rows": found.rows}


def complete_chunk(chunk: Chunk, job: CompletionSettings) -> dict[str, Any]:
    """Writes the spilled rows of a chunk, each with its histories.

    Same chunk, same bytes.
    """
    settings = job.conversion
    assert settings.histories is not None
    schema = _schema(settings)
    tally = RowCounts()
    histories = Histories(settings.histories, chunk.number, job.counts)
    path = _path(settings.histories, chunk.number)
    left = job.counts[chunk.number]
    with Shards(settings.folders, chunk.number, settings.chunks) as shards:
        for block in range(-(-left // settings.histories.block)):
            rows = spill.SpilledRows([path], block, schema)
            found = {
                name: rows.column(name).to_numpy(zero_copy_only=False)
                for name in schema.names[1:]
            }
            conversion.write(
                shards,
                tally,
                settings.data.split.names,
                wrap(rows.column("features"), *histories.of(block, len(rows))),
                found["positive"],
                found["side"],
                found["sampled"],
                found.get("time"),
                found.get("weight"),
            )
    return {"chunk": chunk.number, **tally.to_json()}


def _path(job: HistorySettings, chunk: int) -> str:
    return os.path.join(job.work, f"rows-{chunk:05d}")


def _schema(job: ConversionSettings) -> pa.Schema:
    """Columns of the rows that are spilled."""
    there = {
        "time": job.data.reads_time,
        "weight": job.data.weight is not None,
    }
    return pa.schema([*_ROW, *((n, _MORE[n]) for n in _MORE if there[n])])
