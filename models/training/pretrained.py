"""Embeddings that another model made, given to a new model's tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.config.training import CategoricalFeature, Features
from models.errors import InputError
from models.layers.compact_table import tables_of
from models.preprocessing import pretrained
from models.preprocessing.input_layout import asset_name
from models.variables import scatter_rows

Ids = npt.NDArray[np.int64]
log = logging.getLogger("lionctr.train")


@dataclass(frozen=True)
class Coverage:
    """Values of a vocabulary that have a pretrained vector.

    values: of the vocabulary. covered: with a vector. given: of these, those
    that got it; a warm start keeps what was learned of the others.
    """

    feature: str
    path: str
    frozen: bool
    values: int
    covered: int
    given: int


def give(
    model: Any,
    features: Features,
    vocabulary: Callable[[str], bytes],
    fresh: Mapping[str, Ids],
) -> list[Coverage]:
    """Puts the vectors into the model's tables.

    Args:
        model: new, or warm-started.
        features: the config section.
        vocabulary: reads an asset: values, a line each.
        fresh: feature whose embeddings an earlier training has learned -> ids
            that are new since. Frozen vectors are given to all.

    Raises:
        InputError: a file cannot be read or does not fit.
    """
    found: dict[str, Coverage] = {}
    for number, f in enumerate(features.categorical):
        if f.pretrained is None or f.rows in found:
            continue
        path = f"features.categorical.{number}.pretrained"
        found[f.rows] = _give(
            model, f, path, vocabulary(asset_name(f)), fresh.get(f.name)
        )
    return list(found.values())


def _give(
    model: Any,
    feature: CategoricalFeature,
    path: str,
    vocabulary: bytes,
    fresh: Ids | None,
) -> Coverage:
    config = feature.pretrained
    assert config is not None
    values, vectors = pretrained.read(config)
    if vectors.shape[1] != feature.dim:
        raise InputError(
            f"{path}: {config.path} has vectors of {vectors.shape[1]} numbers;"
            f" received dim: {feature.dim}. Accepted: dim: {vectors.shape[1]}"
        )
    known = pa.array([v for v in vocabulary.split(b"\n") if v], pa.binary())
    at = pc.index_in(known, value_set=values)
    covered = at.is_valid().to_numpy(zero_copy_only=False)
    given = covered.copy()
    if fresh is not None and not config.frozen:
        given &= np.isin(1 + np.arange(len(known)), fresh)
    table, first = _place(model, feature, path)
    ids = np.flatnonzero(given)
    rows = at.fill_null(0).to_numpy()[ids]
    scatter_rows(table, first + 1 + ids, vectors[rows])
    log.info(
        "pretrained: %s: %s of %s values of the vocabulary have a vector in %s"
        " (%.1f%%), %s given, %s",
        feature.name,
        f"{int(covered.sum()):,}",
        f"{len(known):,}",
        config.path,
        100 * covered.mean() if len(known) else 0.0,
        f"{len(ids):,}",
        "frozen; the others are zero" if config.frozen else "to be trained on",
        extra={"keep": True},
    )
    return Coverage(
        feature.name,
        config.path,
        config.frozen,
        len(known),
        int(covered.sum()),
        len(ids),
    )


def _place(
    model: Any, feature: CategoricalFeature, path: str
) -> tuple[Any, int]:
    """The variable of a feature's embeddings, and their first row."""
    for layer in tables_of(model):
        for lookup, table in ((layer.lookup, layer.table), layer.fixed):
            if (
                lookup is not None
                and feature.name in lookup.first
                and lookup.dim == feature.dim
                and layer is not getattr(model, "wide", None)
            ):
                return table, lookup.first[feature.name]
    raise InputError(
        f"{path}: the model has no table of ours for {feature.name!r}."
        " Accepted: an architecture on models.architectures.base"
    )
