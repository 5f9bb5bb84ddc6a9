"""Which id of which feature is which row of which table."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.config.time_features import SIZES
from models.config.training import CategoricalFeature, Features

IDS, DENSE, LISTS, WEIGHTS = "ids", "dense", "list_", "weights_"
NUMBERS = "numbers_"
SHALLOW_IDS = "shallow_ids"
GROUPS = "groups"  # of rows that a loss compares, int64 [N]; -1: of none
LABEL_COUNTS = "label_counts"  # asset: negative, positive training rows


@dataclass(frozen=True)
class IdFeature:
    """A feature whose value is an id in [0, size).

    dim: width of its embedding; 0 for a cross, which only the wide part sees.
    table: features of one table share embeddings; "" is a table of its own.
    pool: of a list's embeddings, "mean", "sum", "attention", or "last" of one
        that begins with the newest.
    weighted: the values of a list have weights.
    frozen: its embeddings are given, and not trained.
    query: feature that a list's attention compares with; "": learned.
    """

    name: str
    size: int
    dim: int
    table: str = ""
    pool: str = "mean"
    weighted: bool = False
    frozen: bool = False
    query: str = ""

    @property
    def rows(self) -> str:
        """Whose rows its embeddings are."""
        return self.table or self.name


@dataclass(frozen=True)
class SequenceInput:
    """A sequence among the lists of a layout, the newest item first.

    lists: names of its lists with ids, that of the items first.
    queries: for each, the feature with an embedding of that width that it is
        compared with.
    numbers: names of lists of numbers beside them.
    max_len: greatest length.
    """

    lists: tuple[str, ...]
    queries: tuple[str, ...]
    numbers: tuple[str, ...]
    max_len: int


@dataclass(frozen=True)
class LabelInput:
    """A label of a model that learns several.

    of: True if it counts where the first label is 1.
    base_rate: share of positives among the rows where it counts.
    """

    name: str
    of: bool
    base_rate: float


@dataclass(frozen=True)
class Layout:
    """Columns of a transformed example.

    single: columns of the tensor `ids`, int64 [N, len(single)].
    lists: name -> ragged int64 ids in `list_<name>`; those that are weighted
        have ragged float32 `weights_<name>` of the same lengths.
    dense: columns of the tensor `dense`, float32 [N, len(dense)].
    shallow: columns of the tensor `shallow_ids`, int64 [N, len(shallow)], of
        which the network sees nothing.
    sequences: which of the lists belong together; numbers beside them are
        ragged float32 `numbers_<name>` of the same lengths.
    labels: those that the model has a logit for, where there are several.
    pieces: of the curve that the wide part has of each number; 0: of none.
    """

    single: tuple[IdFeature, ...]
    lists: tuple[IdFeature, ...]
    dense: tuple[str, ...]
    shallow: tuple[IdFeature, ...] = ()
    sequences: tuple[SequenceInput, ...] = ()
    labels: tuple[LabelInput, ...] = ()
    pieces: int = 0

    @property
    def ids(self) -> tuple[IdFeature, ...]:
        """All features with ids that the network sees, lists last."""
        return self.single + self.lists

    @property
    def crosses(self) -> tuple[IdFeature, ...]:
        """Features without an embedding."""
        return tuple(f for f in self.single if not f.dim)


def layout(features: Features, vocabulary_size: Callable[[str], int]) -> Layout:
    """The layout of `features`; id 0 is "missing" everywhere.

    Args:
        features: the config section.
        vocabulary_size: asset name of a vocabulary -> number of its lines.
    """
    single: list[IdFeature] = []
    lists: list[IdFeature] = []
    sequences: list[SequenceInput] = []
    for f in features.categorical:
        if f.encode == "vocab":
            size = 1 + vocabulary_size(asset_name(f)) + f.oov_buckets
        else:
            size = 1 + f.buckets
        item = IdFeature(
            f.name,
            size,
            f.dim,
            f.table or "",
            f.pool,
            f.weights is not None,
            f.pretrained is not None and f.pretrained.frozen,
        )
        (single if f.list is None else lists).append(item)
    single += [
        IdFeature(f.name, 1 + f.ids, f.dim) for f in features.numeric if f.ids
    ]
    if features.time is not None:
        single += [
            IdFeature(name, 1 + SIZES[part], features.time.dim)
            for name, part in features.time.names.items()
        ]
    single += [IdFeature(c.name, c.buckets, 0) for c in features.crosses]
    dense = [f.name for f in features.numeric if not f.ids]
    dense += [name for f in features.numeric for name in f.piece_names]
    dense += [f.indicator for f in features.numeric if f.indicator]
    dense += [name for f in features.vectors for name in f.inputs]
    by_name = {f.name: f for f in single}
    for s in features.sequences:
        shared = {s.column: (s.items, s.query)} | {
            column: (side.items, side.items)
            for column, side in s.columns.items()
            if side.items is not None
        }
        lists += [
            replace(
                by_name[items],
                name=column,
                table=by_name[items].rows,
                pool=s.pooling,
                query=query if s.pooling == "attention" else "",
            )
            for column, (items, query) in shared.items()
        ]
        sequences.append(
            SequenceInput(
                tuple(shared),
                tuple(query for _, query in shared.values()),
                tuple(column for column in s.columns if column not in shared),
                s.max_len,
            )
        )
    apart = features.shallow()
    return Layout(
        tuple(f for f in single if f.name not in apart),
        tuple(lists),
        tuple(dense),
        tuple(f for f in single if f.name in apart),
        tuple(sequences),
    )


def asset_name(feature: CategoricalFeature) -> str:
    """File name of the feature's vocabulary among the transform's assets."""
    name = feature.rows
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if safe != name:  # two names must not share a file
        safe += f"_{zlib.crc32(name.encode()):08x}"
    return f"vocab_{safe}"


def without_groups(inputs: Any) -> tuple[Any, Any]:
    """A model's inputs, and the groups of the rows, or None."""
    if not isinstance(inputs, Mapping) or GROUPS not in inputs:
        return inputs, None
    rest = {name: x for name, x in inputs.items() if name != GROUPS}
    return rest, inputs[GROUPS]


def offsets(items: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Name -> first row in a table shared by all, and the table's rows."""
    first: dict[str, int] = {}
    total = 0
    for name, size in items.items():
        first[name] = total
        total += size
    return first, total
