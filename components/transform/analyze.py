"""The analysis as Beam passes: over the files, then over what to find."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf

from components.example_io.record_files import record_blocks
from components.transform import cache
from components.transform.columns import BYTES, ROWS
from components.transform.observation import Observer
from models.config.training import Features
from models.preprocessing import analyzers
from models.preprocessing.sightings import Sightings

log = logging.getLogger("lionctr.transform")


@beam.ptransform_fn
def Analyze(
    files: beam.PCollection[str],
    features: Features,
    spec: Mapping[str, Any],
    folder: str,
    entries: str,
    kept: str | None = None,
    version: str = "",
    ledgers: str = "",
    zone: str | None = None,
) -> beam.PCollection[None]:
    """Writes to `folder` what `preprocessing.analyzers` finds in `files`.

    Beam carries paths only. With threads in one process (multi_threading, Beam
    2.77) a timer flushes a stream once a second. It does so in the middle of an
    element, too, if pickling lets other threads run. The rest of it is then
    read as an element of its own, of billions of windows: 24 GiB were not
    enough. Strings and numbers are encoded without letting others run.

    entries: folder for what was found in each file.
    kept: folder where it is looked for, and goes as long as that works.
    version: what is found depends on, besides the files.
    ledgers: folder of those of the run before, for `admission`; "": none.
    zone: of the days that it counts by; None: UTC.
    """
    return (
        files
        | "Find"
        >> beam.ParDo(
            _Find(features, spec, entries, kept, version, ledgers, zone)
        )
        | "Together" >> beam.GroupByKey()
        | "Parts" >> beam.FlatMap(_parts, features)
        # Not spread: one after the other, no worker holds the values of two.
        | "Merge" >> beam.Map(_merge, features, folder, ledgers)
    )


class _Find(beam.DoFn):
    """File -> (None, path of its entry)."""

    def __init__(
        self,
        features: Features,
        spec: Mapping[str, Any],
        entries: str,
        kept: str | None,
        version: str,
        ledgers: str,
        zone: str | None,
    ) -> None:
        self._ledgers = ledgers
        self._zone = zone
        self._features = features
        self._spec = spec
        self._entries = entries
        self._kept = kept
        self._version = version

    def setup(self) -> None:
        self._observer = Observer(self._features, self._spec, self._zone)

    def process(self, file: str) -> Iterator[tuple[None, str]]:
        name = cache.name(file, self._version)
        parts = analyzers.parts(self._features, self._ledgers)
        if self._kept is not None and cache.has(
            self._kept, name, [part.schema for part in parts]
        ):
            entry = cache.path(self._kept, name)
            if not _partly_known(parts, functools.partial(cache.read, entry)):
                yield None, entry
                return
        found = look(file, self._observer, parts)
        entry = ""
        if self._kept is not None:
            try:
                entry = cache.put(self._kept, name, found)
            except (OSError, tf.errors.OpError) as error:
                log.warning("cannot keep what was found in %s: %s", file, error)
        if not entry or _partly_known(parts, found.__getitem__):
            entry = cache.put(self._entries, name, found)
        yield None, entry


def _partly_known(
    parts: Sequence[analyzers.Part], table: Callable[[int], pa.Table]
) -> bool:
    """True of a file of which runs before have counted some rows, not all.

    What the cache has of it does not tell which: it is looked at again. The
    run after does so too, for its ledger is another one.
    """
    return any(
        part.partly_known(table(index))
        for index, part in enumerate(parts)
        if isinstance(part, Sightings)
    )


def look(
    file: str, observer: Observer, parts: Sequence[analyzers.Part]
) -> list[pa.Table]:
    """Analysis of one file by `parts`, which have seen nothing."""
    for records in record_blocks(file, ROWS, BYTES):
        analyzers.add(parts, observer(records))
    return [part.save() for part in parts]


def _parts(
    item: tuple[None, Iterable[str]], features: Features
) -> Iterator[tuple[int, list[str]]]:
    # Entries are named by content: the files' names and places, and who was
    # ready first, do not change how sums are rounded.
    paths = sorted(item[1], key=lambda path: path.rpartition("/")[2])
    for index in range(len(analyzers.parts(features))):
        yield index, paths


def _merge(
    item: tuple[int, list[str]], features: Features, folder: str, ledgers: str
) -> None:
    index, paths = item
    total = analyzers.parts(features, ledgers)[index]
    for path in paths:
        total.merge(cache.read(path, index))
    total.write(folder)
    del total
    pa.default_memory_pool().release_unused()  # else the next adds to it
