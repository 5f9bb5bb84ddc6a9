"""A training's state, kept beside its model, and where the next one begins."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.checkpoint import (
    Checkpoints,
    DamagedError,
    arrays_path,
    check,
    local_replica,
    named_variables,
    parts_of,
    read_index,
)
from models.errors import InputError
from models.keys import Keys, Match, match
from models.layout import Layout

FOLDER = "Format-Training"  # beside TFX's Format-Serving
_VOCABULARY = "vocabulary/"
_TABLE = "/table"
# What a new run has of its own.
_OWN = ("learning_rate", "current_learning_rate", "seed_generator_state")
_PART = 1 << 24  # bytes of a table read at a time
log = logging.getLogger("lionctr.train")


@dataclass(frozen=True)
class Meaning:
    """What rows, columns and slots of a model stand for.

    keys: feature -> of its ids.
    text: reads a vocabulary by its name: values, a line each.
    columns: input of the model -> its place and width.
    optimizer: names of the optimizers, by group.
    """

    keys: Mapping[str, Keys]
    text: Callable[[str], bytes]
    columns: Mapping[str, str]
    optimizer: Sequence[Sequence[str]]


@dataclass
class Report:
    """What became of the state of an earlier training.

    base: where it was. reason: why it is not used. features: feature ->
    number of ids kept, new, gone. carried: number of variables. initialised:
    those that begin anew. left: those that have no place any more.
    """

    base: str | None = None
    reason: str | None = None
    features: dict[str, dict[str, int]] = field(default_factory=dict)
    carried: int = 0
    initialised: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Base:
    """The state that a training begins with.

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
        self._data = found
        self._index = read_index(found)
        check(found, self._index)
        self._arrays = {a["name"]: a for a in self._index["arrays"]}
        state = self._index["state"]
        self._columns: dict[str, str] = state["columns"]
        self._optimizer = state["optimizer"]
        self._tables: dict[str, dict[str, int]] = state["tables"]
        self._keys = {
            name: Keys(**{**keys, "of": tuple(keys["of"])})
            for name, keys in state["keys"].items()
        }

    @property
    def identity(self) -> str:
        """Another one for another state."""
        text = repr([(a["name"], a["crc32c"]) for a in self._index["arrays"]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def carry(self, model: Any, optimizer: Any, meaning: Meaning) -> Report:
        """Gives a new model and its built optimizer what was learned.

        Rows of tables, and of what the optimizer keeps for them, go where
        their feature's value is now. A new value begins as what was in no
        vocabulary did so far, with empty slots. Everything else is carried
        where name and shape are the same.

        Raises:
            InputError: nothing of the model fits.
        """
        report = Report(base=self.folder)
        matches = self._matches(meaning, report)
        tables = tables_of(model)
        named = named_variables(model, optimizer)
        reasons = self._unfit(meaning)
        if list(map(list, meaning.optimizer)) != self._optimizer:
            log.warning(
                "warm start: the optimizer was %s; it begins anew",
                ", ".join(name for _, name in self._optimizer),
            )
        with tf.io.gfile.GFile(arrays_path(self._data), "rb") as file:
            for name, variable in named.items():
                if name.removesuffix(":0").rpartition("/")[2] in _OWN:
                    continue
                table = _table_of(name, tables)
                array = self._arrays.get(name)
                if array is None or name.partition("/")[0] in reasons:
                    fits = False
                elif table is not None and table in self._tables:
                    fits = self._remap(
                        file, array, variable, tables[table], table, matches
                    )
                else:
                    fits = "layers" not in reasons and _copy(
                        file, array, variable
                    )
                if fits:
                    report.carried += 1
                else:
                    report.initialised.append(name)
        report.left = [
            name
            for name in self._arrays
            if name not in named and not name.startswith(_VOCABULARY)
        ]
        # A bias alone is no model.
        if not any(
            name.startswith("model/")
            and name not in report.initialised
            and len(variable.shape) > 1
            for name, variable in named.items()
        ):
            raise InputError(
                f"train.warm_start: nothing of the model in {self.folder}"
                " fits this one; give train.warm_start: null. It has"
                f" {', '.join(n for n in self._arrays if n[:6] == 'model/')}"
            )
        _tell(report)
        return report

    def steps(self, meaning: Meaning) -> int:
        """Updates that the optimizer has made, in all runs together."""
        if list(map(list, meaning.optimizer)) != self._optimizer:
            return 0
        return int(self._index["state"]["iterations"])

    def _unfit(self, meaning: Meaning) -> set[str]:
        """What must not be carried though shapes may be the same."""
        reasons = set()
        if list(map(list, meaning.optimizer)) != self._optimizer:
            reasons.add("optimizer")
        moved = [
            name
            for name, place in meaning.columns.items()
            if self._columns.get(name, place) != place
        ]
        if moved:
            log.warning(
                "warm start: %s came at another place or width before; the"
                " layers begin anew, embeddings are kept",
                ", ".join(moved),
            )
            reasons.add("layers")
        return reasons

    def _matches(self, meaning: Meaning, report: Report) -> dict[str, Match]:
        keys, matches = meaning.keys, {}

        @lru_cache(maxsize=1)  # they may be large
        def lines(old: str, new: str) -> tuple[Any, Any]:
            before, now = self._text(old), meaning.text(new)
            return before.split(b"\n"), now.split(b"\n")

        # Features of one table share a vocabulary: one after the other.
        for name in sorted(keys, key=lambda name: keys[name].vocabulary):
            old, new = self._keys.get(name) or Keys("none", 1), keys[name]
            read = partial(lines, old.vocabulary, new.vocabulary)
            matches[name] = match(old, new, read)
        report.features = {name: matches[name].counts for name in keys}
        return matches

    def _text(self, vocabulary: str) -> bytes:
        with tf.io.gfile.GFile(arrays_path(self._data), "rb") as file:
            array = self._arrays[_VOCABULARY + vocabulary]
            return b"".join(parts_of(file, array))

    def _remap(
        self,
        file: Any,
        array: Mapping[str, Any],
        variable: Any,
        first: Mapping[str, int],
        table: str,
        matches: Mapping[str, Match],
    ) -> bool:
        """Rows of the file to rows of the variable; whether any fits."""
        before = self._tables[table]
        target = np.full(array["shape"][0], -1, np.int64)
        shared = [name for name in first if name in before]
        if array["shape"][1:] != list(variable.shape)[1:] or not shared:
            return False
        for name in shared:
            ids = matches[name].ids
            there = ids >= 0
            rows = before[name] + np.flatnonzero(there)
            target[rows] = first[name] + ids[there]
        for start, values in _slices(file, array):
            rows = target[start : start + len(values)]
            _scatter(variable, rows[rows >= 0], values[rows >= 0])
        # Slots begin as they do; a moving average is one of weights.
        if not (_is_table(array["name"]) or "average" in array["name"]):
            return True
        for name in shared:
            found = matches[name]
            if len(found.new) and len(found.unseen):
                rows = before[name] + found.unseen
                _fill(variable, first[name] + found.new, file, array, rows)
        return True


def save(folder: str, model: Any, optimizer: Any, meaning: Meaning) -> None:
    """Writes what `Base` reads: whole or absent.

    Raises:
        OSError: it cannot be written.
        FloatingPointError: a weight is not finite.
    """
    variables = named_variables(model, optimizer)
    for name in {k.vocabulary for k in meaning.keys.values() if k.vocabulary}:
        text = np.frombuffer(meaning.text(name), np.uint8)
        variables[_VOCABULARY + name] = tf.Variable(text, trainable=False)
    steps = int(optimizer.iterations.numpy())
    Checkpoints(folder, keep=1).save(
        steps,
        variables,
        {
            "iterations": steps,
            "keys": {name: asdict(k) for name, k in meaning.keys.items()},
            "tables": tables_of(model),
            "columns": dict(meaning.columns),
            "optimizer": list(map(list, meaning.optimizer)),
        },
    )


def columns_of(layout: Layout) -> dict[str, str]:
    """Input of a model's layers -> its place and width."""
    single = [f for f in layout.single if f.dim]
    return {
        **{f.name: f"{i} of {f.dim}" for i, f in enumerate(single)},
        **{f.name: f"list {i} of {f.dim}" for i, f in enumerate(layout.lists)},
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


def _is_table(name: str) -> bool:
    return name.removesuffix(":0").endswith(_TABLE) and name[:6] == "model/"


def _table_of(name: str, tables: Mapping[str, Any]) -> str | None:
    """The table that a variable is, or is a slot of."""
    if name in tables:
        return name
    if not name.startswith("optimizer/"):
        return None
    plain = _plain(name)
    owners = [t for t in tables if _plain(t).partition("_")[2] in plain]
    return max(owners, key=len, default=None)


def _plain(name: str) -> str:
    return name.removesuffix(":0").replace("/", "_")


def _copy(file: Any, array: Mapping[str, Any], variable: Any) -> bool:
    if array["shape"] != list(variable.shape):
        return False
    for start, values in _slices(file, array):
        if len(values) == (array["shape"] or [1])[0]:
            variable.assign(values.reshape(array["shape"]))
        else:
            rows = np.arange(start, start + len(values))
            _scatter(variable, rows, values)
    return True


def _slices(
    file: Any, array: Mapping[str, Any]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Some rows of an array at a time, each with the first one's number."""
    rows, *rest = array["shape"] or [1]
    if not rows:
        return
    each = array["bytes"] // rows
    count = max(1, _PART // max(each, 1))
    for start in range(0, rows, count):
        stop = min(start + count, rows)
        yield start, _rows(file, array, start, stop).reshape(-1, *rest)


def _rows(
    file: Any, array: Mapping[str, Any], start: int, stop: int
) -> npt.NDArray[Any]:
    each = array["bytes"] // (array["shape"] or [1])[0]
    file.seek(array["begin"] + start * each)
    data = file.read((stop - start) * each)
    if len(data) < (stop - start) * each:
        raise DamagedError(f"{array['name']} ends early")
    return np.frombuffer(data, tf.as_dtype(array["dtype"]).as_numpy_dtype)


def _scatter(variable: Any, rows: Any, values: npt.NDArray[Any]) -> None:
    if not len(rows):
        return
    whole = getattr(variable, "value", variable)
    replicas = getattr(whole, "values", (local_replica(variable),))
    for replica in replicas:
        tf.raw_ops.ResourceScatterUpdate(
            resource=replica.handle,
            indices=rows,
            updates=tf.cast(values, replica.dtype),
        )


def _fill(
    variable: Any,
    rows: npt.NDArray[np.int64],
    file: Any,
    array: Mapping[str, Any],
    unseen: npt.NDArray[np.int64],
) -> None:
    """Gives `rows` the mean of the file's rows `unseen`, one after another."""
    first, last = int(unseen[0]), int(unseen[-1]) + 1
    values = _rows(file, array, first, last).reshape(len(unseen), -1)
    mean = values.astype(np.float32).mean(axis=0)
    count = max(1, _PART // mean.nbytes)
    for start in range(0, len(rows), count):
        some = rows[start : start + count]
        _scatter(variable, some, np.broadcast_to(mean, (len(some), len(mean))))


def _tell(report: Report) -> None:
    total = {
        what: sum(counts[what] for counts in report.features.values())
        for what in ("kept", "new", "gone")
    }
    log.info(
        "warm start from %s: ids %s kept, %s new, %s gone; variables %d"
        " carried, %d begin anew%s",
        report.base,
        *(f"{total[what]:,}" for what in ("kept", "new", "gone")),
        report.carried,
        len(report.initialised),
        f" ({', '.join(report.initialised)})" if report.initialised else "",
        extra={"keep": True},
    )
    for name, counts in report.features.items():
        log.info(
            "warm start: %s: %s kept, %s new, %s gone",
            name,
            *(f"{counts[what]:,}" for what in ("kept", "new", "gone")),
        )
