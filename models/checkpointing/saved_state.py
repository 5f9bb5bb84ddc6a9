"""A training's state, kept beside its model: written, and read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.checkpointing.checkpoint import (
    Checkpoints,
    DamagedError,
    arrays_path,
    check,
    parts_of,
    read_index,
)
from models.keras_versions import keras_version
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import Layout
from models.variables import named_variables, scatter_rows

FOLDER = "Format-Training"  # beside TFX's Format-Serving
BASE = "base.json"  # where the model is that a training begins with
_VOCABULARY = "vocabulary/"
_PART = 1 << 24  # bytes of a table read at a time


@dataclass(frozen=True)
class Meaning:
    """Meaning of the rows, columns and slots of a model.

    keys: feature -> of its ids.
    text: reads a vocabulary by its name: values, a line each.
    columns: input of the model -> its place and width.
    optimizer: names of the optimizers, by group.
    shift: what corrects a logit for negatives that were left out.
    labels: of the model, where there are several, in order.
    """

    keys: Mapping[str, Keys]
    text: Callable[[str], bytes]
    columns: Mapping[str, str]
    optimizer: Sequence[Sequence[str]]
    shift: float = 0.0
    labels: Sequence[str] = ()


def save(
    folder: str,
    model: Any,
    optimizer: Any,
    meaning: Meaning,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes what `SavedTrainingState` reads: whole or absent.

    Args:
        folder: of the state; what was there is gone.
        model: built.
        optimizer: built.
        meaning: of both.
        beside: name in `folder` -> another folder, whose files are copied
            there. A state that is whole has them.

    Raises:
        OSError: it cannot be written.
        FloatingPointError: a weight is not finite.
    """
    variables = named_variables(model, optimizer)
    for name in {k.vocabulary for k in meaning.keys.values() if k.vocabulary}:
        text = np.frombuffer(meaning.text(name), np.uint8)
        variables[_VOCABULARY + name] = tf.Variable(text, trainable=False)
    steps = int(optimizer.iterations.numpy())
    kept = Checkpoints(folder, keep=1)
    kept.clear()  # one with more steps would pass for the newer
    for name, source in beside.items():
        _copy(source, f"{folder}/{name}")
    kept.save(
        steps,
        variables,
        {
            "iterations": steps,
            "keys": {name: asdict(k) for name, k in meaning.keys.items()},
            "tables": tables_of(model),
            "columns": dict(meaning.columns),
            "optimizer": list(map(list, meaning.optimizer)),
            "keras": keras_version(model),
            "shift": meaning.shift,
            "labels": list(meaning.labels),
        },
    )


def _copy(source: str, target: str) -> None:
    tf.io.gfile.makedirs(target)
    for name in tf.io.gfile.listdir(source):
        tf.io.gfile.copy(f"{source}/{name}", f"{target}/{name}")


