"""Contract of every log format, for a test to call on a sample file."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.click_log_gen.columns.rows import Verdicts
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import chunks
from components.click_log_gen.files.chunks import naming
from components.click_log_gen.formats import log_format, log_reader
from components.click_log_gen.formats.plan import plan
from models.errors import InputError

_SIZES = (1, 7, 64, 1000)  # bytes of a chunk, and of a block
_CUTS = 24  # lengths to which the sample is cut

Row = tuple[str | None, ...]


def check(
    format: str, sample: Path, columns: Mapping[str, str], **settings: Any
) -> None:
    """Puts a log format through the ingest's demands.

    Args:
        format: as in the config, such as "my_formats:Fixed".
        sample: a file of it that is not packed, of 3 good rows or more.
        columns: columns of the sample -> kind: string, float or int.
        settings: of the log, such as `header=True`.

    Raises:
        AssertionError: it says which demand is not met.
    """
    source = LogFiles(path=(str(sample),), format=format, **settings)
    expected = _rows(source, columns)
    assert len(expected) >= 3, f"{len(expected)} good rows in the sample"
    _check_chunking(source, columns, expected)
    with tempfile.TemporaryDirectory() as folder:
        _check_empty(source, Path(folder))
        _check_packed(source, columns, expected, Path(folder))
        _check_damaged(source, columns, Path(folder))


def _check_chunking(
    source: LogFiles, columns: Mapping[str, str], expected: list[Row]
) -> None:
    for size in _SIZES:
        with _cut_into(size):
            found = _rows(source, columns)
        assert found == expected, f"chunks of {size} bytes give other rows"


def _check_empty(source: LogFiles, folder: Path) -> None:
    (folder / "empty").touch()
    empty = source.model_copy(update={"path": (str(folder / "empty"),)})
    assert plan(empty) == [], "an empty file is no work"


def _check_packed(
    source: LogFiles,
    columns: Mapping[str, str],
    expected: list[Row],
    folder: Path,
) -> None:
    packed = folder / "packed.gz"
    packed.write_bytes(gzip.compress(Path(source.path[0]).read_bytes()))
    source = source.model_copy(update={"path": (str(packed),)})
    if log_format.of(source).packable:
        assert _rows(source, columns) == expected, "gzip gives other rows"
        return
    _check_refusal(source, columns, "gzip", must=True)


def _check_damaged(
    source: LogFiles, columns: Mapping[str, str], folder: Path
) -> None:
    """A file cut anywhere, or overwritten, is read or refused by name."""
    data = Path(source.path[0]).read_bytes()
    damaged = folder / "damaged"
    source = source.model_copy(update={"path": (str(damaged),)})
    for size in range(1, len(data), max(1, len(data) // _CUTS)):
        for content in (data[:size], data[:size] + b"\0\xff\r" + data[size:]):
            damaged.write_bytes(content)
            _check_refusal(source, columns, f"damage at byte {size}")


def _check_refusal(
    source: LogFiles, columns: Mapping[str, str], what: str, must: bool = False
) -> None:
    try:
        _rows(source, columns)
    except InputError as error:
        named = str(error).startswith(source.path[0])
        assert named, f"{what}: {error} does not name the file"
    except Exception as error:
        raise AssertionError(
            f"{what}: {type(error).__name__} instead of InputError: {error}"
        ) from error
    else:
        assert not must, f"{what} is not refused"


def _rows(source: LogFiles, columns: Mapping[str, str]) -> list[Row]:
    """The good rows of a log as texts; counts and places are checked."""
    found: list[Row] = []
    for chunk in plan(source):
        with naming(chunk.path):
            places: list[int] = []
            rejected = 0
            for rows in log_reader.read(chunk, source, columns):
                places += rows.ordinal.tolist()
                rejected += len(rows.rejected)
                wheres, texts = rows.origins()
                assert len(wheres) == len(texts) == rows.count, "places"
                arrays = []
                for name in columns:
                    verdicts = Verdicts.none(rows.count)
                    column = rows.column(name, source.null_values)
                    array = column.text(rows.columns[name], verdicts)
                    assert len(array) == rows.count, f"length of {name}"
                    arrays.append(array.to_pylist())
                found += zip(*arrays, strict=True)
            counted = log_reader.count(chunk, source)
            total = len(places) + rejected
            assert total == counted, f"{total} rows read, {counted} counted"
            assert places == sorted(set(places)), "ordinals do not rise"
            assert not places or 0 <= places[0] <= places[-1] < total, (
                "ordinals are not positions among the rows of the chunk"
            )
    return found


@contextmanager
def _cut_into(size: int) -> Iterator[None]:
    before = chunks.CHUNK_BYTES, chunks.BLOCK_BYTES
    chunks.CHUNK_BYTES = chunks.BLOCK_BYTES = size
    try:
        yield
    finally:
        chunks.CHUNK_BYTES, chunks.BLOCK_BYTES = before
