"""Checkpoints of a training: whole or absent, and checked when read."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from models.variables import (
    assign_rows,
    numpy_dtype,
    rows_of,
    rows_per_part,
)

log = logging.getLogger("lionctr.train")
INDEX, _ARRAYS = "index.json", "arrays.bin"
ORIGIN = "origin.json"  # of the whole training
_STEP = "step-"
_PART = 1 << 24  # bytes read and written at a time


class DamagedError(Exception):
    """A checkpoint that is not what was written, or is of another model."""


class Checkpoints:
    """The newest few checkpoints of a training, in one folder.

    A checkpoint is a folder `step-<n>` of two files: `arrays.bin`, the
    variables' bytes one after the other, and `index.json`, which tells where
    each begins, its checksum, and the training's own state. Tables are read
    and written in parts: no copy of one is ever made.

    Args:
        folder: a path, or a URI that TensorFlow's file systems know.
        keep: how many are kept.
    """

    def __init__(self, folder: str, keep: int = 2) -> None:
        self.folder = folder.rstrip("/")
        self._keep = keep

    def save(
        self, step: int, variables: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        """Writes a checkpoint, then removes the oldest.

        Raises:
            FloatingPointError: a variable holds values that are not finite.
            OSError: it cannot be written; those before are still there.
        """
        final = f"{self.folder}/{_STEP}{step:010d}"
        part = f"{self.folder}/part-{uuid.uuid4().hex}"
        try:
            tf.io.gfile.makedirs(part)
            with _create(f"{part}/{_ARRAYS}") as file:
                arrays = [
                    _write(file, name, variable)
                    for name, variable in variables.items()
                ]
            index = {"step": step, "state": dict(state), "arrays": arrays}
            text = json.dumps(index).encode()
            with _create(f"{part}/{INDEX}") as file:
                file.write(b"%08x\n" % google_crc32c.value(text))
                file.write(text)
            _replace(part, final)
        except (OSError, tf.errors.OpError) as error:
            _remove(part)
            raise OSError(
                f"The checkpoint of step {step} cannot be written to"
                f" {self.folder}: {_reason(error)}. Earlier checkpoints are"
                " kept; make room and run again: training goes on from the"
                " last one"
            ) from error
        except BaseException:
            _remove(part)
            raise
        for old in self._steps()[: -self._keep]:
            _remove(f"{self.folder}/{old}")

    def restore(self, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """Reads the newest checkpoint that is whole into `variables`.

        Returns:
            What `save` was given as `state`; None if there is no checkpoint,
            and then nothing was changed.
        """
        for name in reversed(self._steps()):
            folder = f"{self.folder}/{name}"
            try:
                return self.restore_from(folder, variables)
            except (DamagedError, OSError, tf.errors.OpError) as error:
                log.warning(
                    "checkpoint %s is left aside, the one before is taken: %s",
                    folder,
                    _reason(error),
                )
        return None

    def restore_from(
        self, folder: str, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Reads one checkpoint into `variables`, after checking all of it."""
        index = read_index(folder)
        arrays = {array["name"]: array for array in index["arrays"]}
        for name, variable in variables.items():
            found = arrays.get(name)
            expected = [list(variable.shape), numpy_dtype(variable).name]
            if found is None or [found["shape"], found["dtype"]] != expected:
                raise DamagedError(f"{name} is missing, or of another shape")
        check(folder, index)
        with tf.io.gfile.GFile(arrays_path(folder), "rb") as file:
            for name, variable in variables.items():
                _read(file, arrays[name], variable)
        state: dict[str, Any] = index["state"]
        return state

    def describe(self, graph: str, code: str) -> None:
        """Notes what the training needs to go on, for who sweeps the folder.

        Args:
            graph: folder of the transform's graph that it reads.
            code: version of the code that it can go on with.
        """
        tf.io.gfile.makedirs(self.folder)
        with tf.io.gfile.GFile(f"{self.folder}/{ORIGIN}", "w") as file:
            file.write(json.dumps({"graph": graph, "code_version": code}))

    def newest(self) -> str | None:
        """Folder of the newest one; None where there is none."""
        steps = self._steps()
        return f"{self.folder}/{steps[-1]}" if steps else None

    def clear(self) -> None:
        """Removes all of them."""
        _remove(self.folder)

    def _steps(self) -> list[str]:
        """Names of the checkpoints, oldest first."""
        if not tf.io.gfile.isdir(self.folder):
            return []
        names = (n.rstrip("/") for n in tf.io.gfile.listdir(self.folder))
        return sorted(n for n in names if n.startswith(_STEP))


