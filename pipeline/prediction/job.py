"""A scoring as a whole: planned, gone on with, and shown when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from components.click_log_gen import checks
from components.click_log_gen.columns import feature_check
from components.click_log_gen.files.chunks import Chunk, naming
from components.click_log_gen.formats import log_format
from components.click_log_gen.formats.plan import plan
from components.click_log_gen.output.row_counts import RowCounts
from models.config.labels import CTR
from models.errors import InputError, RefusedError
from pipeline import beam as beam_options
from pipeline.prediction import chunk as chunks
from pipeline.prediction.source import LOGS, Source

SUMMARY = "predict.json"
FORMATS = ("parquet", "csv")
_PLAN = ".plan.json"
_HISTORY = (
    "a history, which ingest made from the training log. Batch scoring takes it"
    " from LOGS, as the server takes it from a request: what the user did"
    " before the row's time, newest last"
)
log = logging.getLogger("lionctr.predict")


@dataclass(frozen=True)
class Output:
    """Where the predictions go, and what stands beside them.

    format: parquet or csv. keep: columns of the log.
    """

    folder: Path
    format: str = "parquet"
    keep: tuple[str, ...] = ()

    @property
    def work(self) -> Path:
        """Where files are until all are whole."""
        folder = self.folder.absolute()
        return folder.with_name(f".{folder.name}.unfinished")


def score(
    source: Source, output: Output, beam_arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """Scores every row of the log; returns the summary.

    The folder appears at once with all files. A scoring that was killed is
    gone on with: what it finished is not scored again.

    Raises:
        InputError: a file cannot be read, too many rows are rejected, or the
            folder is there already with something else in it.
        RefusedError: another process writes there.
    """
    _check_columns(source, output.keep)
    pieces = plan(source.log, LOGS)
    identity = _identity(source, output, pieces)
    there = _there(output.folder, identity)
    if there is not None:
        log.info("%s is there already", output.folder)
        return there
    if not pieces:
        raise InputError(f"{', '.join(source.log.path)}: every file is empty")
    _check_histories(source, pieces[0])
    output.work.mkdir(parents=True, exist_ok=True)
    with _alone(output.work):
        _begin(output.work, identity)
        left = [p for p in pieces if not _counts(output.work, p).exists()]
        if len(left) < len(pieces):
            log.info(
                "%d of %d parts are there", len(pieces) - len(left), len(pieces)
            )
        if left:
            _run(left, source, output, len(pieces), beam_arguments)
        summary = _summary(source, output, pieces)
        _finish(source, output, pieces, {**summary, "identity": identity})
    return summary


def _check_columns(source: Source, keep: Sequence[str]) -> None:
    known = source.log.all_columns
    for name in keep:
        if name in source.outputs:
            raise InputError(
                f"--columns: received {name!r}, the column of predictions"
            )
        if keep.count(name) > 1:
            raise InputError(f"--columns: received {name!r} twice")
        if known is not None and name not in known:
            raise InputError(
                f"--columns: received {name!r}; accepted: {', '.join(known)}"
            )


def _check_histories(source: Source, piece: Chunk) -> None:
    """Refuses a log without the columns that ingest made in training."""
    reader = log_format.of(source.log)
    if not source.made or not reader.names_columns:
        return
    with naming(piece.path):
        names = [
            *reader.names(piece, source.log),
            *(source.log.all_columns or ()),
        ]
        for name in source.made:
            if name not in names:
                raise InputError(
                    f"no column {name!r}: {_HISTORY}. Its columns:"
                    f" {', '.join(names):.2000}"
                )


def _identity(source: Source, output: Output, pieces: Sequence[Chunk]) -> str:
    """The same only for the same version, files, columns and format."""
    content = {
        "model": [Path(source.model).name, source.identity],
        "log": source.log.model_dump(mode="json"),
        "pieces": [asdict(piece) for piece in pieces],
        "output": [output.format, output.keep],
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _there(folder: Path, identity: str) -> dict[str, Any] | None:
    """The summary of this very scoring, if the folder holds it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        found = json.loads((folder / SUMMARY).read_text("utf-8"))
        if found.pop("identity") == identity:
            return dict(found)
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    raise InputError(
        f"--out: {folder} is there and holds something else. Accepted: a folder"
        " that is not there, or one with the predictions of this very log,"
        " version, columns and format"
    )


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Holds the work folder; a killed process lets it go."""
    descriptor = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RefusedError(f"another process writes to {work}") from None
    finally:
        os.close(descriptor)


def _begin(work: Path, identity: str) -> None:
    """Empties the folder, unless it is of this very scoring."""
    written = work / _PLAN
    if written.exists() and json.loads(written.read_text()) == identity:
        return
    for entry in work.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (work / chunks.REJECTED).mkdir()
    chunks.write_whole(written, identity)


def _counts(work: Path, piece: Chunk) -> Path:
    return work / chunks.COUNTS.format(piece.number)


def _run(
    left: Sequence[Chunk],
    source: Source,
    output: Output,
    number: int,
    beam_arguments: Sequence[str],
) -> None:
    job = chunks.Scoring(
        source.model,
        source.log,
        source.features,
        source.ranges,
        output.keep,
        str(output.work),
        output.format,
        number,
        source.time,
    )
    given = [*source.beam, *beam_arguments]
    options = beam_options.arguments(given) + beam_options.threads(given)
    errors = output.work / ".errors"
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        _ = (
            pipeline
            | "Chunks" >> beam.Create(left)
            | "Spread" >> beam.Reshuffle()
            | "Score" >> beam.ParDo(chunks.Score(job))
            | "Errors" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write, str(errors))
        )
    found = json.loads(errors.read_text("utf-8"))
    errors.unlink()
    if found:
        # One file may have many chunks, and one mistake many files.
        raise InputError("\n".join(sorted(set(found))[:5]))


def _write(errors: list[str], path: str) -> None:
    chunks.write_whole(Path(path), errors)


def _summary(
    source: Source, output: Output, pieces: Sequence[Chunk]
) -> dict[str, Any]:
    parts = [
        json.loads(_counts(output.work, piece).read_text("utf-8"))
        for piece in pieces
    ]
    tally = RowCounts()
    for part in parts:
        tally.add(part)
    rows = tally.counts["scored"]
    scored = [p["outputs"] for p in parts if p["counts"].get("scored")]
    answers = {
        name: [part[name] for part in scored]
        for name in (scored[0] if scored else {CTR: None})
    }
    found = feature_check.total(parts, source.features)
    return {
        "model": source.model,
        "version": int(Path(source.model).name),
        "export_id": source.identity,
        "files": len({piece.path for piece in pieces}),
        "read": tally.counts["read"],
        "scored": rows,
        "rejected": tally.counts["rejected"],
        "reasons": dict(tally.reasons.most_common()),
        "examples": tally.examples,
        "outputs": list(answers),
        **{
            f"{what}_{name}": value
            for name, found in answers.items()
            for what, value in (
                (
                    "mean",
                    sum(one["sum"] for one in found) / rows if rows else None,
                ),
                ("min", min((one["min"] for one in found), default=None)),
                ("max", max((one["max"] for one in found), default=None)),
            )
        },
        "warnings": [
            f"column {name} has no value in any row"
            + ("; " + _HISTORY if name in source.made else "")
            for name in (found["empty_columns"] if rows else ())
        ]
        + [
            f"column {name}: {count:,} rows hold an integer out of range, which"
            " is read as missing"
            for name, count in found["out_of_range"].items()
            if count
        ],
    }


def _finish(
    source: Source,
    output: Output,
    pieces: Sequence[Chunk],
    summary: dict[str, Any],
) -> None:
    """Checks the counts, and moves the folder in place."""
    work = output.work
    rejected = work / chunks.REJECTED
    chunks.write_whole(
        rejected / "counts.json", {"reasons": summary["reasons"]}
    )
    try:
        checks.check_rejected(summary, source.max_rejected, "rows")
    except InputError as error:
        raise InputError(
            f"{error}\nRejected rows: lionctr rejected {rejected}\nWith"
            " --max-rejected 1, what is scored already is used"
        ) from None
    chunks.write_whole(work / SUMMARY, summary)
    output.folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    _sync(work)
    for piece in pieces:
        _counts(work, piece).unlink()
    (work / _PLAN).unlink()
    work.rename(output.folder.absolute())


def _sync(folder: Path) -> None:
    """Flushes all files, so that a power cut leaves none of them empty."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
