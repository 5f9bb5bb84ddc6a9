"""Checks of the model's size before a run, against this machine's memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from models.config.numeric import SHALLOW
from models.config.time_features import SIZES
from pipeline.config import PipelineConfig

_FLOAT = 4
_COPIES = 2  # a weight, and the slot that each optimizer but plain SGD has
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    """Field and message of weights that this machine cannot hold.

    A vocabulary counts with one value, as its size is not known yet: what is
    refused here cannot be trained.
    """
    memory = _memory()
    sizes = dict(_weights(config))
    needed = {field: n * _FLOAT * _COPIES for field, n in sizes.items()}
    field = max(needed, key=needed.__getitem__)
    total = sum(needed.values())
    if memory and total > memory:
        yield (
            field,
            (
                f"its {_short(sizes[field])} weights take"
                f" {_bytes(needed[field])} with their optimizer slots, all"
                f" weights {_bytes(total)}; this machine has {_bytes(memory)}"
                f" of memory"
            ),
        )


def _weights(config: PipelineConfig) -> Iterator[tuple[str, int]]:
    """Field -> weights, at least."""
    features, model = config.features, config.model
    width = 0
    tables: set[str] = set()
    for number, f in enumerate(features.categorical):
        known = 1 + f.oov_buckets if f.encode == "vocab" else f.buckets
        if f.serve == SHALLOW:
            yield f"features.categorical.{number}", 1 + known
            continue
        width += f.dim
        if f.rows not in tables:  # else it shares them
            tables.add(f.rows)
            yield f"features.categorical.{number}", (1 + known) * f.dim
    for number, n in enumerate(features.numeric):
        if n.serve == SHALLOW:
            continue
        inputs = 1 + (n.indicator is not None) + (n.pieces or 0)
        width += n.dim if n.ids else inputs
        if n.ids:
            yield f"features.numeric.{number}", (1 + n.ids) * n.dim
    width += sum(1 + f.size for f in features.vectors)
    if features.time is not None:
        sizes = [1 + SIZES[part] for part in features.time.of]
        width += features.time.dim * len(sizes)
        yield "features.time", sum(sizes) * features.time.dim
    for number, c in enumerate(features.crosses):
        yield f"features.crosses.{number}", c.buckets
    layers = list(model.hidden)
    if model.sees_all_inputs:
        layers.insert(0, width)
    yield "model.hidden", sum(a * b for a, b in pairwise(layers))


def _memory() -> int:
    """Bytes that this process may have at most; 0 if nobody says."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    for path in map(Path, _LIMITS):
        try:
            memory = min(memory, int(path.read_text()))
        except (OSError, ValueError):  # no such file; or "max"
            continue
    return memory


def _bytes(count: int) -> str:
    power = 0
    while count >= 1024 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    return f"{_short(count / 1024**power)} {_UNITS[power]}"


def _short(count: float) -> str:
    return f"{count:,.0f}" if 10 <= count < 1e9 else f"{count:.3g}"
