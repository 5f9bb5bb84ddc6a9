"""One chunk of a log to a file of predictions, on whatever worker."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from apache_beam.utils.shared import Shared

from components.click_log_gen.columns import item_lists
from components.click_log_gen.columns.event_time import event_time, text_of
from components.click_log_gen.columns.feature_check import FeatureCheck
from components.click_log_gen.columns.rows import (
    ColumnForm,
    Rows,
    Verdicts,
    refuse_unequal,
    typed,
)
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_reader
from components.click_log_gen.output.row_counts import RowCounts
from components.click_log_gen.output.shards import Shards
from components.example_io.tf_example import encode
from models.config.event_time import TimeColumn
from models.config.labels import CTR
from models.errors import InputError
from serving.manifest import BLOCK

SIGNATURE = "serving_default"
EXAMPLES = "examples"  # signature, of lists whose texts would be others
CALL_ROWS = 4096  # of one call of the model, a multiple of BLOCK
REJECTED = "rejected"
Predictions = dict[str, npt.NDArray[np.float32]]
COUNTS = ".counts-{:05d}.json"  # of a chunk whose file is whole


@dataclass(frozen=True)
class Scoring:
    """All that a worker needs besides the chunk.

    keep: columns of the log beside the predictions.
    folder: of the files; all workers reach it. format: parquet or csv.
    """

    model: str
    log: LogFiles
    features: Mapping[str, ColumnForm]
    ranges: Mapping[str, int]
    keep: tuple[str, ...]
    folder: str
    format: str
    chunks: int
    time: TimeColumn | None = None


class Score(beam.DoFn):
    """Scores chunks; the threads of a process share the model."""

    def __init__(self, job: Scoring) -> None:
        super().__init__()
        self._job = job
        self._shared = Shared()

    def process(self, chunk: Chunk) -> list[str]:
        """The chunk's error as the one result; runners lose its type."""
        try:
            model = self._shared.acquire(self._load, self._job.model)
            score(chunk, self._job, model)
        except InputError as error:
            return [str(error)]
        return []

    def _load(self) -> Model:
        return Model(self._job.model)


class Model:
    """A version as the server loads it."""

    def __init__(self, path: str) -> None:
        """Loads it.

        Raises:
            InputError: it cannot be loaded.
        """
        from serving import tensorflow_parts
        from serving.errors import ServingError

        tensorflow_parts.prepare()  # the next line imports it
        from serving.savedmodel import LoadedModel

        try:
            self._loaded = LoadedModel(Path(path))
        except ServingError as error:
            raise InputError(f"{path}: {error}") from None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Its outputs, `ctr` and, of several labels, the others."""
        found = self._loaded.signatures[SIGNATURE].outputs
        return (CTR, *sorted(found.keys() - {CTR}))

    @property
    def takes_lists(self) -> bool:
        """True if `examples` takes several values of a feature."""
        return self._loaded.lists is not None

    def predict(
        self, features: Mapping[str, pa.Array], separators: Mapping[str, str]
    ) -> Predictions:
        """Output -> its probability of each row, [rows].

        Args:
            features: name -> float32, int64, string or lists of it, [rows].
            separators: of the features that are lists.
        """
        columns = {}
        rows = len(next(iter(features.values())))
        no_text = np.zeros(rows, np.bool_)
        for name, array in features.items():
            text = array
            if name in separators:
                text, bad = item_lists.joined(array, separators[name])
                no_text |= bad
            columns[name] = _served(text)
        found = self._call(SIGNATURE, columns, rows)
        if no_text.any():
            some = pa.array(no_text)
            lists = {n: array.filter(some) for n, array in features.items()}
            examples = encode(lists).to_numpy(zero_copy_only=False)
            others = self._call(EXAMPLES, {EXAMPLES: examples}, len(examples))
            for name, values in others.items():
                found[name][no_text] = values
        return found

    def _call(
        self, signature: str, columns: Mapping[str, npt.NDArray[Any]], rows: int
    ) -> Predictions:
        """Calls of whole blocks, as the server's are: the bits are the same."""
        found = {name: [np.zeros(0, np.float32)] for name in self.outputs}
        for start in range(0, rows, CALL_ROWS):
            size = min(CALL_ROWS, rows - start)
            missing = -size % BLOCK
            part = {
                name: np.concatenate([values, values[:1].repeat(missing)])
                if missing
                else values
                for name, whole in columns.items()
                for values in [whole[start : start + size]]
            }
            outputs = self._loaded.predict(signature, part)
            for name, parts in found.items():
                parts.append(outputs[name].reshape(-1)[:size])
        return {name: np.concatenate(parts) for name, parts in found.items()}


def _served(array: pa.Array) -> npt.NDArray[Any]:
    """A column as the signature takes it: NaN, -1 or "" for what is missing."""
    if pa.types.is_floating(array.type):
        return pc.fill_null(array, np.nan).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(array.type):
        return pc.fill_null(array, -1).to_numpy(zero_copy_only=False)
    # One Python object for each value that differs, and not for each row.
    coded = pc.fill_null(array, "").dictionary_encode()
    texts = coded.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False)
    return texts[coded.indices.to_numpy()]


