"""The analysis as a Beam pass over files."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.transform.batches import batches
from components.transform.cache import Cache
from models import analysis
from models.config import Features
from models.features import observe


@beam.ptransform_fn
def Analyze(
    files: beam.PCollection[str],
    features: Features,
    spec: Mapping[str, Any],
    folder: str,
    cache: Cache | None = None,
) -> beam.PCollection[None]:
    """Writes what `models.analysis` finds in `files` to `folder`."""
    return (
        files
        | "Find" >> beam.FlatMap(_find, features, spec, cache)
        | "Merge" >> beam.CombinePerKey(_merged)
        | "Write" >> beam.Map(lambda item: item[1].write(folder))
    )


def _find(
    file: str,
    features: Features,
    spec: Mapping[str, Any],
    cache: Cache | None,
) -> Iterator[tuple[int, analysis.Part]]:
    if cache is None:
        yield from enumerate(look(file, features, spec))
        return
    path = cache.path(file)
    found = cache.get(path)
    if found is None:
        found = look(file, features, spec)
        cache.put(path, found)
    yield from enumerate(found)


def look(
    file: str, features: Features, spec: Mapping[str, Any]
) -> list[analysis.Part]:
    """What there is to find in one file."""
    found = analysis.parts(features)
    observed = functools.partial(observe, features=features)
    for batch in batches(file, spec, observed):
        analysis.add(found, tf.nest.map_structure(_array, batch))
    return found


def _array(tensor: Any) -> Any:
    return tensor.numpy()


def _merged(parts: Iterable[analysis.Part]) -> analysis.Part:
    first, *others = parts
    total = copy.copy(first)  # Beam lends its elements
    for part in others:
        total.merge(part)
    return total