def read_index(folder: str) -> dict[str, Any]:
    """The index of a checkpoint.

    Raises:
        DamagedError: it is not what was written.
    """
    with tf.io.gfile.GFile(f"{folder}/{INDEX}", "rb") as file:
        head, _, text = file.read().partition(b"\n")
    if head != b"%08x" % google_crc32c.value(text):
        raise DamagedError(f"{INDEX} has a wrong checksum")
    index: dict[str, Any] = json.loads(text)
    return index


def arrays_path(folder: str) -> str:
    """The file of a checkpoint with the values of its arrays."""
    return f"{folder}/{_ARRAYS}"


def check(folder: str, index: Mapping[str, Any]) -> None:
    """Reads all of a checkpoint once.

    Raises:
        DamagedError: a value is not what was written.
    """
    with tf.io.gfile.GFile(arrays_path(folder), "rb") as file:
        for array in index["arrays"]:
            found = google_crc32c.Checksum()
            for part in parts_of(file, array):
                found.update(part)
            if int.from_bytes(found.digest(), "big") != array["crc32c"]:
                raise DamagedError(f"{array['name']} has a wrong checksum")


def _create(path: str) -> Any:
    if "://" in path:
        return tf.io.gfile.GFile(path, "wb")
    return Path(path).open("wb")


def _write(file: Any, name: str, variable: Any) -> dict[str, Any]:
    begin = file.tell()
    check = google_crc32c.Checksum()
    for values in rows_of(variable):
        if np.issubdtype(values.dtype, np.inexact) or values.dtype.kind == "V":
            _must_be_finite(name, values)
        # An array of no dimension has no other view of its bytes.
        part = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        check.update(bytes(part))
        file.write(part)
    return {
        "name": name,
        "shape": list(variable.shape),
        "dtype": numpy_dtype(variable).name,
        "begin": begin,
        "bytes": file.tell() - begin,
        "crc32c": int.from_bytes(check.digest(), "big"),
    }


def _must_be_finite(name: str, values: Any) -> None:
    # A sum is quicker; it may overflow where each value is finite.
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum(dtype=np.float32)):
            return
    if not np.isfinite(values.astype(np.float64)).all():
        raise FloatingPointError(
            f"{name.partition('/')[2]} holds values that are not finite"
        )


def parts_of(file: Any, array: Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of an array of a checkpoint, a few at a time."""
    file.seek(array["begin"])
    left = array["bytes"]
    while left:
        part = file.read(min(left, _PART))
        if not part:
            raise DamagedError(f"{_ARRAYS} ends early")
        left -= len(part)
        yield part


def _read(file: Any, array: Mapping[str, Any], variable: Any) -> None:
    dtype, shape = numpy_dtype(variable), tuple(array["shape"])
    rows, per_part = rows_per_part(shape, dtype.itemsize)
    file.seek(array["begin"])
    if rows <= per_part:
        data = np.frombuffer(file.read(array["bytes"]), dtype)
        variable.assign(data.reshape(shape))
        return
    row = array["bytes"] // rows
    for start in range(0, rows, per_part):
        stop = min(start + per_part, rows)
        data = np.frombuffer(file.read((stop - start) * row), dtype)
        assign_rows(variable, start, data.reshape(stop - start, *shape[1:]))


def _replace(part: str, final: str) -> None:
    """Moves a folder to its final name, over one that is there."""
    if "://" not in part:
        for name in (_ARRAYS, INDEX):
            with Path(part, name).open("rb") as file:
                os.fsync(file.fileno())
    _remove(final)
    tf.io.gfile.rename(part, final)


def _remove(folder: str) -> None:
    if tf.io.gfile.isdir(folder):
        tf.io.gfile.rmtree(folder)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(getattr(error, "message", error))