class SavedTrainingState:
    """State that `save` wrote: arrays and their meaning.

    Args:
        folder: that `save` was given.

    Raises:
        DamagedError: it is not what was written.
        FileNotFoundError: there is nothing.
    """

    def __init__(self, folder: str) -> None:
        found = Checkpoints(folder).newest()
        if found is None:
            raise FileNotFoundError(f"no state of a training in {folder}")
        self.folder = folder
        index = read_index(found)
        check(found, index)
        self._path = arrays_path(found)
        self._arrays = {a["name"]: a for a in index["arrays"]}
        state = index["state"]
        self.iterations = int(state["iterations"])
        self.columns: dict[str, str] = state["columns"]
        self.optimizer: list[list[str]] = state["optimizer"]
        self.keras = int(state.get("keras", 3))  # earlier ones: not said
        self.shift: float | None = state.get("shift")  # earlier ones: none
        self.labels: list[str] = state.get("labels", [])
        self.tables: dict[str, dict[str, int]] = state["tables"]
        self.keys = {
            name: Keys(**{**keys, "of": tuple(keys["of"])})
            for name, keys in state["keys"].items()
        }

    @property
    def identity(self) -> str:
        """Another one for another state."""
        text = repr([(a["name"], a["crc32c"]) for a in self._arrays.values()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def names(self) -> list[str]:
        """Names of all that training had changed."""
        return [n for n in self._arrays if not n.startswith(_VOCABULARY)]

    def shape(self, name: str) -> list[int] | None:
        """Shape of an array; None: there is none of that name."""
        array = self._arrays.get(name)
        return None if array is None else list(array["shape"])

    def text(self, vocabulary: str) -> bytes:
        """Values of a vocabulary, a line each."""
        with tf.io.gfile.GFile(self._path, "rb") as file:
            array = self._arrays[_VOCABULARY + vocabulary]
            return b"".join(parts_of(file, array))

    @contextmanager
    def opened(self) -> Iterator[Arrays]:
        """The arrays, to be read."""
        with tf.io.gfile.GFile(self._path, "rb") as file:
            yield Arrays(file, self._arrays)


class Arrays:
    """Arrays of an open file, read a few rows at a time."""

    def __init__(self, file: Any, arrays: Mapping[str, Any]) -> None:
        self._file = file
        self._arrays = arrays

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> list[int]:
        """Shape of an array."""
        shape: list[int] = self._arrays[name]["shape"]
        return shape

    def copy(self, name: str, variable: Any) -> bool:
        """Gives a variable all values, if it is of that shape."""
        shape = self.shape(name)
        if shape != list(variable.shape):
            return False
        for start, values in self._slices(name):
            if len(values) == (shape or [1])[0]:
                variable.assign(values.reshape(shape))
            else:
                rows = np.arange(start, start + len(values))
                scatter_rows(variable, rows, values)
        return True

    def move(
        self, name: str, variable: Any, target: npt.NDArray[np.int64]
    ) -> None:
        """Gives row `target[i]` of a variable row i; none where it is -1."""
        for start, values in self._slices(name):
            rows = target[start : start + len(values)]
            scatter_rows(variable, rows[rows >= 0], values[rows >= 0])

    def spread(
        self,
        name: str,
        variable: Any,
        rows: npt.NDArray[np.int64],
        of: npt.NDArray[np.int64],
    ) -> None:
        """Gives `rows` of a variable the mean of rows `of`, consecutive."""
        first, last = int(of[0]), int(of[-1]) + 1
        values = self._rows(name, first, last).reshape(len(of), -1)
        mean = values.astype(np.float32).mean(axis=0)
        count = max(1, _PART // mean.nbytes)
        for start in range(0, len(rows), count):
            some = rows[start : start + count]
            shape = (len(some), len(mean))
            scatter_rows(variable, some, np.broadcast_to(mean, shape))

    def _slices(self, name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Some rows at a time, each with the first one's number."""
        array = self._arrays[name]
        rows, *rest = array["shape"] or [1]
        if not rows:
            return
        each = array["bytes"] // rows
        count = max(1, _PART // max(each, 1))
        for start in range(0, rows, count):
            stop = min(start + count, rows)
            yield start, self._rows(name, start, stop).reshape(-1, *rest)

    def _rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        array = self._arrays[name]
        each = array["bytes"] // (array["shape"] or [1])[0]
        self._file.seek(array["begin"] + start * each)
        data = self._file.read((stop - start) * each)
        if len(data) < (stop - start) * each:
            raise DamagedError(f"{name} ends early")
        return np.frombuffer(data, tf.as_dtype(array["dtype"]).as_numpy_dtype)


_POOLS = {"sum": "sum", "last": "last"}


def columns_of(layout: Layout) -> dict[str, str]:
    """Input of a model's layers -> its place and width."""
    single = [f for f in layout.single if f.dim]
    return {
        **{f.name: f"{i} of {f.dim}" for i, f in enumerate(single)},
        **{
            f.name: f"{_POOLS.get(f.pool, 'list')} {i} of {f.dim}"
            for i, f in enumerate(layout.lists)
        },
        **{name: f"number {i}" for i, name in enumerate(layout.dense)},
    }


def optimizer_names(spec: Mapping[str, Any]) -> list[list[str]]:
    """Pattern and name of each group of an optimizer's section."""
    groups = spec.get("groups", [{"match": "", **spec}])
    return [[group["match"], group["name"]] for group in groups]


def tables_of(model: Any) -> dict[str, dict[str, int]]:
    """Name of a table, as in `named_variables`, -> feature -> first row."""
    names = {id(v): name for name, v in named_variables(model).items()}
    return {
        names[id(layer.table)]: dict(layer.lookup.first)
        for layer in model._flatten_layers()
        if hasattr(layer, "table") and hasattr(layer, "lookup")
    }
