"""Cache of the analysis of a file, for later runs.

An entry is a zip archive of Arrow streams, one for each part of the analysis,
in a folder or an object store. It may be emptied while no run uses it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import tensorflow as tf

from serving.object_store import StoreFiles, is_store

log = logging.getLogger("lionctr.transform")

DAYS = 30  # an entry is kept after its last use
BYTES = 10 << 30  # of all entries; those used within a day are never removed
_DAY = 86_400.0
_BLOCK = 1 << 22
# Entries, whole or unfinished, and those of earlier versions (without .zip);
# other files are not ours.
_NAME = re.compile(r"[0-9a-f]{64}(\.zip)?(\.[0-9a-f]{32})?")


def name(file: str, version: str) -> str:
    """Name of the entry of `file`: a hash of its content and `version`.

    version: what the entry depends on besides the file.
    """
    digest = hashlib.sha256(version.encode() + b"\0")
    with tf.io.gfile.GFile(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return f"{digest.hexdigest()}.zip"


def path(folder: str, name: str) -> str:
    """Where an entry is, or would be."""
    return os.path.join(folder, name)


def has(folder: str, name: str, schemas: Sequence[pa.Schema]) -> bool:
    """True if there is an entry, whole and of tables of these schemas.

    If so, it counts as used now.
    """
    entry = path(folder, name)
    try:
        if not _exists(entry):
            return False
        data = _content(entry)
        _check(data, schemas)
        if _age(entry) > _DAY / 2:
            _replace(entry, data)
    except Exception as error:  # whatever it is, the file itself can be read
        log.warning("%s cannot be used: %s", entry, error)
        return False
    return True


def put(folder: str, name: str, found: Sequence[pa.Table]) -> str:
    """Writes an entry, a table for each part; returns its path."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for index, table in enumerate(found):
            with archive.open(_member(index), "w") as stream:
                _write(table, stream)
    entry = path(folder, name)
    _replace(entry, data.getvalue())
    return entry


def read(entry: str, index: int) -> pa.Table:
    """Tables of the part `index`, of the entry at that path."""
    file = io.BytesIO(_content(entry)) if is_store(entry) else None
    with (
        file or tf.io.gfile.GFile(entry, "rb") as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        return _read(archive, index)


def clean(folder: str, days: float = DAYS, most: int = BYTES) -> None:
    """Removes entries that were not used for `days`, or are too many.

    The longest unused go first, until all have at most `most` bytes.
    """
    found = []
    for item, size, age in _entries(folder):
        if _NAME.fullmatch(item):
            found.append((age, size, path(folder, item)))
    total = sum(size for _, size, _ in found)
    for age, size, entry in sorted(found, reverse=True):
        if age > days * _DAY or (total > most and age > _DAY):
            _remove(entry)
            total -= size


def _replace(entry: str, data: bytes) -> None:
    """Writes a file; a reader sees all of it or what was there before."""
    if is_store(entry):
        with StoreFiles().open(entry, "wb") as stream:
            stream.write(data)
        return
    unfinished = f"{entry}.{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(unfinished, "wb") as stream:
        stream.write(data)
    tf.io.gfile.rename(unfinished, entry, overwrite=True)


def _read(archive: zipfile.ZipFile, index: int) -> pa.Table:
    data = archive.read(_member(index))  # compares its checksum
    return pa.ipc.open_stream(data).read_all()


def _write(table: pa.Table, stream: IO[bytes]) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(stream, table.schema, options=options) as writer:
        writer.write_table(table)


def _check(data: bytes, schemas: Sequence[pa.Schema]) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for index, schema in enumerate(schemas):
            table = _read(archive, index)
            table.validate(full=True)
            if table.schema != schema:
                raise ValueError(f"part {index} is {table.schema}")


def _member(index: int) -> str:
    return f"{index}.arrow"


def _exists(entry: str) -> bool:
    if is_store(entry):
        return StoreFiles().exists(entry)
    return bool(tf.io.gfile.exists(entry))


def _content(entry: str) -> bytes:
    if is_store(entry):
        with StoreFiles().open(entry, "rb") as stream:
            return bytes(stream.read())
    with tf.io.gfile.GFile(entry, "rb") as stream:
        return bytes(stream.read())


def _entries(folder: str) -> Iterator[tuple[str, int, float]]:
    """Name, bytes and age of each file of a folder."""
    if is_store(folder):
        for name, info in StoreFiles().below(folder).items():
            yield name, info.size, time.time() - info.mtime_ns / 1e9
        return
    for name in tf.io.gfile.listdir(folder):
        entry = path(folder, name)
        yield name, tf.io.gfile.stat(entry).length, _age(entry)


def _remove(entry: str) -> None:
    if is_store(entry):
        StoreFiles().remove(entry)
    else:
        tf.io.gfile.remove(entry)


def _age(entry: str) -> float:
    """Seconds since it was written."""
    if is_store(entry):
        return time.time() - float(StoreFiles().info(entry).mtime_ns) / 1e9
    return time.time() - tf.io.gfile.stat(entry).mtime_nsec / 1e9
