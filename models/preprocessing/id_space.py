"""Meaning of a feature's ids, and how those of two days meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.config.training import Features
from models.preprocessing.input_layout import asset_name
from models.preprocessing.vocabulary import EMPTY_VOCABULARY

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """Meaning of a feature's ids.

    kind: "vocab", "hash", "identity", "cross", or of buckets.
    size: ids in all.
    oov: of a vocabulary, the last ids: values that are not in it.
    of: of a cross, what is joined: two crosses of equal `of` hash the same.
    vocabulary: its name, where there is one.
    """

    kind: str
    size: int
    oov: int = 0
    of: tuple[str, ...] = ()
    vocabulary: str = ""

    @property
    def missing(self) -> bool:
        """True if id 0 is "missing"."""
        return self.kind != "cross"


@dataclass(frozen=True)
class IdMapping:
    """Where the ids of an earlier day are today.

    ids: [old size], today's id of each; -1 for those that are gone.
    new: today's ids that were not there.
    unseen: earlier ids under which a new one was known until now.
    counts: of values, without "missing" and what is not in a vocabulary.
    """

    ids: Ids
    new: Ids
    unseen: Ids
    counts: dict[str, int]


def keys_of(features: Features, sizes: Mapping[str, int]) -> dict[str, Keys]:
    """Feature -> its keys.

    Args:
        features: the config section.
        sizes: feature -> number of ids, as in `input_layout`.
    """
    kinds: dict[str, str] = {}
    found: dict[str, Keys] = {}
    for f in features.categories:
        kinds[f.name] = "text" if f.encode in ("vocab", "hash") else f.encode
        vocab = f.encode == "vocab"
        found[f.name] = Keys(
            f.encode,
            sizes[f.name],
            f.oov_buckets if vocab else 0,
            vocabulary=asset_name(f) if vocab else "",
        )
    for n in features.numeric:
        kinds[n.name] = f"{n.buckets} buckets"
        if n.transform == "log_buckets":
            kinds[n.name] = n.transform
        if n.ids:
            found[n.name] = Keys(n.transform, sizes[n.name])
    if features.time is not None:
        for name, part in features.time.names.items():
            kinds[name] = f"{part} in {features.time.clock}"
            found[name] = Keys(kinds[name], sizes[name])
    for c in features.crosses:
        of = tuple(f"{name}: {kinds[name]}" for name in c.of)
        found[c.name] = Keys("cross", sizes[c.name], of=of)
    return found


def value_of(keys: Keys, id: int, text: Callable[[str], bytes]) -> str:
    """The value of a category's id, in words where there is none.

    Args:
        keys: of the feature.
        id: in [0, keys.size).
        text: reads a vocabulary by its name: values, a line each.
    """
    if id == 0:
        return "no value"
    if keys.kind == "identity":
        return str(id - 1)
    if keys.kind == "hash":
        return f"hash bucket {id - 1}"
    if id >= keys.size - keys.oov:
        return "values outside the vocabulary"
    line = text(keys.vocabulary).split(b"\n")[id - 1]
    return line.decode("utf-8", "backslashreplace")


def match(
    old: Keys, new: Keys, lines: Callable[[], tuple[Any, Any]]
) -> IdMapping:
    """Tells which ids stand for the same.

    A value of a vocabulary is matched by itself; "missing" and the ids of
    what is in no vocabulary by their role; the others one to one, if they
    are made in the same way.

    Args:
        old: of the earlier day.
        new: of today.
        lines: gives the earlier and today's vocabulary, lists of bytes.
    """
    ids = np.full(old.size, -1, np.int64)
    if old.missing and new.missing:
        ids[0] = 0
    if old.kind == new.kind == "vocab":
        return _by_value(old, new, ids, *lines())
    first = int(new.missing)
    kept = 0
    if old.kind == new.kind and old.of == new.of:
        # Hashes, buckets and crosses of another size are of other values.
        if old.size == new.size or new.kind == "identity":
            kept = min(old.size, new.size) - first
        ids[first : first + kept] = np.arange(first, first + kept)
    counts = {
        "kept": kept,
        "new": new.size - first - kept,
        "gone": old.size - int(old.missing) - kept,
    }
    nothing = np.zeros(0, np.int64)
    return IdMapping(ids, np.arange(first + kept, new.size), nothing, counts)


def _by_value(
    old: Keys,
    new: Keys,
    ids: Ids,
    before: Sequence[bytes],
    now: Sequence[bytes],
) -> IdMapping:
    values = pa.array(before, pa.binary())
    places = pc.index_in(values, pa.array(now, pa.binary()))
    found = places.fill_null(-1).to_numpy().astype(np.int64)
    ids[1 : 1 + len(before)] = np.where(found < 0, -1, 1 + found)
    fresh = np.ones(new.size, bool)
    fresh[0] = False
    fresh[1 + found[found >= 0]] = False
    unseen = np.arange(1 + len(before), old.size)
    if old.oov == new.oov:
        ids[unseen] = np.arange(1 + len(now), new.size)
        fresh[1 + len(now) :] = False
    kept = int((found >= 0).sum())
    # A vocabulary of nothing has one line, which stands for nothing.
    empty = [int(EMPTY_VOCABULARY in one) for one in (before, now)]
    both = min(empty)
    return IdMapping(
        ids,
        np.flatnonzero(fresh),
        unseen,
        {
            "kept": kept - both,
            "new": len(now) - kept - (empty[1] - both),
            "gone": len(before) - kept - (empty[0] - both),
        },
    )
