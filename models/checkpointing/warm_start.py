"""Where a training begins: with what an earlier one has learned."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

from models.checkpointing.output_bias import OUTPUT, is_weight, move_bias
from models.checkpointing.saved_state import (
    Arrays,
    Meaning,
    SavedTrainingState,
    tables_of,
)
from models.errors import InputError
from models.keras_versions import keras_version
from models.preprocessing.id_space import IdMapping, Ids, Keys, match
from models.variables import named_variables

# Variables that a new run has of its own; frozen embeddings come from a file.
_OWN = (
    "learning_rate",
    "current_learning_rate",
    "seed_generator_state",
    "pretrained",
)
# Adafactor's slots: Keras 3 does not say of which table, Keras 2 has some for
# columns instead of rows.
_OF_SOME_TABLE = re.compile(r"optimizer/[^/]+/table'*")
_OF_COLUMNS = "optimizer/c/"
_CURVES = "model/deep/curves/weight"
_SHALLOW = "model/shallow/table"  # a column for each label
log = logging.getLogger("lionctr.train")


@dataclass
class Report:
    """Outcome of a warm start from the state of an earlier training.

    base: where it was. reason: why it is not used. features: feature ->
    number of ids kept, new, gone. carried: number of variables. initialised:
    those that start from new values. left: those that have no place any more.
    bias_moved: added to the output's bias as negatives are sampled otherwise.
    """

    base: str | None = None
    reason: str | None = None
    features: dict[str, dict[str, int]] = field(default_factory=dict)
    carried: int = 0
    initialised: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    bias_moved: float = 0.0


class Base:
    """The state that a training begins with.

    Args:
        folder: that `models.checkpointing.saved_state.save` was given.

    Raises:
        DamagedError: it is not what was written.
        FileNotFoundError: there is nothing.
    """

    def __init__(self, folder: str) -> None:
        self._state = SavedTrainingState(folder)

    @property
    def identity(self) -> str:
        """Another one for another state."""
        return self._state.identity

    def carry(self, model: Any, optimizer: Any, meaning: Meaning) -> Report:
        """Gives a new model and its built optimizer what was learned.

        Rows of tables, and of what the optimizer keeps for them, go where
        their feature's value is now. A new value begins as what was in no
        vocabulary did so far, with empty slots. Everything else is carried
        where name and shape are the same; predictions, corrected for negatives
        that are left out, stay as they are.

        Raises:
            InputError: nothing of the model fits.
        """
        state = self._state
        report = Report(base=state.folder)
        matches = self._matches(meaning, report)
        tables = tables_of(model)
        named = named_variables(model, optimizer)
        reasons = self._unfit(meaning)
        if not self._same_optimizer(model, meaning):
            reasons.add("optimizer")
            log.warning(
                "warm start: the optimizer was %s of Keras %d; it restarts",
                ", ".join(name for _, name in state.optimizer),
                state.keras,
            )
        with state.opened() as arrays:
            for name, variable in named.items():
                if name.removesuffix(":0").rpartition("/")[2] in _OWN:
                    continue
                table = _table_of(name, tables)
                if (
                    name not in arrays
                    or name.partition("/")[0] in reasons
                    or (table is None and _OF_SOME_TABLE.fullmatch(name))
                ):
                    fits = False
                elif table is not None and table in state.tables:
                    first = state.tables[table], tables[table]
                    fits = table != _SHALLOW or "labels" not in reasons
                    fits = fits and _remap(
                        arrays, name, variable, *first, matches
                    )
                else:
                    fits = "layers" not in reasons
                    fits = fits and arrays.copy(name, variable)
                if fits:
                    report.carried += 1
                else:
                    report.initialised.append(name)
        report.left = [name for name in state.names if name not in named]
        # A bias alone is no model.
        if not any(
            name.startswith("model/")
            and name not in report.initialised
            and len(variable.shape) > 1
            for name, variable in named.items()
        ):
            raise InputError(
                f"train.warm_start: nothing of the model in {state.folder}"
                " fits this one; give train.warm_start: null. It has"
                f" {', '.join(n for n in state.names if n[:6] == 'model/')}"
            )
        self._recalibrate(named, meaning, report)
        _tell(report)
        return report

    def fresh(
        self, model: Any, meaning: Meaning, report: Report
    ) -> dict[str, Ids]:
        """Feature whose embeddings were carried -> its ids that are new."""
        named = named_variables(model)
        matches = self._matches(meaning, Report())
        return {
            feature: matches[feature].new
            for table, features in tables_of(model).items()
            if table in named and table not in report.initialised
            for feature in features
            if feature in self._state.tables.get(table, {})
        }

    @property
    def pieces(self) -> int:
        """Pieces of the curves of numbers; 0: the model has none."""
        shape = self._state.shape(_CURVES)
        return 0 if shape is None else shape[1]

    def steps(self, model: Any, meaning: Meaning) -> int:
        """Updates that the optimizer has made, in all runs together."""
        same = self._same_optimizer(model, meaning)
        return self._state.iterations if same else 0

    def _same_optimizer(self, model: Any, meaning: Meaning) -> bool:
        """Keras 2 and 3 differ in an optimizer's variables and their names."""
        names = list(map(list, meaning.optimizer))
        now = names, keras_version(model)
        return now == (self._state.optimizer, self._state.keras)

    def _unfit(self, meaning: Meaning) -> set[str]:
        """Variables that must not be carried, though shapes may be the same."""
        reasons = set()
        moved = [
            name
            for name, place in meaning.columns.items()
            if self._state.columns.get(name, place) != place
        ]
        if moved:
            log.warning(
                "warm start: %s came at another place or width before; the"
                " layers start from new weights, embeddings are kept",
                ", ".join(moved),
            )
            reasons.add("layers")
        if list(meaning.labels) != self._state.labels:
            log.warning(
                "warm start: the labels were %s, now %s; the layers start from"
                " new weights, embeddings are kept",
                ", ".join(self._state.labels) or "one alone",
                ", ".join(meaning.labels) or "one alone",
                extra={"keep": True},
            )
            reasons |= {"layers", "labels"}
        return reasons

    def _recalibrate(
        self, named: Mapping[str, Any], meaning: Meaning, report: Report
    ) -> None:
        """Logits so far were right with another share of the negatives."""
        before, now = self._state.shift, meaning.shift
        if before is None or before == now:
            return
        if OUTPUT not in named:
            log.warning(
                "warm start: negatives were sampled otherwise, and there is no"
                " deep/out/bias to be moved: the odds that are predicted begin"
                " %.3g times as high as they were",
                math.exp(now - before),
                extra={"keep": True},
            )
        elif OUTPUT not in report.initialised:
            report.bias_moved = before - now
            move_bias(named, report.initialised, report.bias_moved)
            log.info(
                "warm start: negatives are sampled otherwise, so the output's"
                " bias moves by %+.3f",
                report.bias_moved,
            )

    def _matches(
        self, meaning: Meaning, report: Report
    ) -> dict[str, IdMapping]:
        keys, matches = meaning.keys, {}

        @lru_cache(maxsize=1)  # they may be large
        def lines(old: str, new: str) -> tuple[Any, Any]:
            before, now = self._state.text(old), meaning.text(new)
            return before.split(b"\n"), now.split(b"\n")

        # Features of one table share a vocabulary: one after the other.
        for name in sorted(keys, key=lambda name: keys[name].vocabulary):
            old, new = self._state.keys.get(name) or Keys("none", 1), keys[name]
            read = partial(lines, old.vocabulary, new.vocabulary)
            matches[name] = match(old, new, read)
        report.features = {name: matches[name].counts for name in keys}
        return matches


