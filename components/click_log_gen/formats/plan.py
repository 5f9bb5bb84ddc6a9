"""The work of an ingest: the files of a log, cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import log_paths
from components.click_log_gen.files.chunks import (
    HEAD_BYTES,
    Chunk,
    naming,
    open_raw,
)
from components.click_log_gen.formats import log_format
from components.click_log_gen.formats.log_format import LogFormat


def plan(source: LogFiles, field: str = "data.impressions.path") -> list[Chunk]:
    """Cuts the files of `source` that are not empty, as `log_paths` orders.

    Raises:
        InputError: no file, or one that the format cannot be.
    """
    chosen = log_format.of(source)
    plan: list[Chunk] = []
    for path, size, modified in log_paths.find(source.path, field):
        if size:
            with naming(path):
                for start, end, codec in _pieces(path, size, chosen):
                    first = plan[0].path if plan else path
                    stamp = (size, modified)
                    plan.append(
                        Chunk(len(plan), path, start, end, codec, stamp, first)
                    )
    return plan


def _pieces(
    path: str, size: int, chosen: LogFormat
) -> Iterator[tuple[int, int, str]]:
    with open_raw(path) as stream:
        packed = chosen.codec(stream.read(HEAD_BYTES), path)
    if packed:
        yield 0, -1, packed
        return
    for start, end in chosen.split(path, size):
        yield start, end, ""