def score(chunk: Chunk, job: Scoring, model: Model) -> None:
    """Writes the predictions of a chunk, its rejected rows and its counts.

    The counts come last: a chunk that has them is not scored again.

    Raises:
        InputError: the file as a whole cannot be read; with its name.
    """
    tally = RowCounts()
    check = FeatureCheck(job.ranges)
    wanted = {name: form.reads for name, form in job.features.items()}
    separators = {
        name: form.separator
        for name, form in job.features.items()
        if form.separator
    }
    # As text, so that none is rounded.
    wanted |= dict.fromkeys(job.keep, "string")
    answers = {name: _Answers() for name in model.outputs}
    rejected = {REJECTED: os.path.join(job.folder, REJECTED)}
    shards = Shards(rejected, chunk.number, job.chunks)
    with (
        naming(chunk.path),
        shards,
        _File(job, chunk.number, model.outputs) as file,
    ):
        for rows in log_reader.read(chunk, job.log, wanted):
            verdicts = Verdicts.none(rows.count)
            features = _features(rows, job, verdicts)
            if not model.takes_lists:
                _refuse_unsayable(features, separators, verdicts)
            kept = _kept(rows, job, verdicts)
            bad = rows.refused(chunk.path, verdicts.reasons)
            tally.reject(bad)
            shards.reject(bad)
            tally.counts["read"] += rows.count + len(rows.rejected)
            if not verdicts.good.all():
                good = pa.array(verdicts.good)
                features = {n: a.filter(good) for n, a in features.items()}
                kept = [array.filter(good) for array in kept]
            predictions = model.predict(features, separators)
            file.write(kept, predictions)
            check.see(features)
            tally.counts["scored"] += len(predictions[CTR])
            for name, found in answers.items():
                found.see(predictions[name])
    counts = {
        **tally.to_json(),
        **check.to_json(),
        "outputs": {name: asdict(found) for name, found in answers.items()},
    }
    write_whole(Path(job.folder, COUNTS.format(chunk.number)), counts)


@dataclass
class _Answers:
    """Sum, least and greatest probability of one output."""

    sum: float = 0.0
    min: float = 1.0
    max: float = 0.0

    def see(self, values: npt.NDArray[np.float32]) -> None:
        if len(values):
            self.min = min(self.min, float(values.min()))
            self.max = max(self.max, float(values.max()))
            self.sum += float(values.sum(dtype=np.float64))


def write_whole(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(value, indent=1), "utf-8")
    temporary.replace(path)


def _features(
    rows: Rows, job: Scoring, verdicts: Verdicts
) -> dict[str, pa.Array]:
    """As ingest makes them."""
    features = {}
    for name, form in job.features.items():
        array = rows.columns[name]
        column = rows.column(name, job.log.null_values, form)
        if form.kind == "time":
            times = event_time(array, column, verdicts, job.time)
            features[name] = text_of(times)
        else:
            features[name] = typed(array, form.kind, column, verdicts)
    refuse_unequal(features, job.features, verdicts)
    return features


def _refuse_unsayable(
    features: Mapping[str, pa.Array],
    separators: Mapping[str, str],
    verdicts: Verdicts,
) -> None:
    """Refuses lists that a model of an earlier version takes for others."""
    for name, separator in separators.items():
        verdicts.refuse(
            item_lists.joined(features[name], separator)[1],
            f"column {name}: a value with the separator {separator!r} in it; an"
            " older lion-ctr exported the model, which takes a list as a text",
        )


def _kept(rows: Rows, job: Scoring, verdicts: Verdicts) -> list[pa.Array]:
    nulls = job.log.null_values
    found = []
    for name in job.keep:
        column = rows.column(name, nulls, job.features.get(name))
        found.append(column.written(rows.columns[name], verdicts))
    return found


class _File:
    """The predictions of one chunk; it exists only if it is whole."""

    def __init__(
        self, job: Scoring, number: int, outputs: Sequence[str]
    ) -> None:
        name = f"predictions-{number:05d}-of-{job.chunks:05d}.{job.format}"
        self._path = Path(job.folder, name)
        self._temporary = Path(job.folder, f".{name}")
        self._schema = schema(job.keep, outputs)
        self._is_csv = job.format == "csv"

    def __enter__(self) -> _File:
        kind = pa.csv.CSVWriter if self._is_csv else pa.parquet.ParquetWriter
        self._writer = kind(self._temporary, self._schema)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)

    def write(self, kept: Sequence[pa.Array], predictions: Predictions) -> None:
        """Adds rows."""
        columns = [array.cast(pa.string()) for array in kept]
        columns += [pa.array(values) for values in predictions.values()]
        table = pa.table(columns, schema=self._schema)
        self._writer.write_table(table)


def schema(keep: Sequence[str], outputs: Sequence[str] = (CTR,)) -> pa.Schema:
    """The columns that are kept, as text, and the predictions."""
    fields = [(name, pa.string()) for name in keep]
    return pa.schema([*fields, *((name, pa.float32()) for name in outputs)])