def _remap(
    arrays: Arrays,
    name: str,
    variable: Any,
    before: Mapping[str, int],
    now: Mapping[str, int],
    matches: Mapping[str, IdMapping],
) -> bool:
    """Rows of an array to rows of a variable; whether any fits.

    before, now: feature -> first row in the array, in the variable.
    """
    shape = arrays.shape(name)
    shared = [feature for feature in now if feature in before]
    if shape[1:] != list(variable.shape)[1:] or not shared:
        return False
    target = np.full(shape[0], -1, np.int64)
    for feature in shared:
        ids = matches[feature].ids
        there = ids >= 0
        rows = before[feature] + np.flatnonzero(there)
        target[rows] = now[feature] + ids[there]
    arrays.move(name, variable, target)
    # Slots begin as they do; a moving average is one of weights.
    if not is_weight(name):
        return True
    for feature in shared:
        found = matches[feature]
        if len(found.new) and len(found.unseen):
            rows = now[feature] + found.new
            unseen = before[feature] + found.unseen
            arrays.spread(name, variable, rows, unseen)
    return True


def _table_of(name: str, tables: Mapping[str, Any]) -> str | None:
    """The table that a variable is, or is a slot of."""
    if name in tables:
        return name
    if not name.startswith("optimizer/") or name.startswith(_OF_COLUMNS):
        return None
    plain = _plain(name)
    owners = [t for t in tables if _plain(t).partition("_")[2] in plain]
    return max(owners, key=len, default=None)


def _plain(name: str) -> str:
    return name.removesuffix(":0").replace("/", "_")


def _tell(report: Report) -> None:
    total = {
        what: sum(counts[what] for counts in report.features.values())
        for what in ("kept", "new", "gone")
    }
    log.info(
        "warm start from %s: ids %s kept, %s new, %s gone; variables %d"
        " carried, %d new%s",
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
