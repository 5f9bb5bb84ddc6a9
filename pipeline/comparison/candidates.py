"""Who is compared: where each search starts, and how it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from models.config.architectures import ARCHITECTURES, ModelConfig
from models.config.labels import Label
from optimizers.config.automatic import rates_of
from optimizers.config.catalog import FIXED_RATE, TABLE_ARGUMENTS
from optimizers.config.defaults import asked
from pipeline.config import ConfigError

# Exponents of 10 around the start.
_GRIDS = {
    "learning_rate": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "weight_decay": (-0.5, 0.0, 0.5),
}
LOGISTIC = "logistic regression"
# Behind a model's name: how the numbers of the config enter it.
NUMBERS: Mapping[str, Mapping[str, Any]] = {
    "+pieces": {"pieces": 8, "missing": "indicator"},
    "+buckets": {"transform": "buckets", "missing": "default"},
}
_TOGETHER = ("learning_rate", "table_rate")
_ADAMW_DECAY = 1e-2
# arXiv 2302.06675, section 5: a rate 3 to 10 times smaller than AdamW's, and
# a decay 3 to 10 times larger.
_RATIO = math.sqrt(10)


@dataclass(frozen=True)
class Contender:
    """A line of the comparison.

    model, optimizer: sections of the config; `auto` is chosen from the log.
    numbers: of NUMBERS, or "" for those of the config.
    """

    label: str
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    numbers: str = ""


def models(
    text: str,
    sequences: bool = True,
    own: str = "",
    numbers: bool = False,
    labels: Sequence[Label] = (),
) -> list[str]:
    """Architectures of `--models`, with commas between, or `all` of ours.

    A name with `+pieces` or `+buckets` behind it is the architecture on the
    numbers of `numbers_as`.

    Args:
        text: of the option.
        sequences: whether the config has some; without, `all` leaves out those
            that look at them.
        own: the config's architecture, which `all` has with those too.
        numbers: whether the config has some for `numbers_as`.
        labels: of the config, where there are several.

    Raises:
        ConfigError: there is no such architecture.
    """
    fitting = [n for n, s in ARCHITECTURES.items() if _fits(s, labels)]
    if text == "all":
        ours = [
            name
            for name in fitting
            if sequences or not ARCHITECTURES[name].reads_sequences
        ]
        ways = NUMBERS if own in ours and numbers else ()
        return [*ours, *(own + way for way in ways)]
    asked_for = [name.strip() for name in text.split(",")]
    for name in asked_for:
        if numbers_of(name) and not numbers:
            raise ConfigError(
                f"--models: received {name!r}; accepted with numbers in"
                " features.numeric that have neither `pieces` nor buckets"
            )
    for whole in asked_for:
        name = whole.removesuffix(numbers_of(whole))
        try:
            wanted = ModelConfig.model_validate({"name": name})
        except ValueError as error:
            raise ConfigError(
                f"--models: received {whole!r}; accepted: all, or some of"
                f" {', '.join(ARCHITECTURES)}, or package.module:function,"
                " with commas between, and each with"
                f" {' or '.join(NUMBERS)} behind it"
            ) from error
        if not _fits(type(wanted), labels):
            beside = "with" if labels else "without"
            raise ConfigError(
                f"--models: received {whole!r} {beside} data.labels; accepted:"
                f" {', '.join(fitting)}"
            )
        if wanted.reads_sequences and not sequences:
            raise ConfigError(
                f"--models: received {whole!r}; accepted with"
                " features.sequences"
            )
    return list(dict.fromkeys(asked_for))


def _fits(section: type[ModelConfig], labels: Sequence[Label]) -> bool:
    """True if models of this section can learn the labels."""
    if section.entire_space and any(one.of is None for one in labels[1:]):
        return False
    return section.takes_labels == bool(labels)


def numbers_of(name: str) -> str:
    """The part of NUMBERS behind a model's name, or ""."""
    return next((way for way in NUMBERS if name.endswith(way)), "")


def numbers_as(
    way: str, numbers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """`features.numeric` with each number that has no buckets or pieces.

    Args:
        way: of NUMBERS.
        numbers: `features.numeric` of the config, with every default.
    """
    return [
        {**one, **NUMBERS[way]} if is_plain(one) else dict(one)
        for one in numbers
    ]


def is_plain(number: Mapping[str, Any]) -> bool:
    """True for a number of `features.numeric` without pieces and buckets."""
    return not number["pieces"] and not number["transform"].endswith("buckets")


def contenders(
    config: ModelConfig,
    optimizer: Mapping[str, Any],
    names: Sequence[str],
    optimizers: Sequence[str],
) -> list[Contender]:
    """Each architecture with each optimizer.

    What the config gives of `hidden` and other options that all have counts
    for all; an architecture's own options for itself.

    Args:
        config: the config's `model`.
        optimizer: the config's `optimizer` section.
        names: of architectures, some with a part of NUMBERS.
        optimizers: names, or none for the config's own.
    """
    common = {
        key: getattr(config, key)
        for key in config.model_fields_set & ModelConfig.model_fields.keys()
        if key != "name"
    }
    found = []
    for whole in names:
        numbers = numbers_of(whole)
        name = whole.removesuffix(numbers)
        section = config
        if name != config.name:
            section = ModelConfig.model_validate({"name": name, **common})
        for other in optimizers:
            label = whole if len(optimizers) == 1 else f"{whole}, {other}"
            spec = _like(optimizer, other)
            found.append(Contender(label, section.asked(), spec, numbers))
        if not optimizers:
            found.append(Contender(whole, section.asked(), optimizer, numbers))
    return found


def _like(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The optimizer `name`: the config's own, or one of its schedule."""
    if config.get("name") == name:
        return config
    schedule = config.get("schedule")
    if schedule is None or name in FIXED_RATE:
        return asked({"name": name})
    return asked({"name": name, "schedule": schedule})


def start(
    name: str,
    config: Mapping[str, Any],
    adamw: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The optimizer's section that the search begins with.

    The config's own settings count where it names this optimizer, its
    schedule for all.

    Args:
        name: of the optimizer.
        config: the config's `optimizer` section.
        adamw: AdamW's section, of which Lion's rate and decay are derived.
    """
    own = dict(config) if config.get("name") == name else {}
    for key in TABLE_ARGUMENTS:  # one rate is searched
        own.pop(key, None)
    spec: dict[str, Any] = {"name": name, **own}
    if name == "lion":
        adamw = adamw or start("adamw", config)
        spec["learning_rate"] = _short(adamw["learning_rate"] / _RATIO)
        decay = adamw.get("weight_decay") or 0.0  # null is none, too
        spec["weight_decay"] = _short(decay * _RATIO)
    else:
        spec.setdefault(
            "learning_rate", rates_of(name, "", 1.0)["learning_rate"]
        )
    if name == "adamw":
        spec.setdefault("weight_decay", _ADAMW_DECAY)
    schedule = config.get("schedule")
    if schedule is not None and name not in FIXED_RATE:
        spec["schedule"] = schedule
    return spec


def search(
    spec: Mapping[str, Any], loss: Callable[[dict[str, Any]], float]
) -> tuple[dict[str, Any], bool]:
    """The rate with the least loss, then the weight decay if there is any.

    Every search may have as many trainings, whatever it searches.

    Returns:
        The optimizer's section, and whether its best rate or decay is the
        last one that was tried.
    """
    best, on_edge = dict(spec), False
    searched = {key: grid for key, grid in _GRIDS.items() if best.get(key)}
    left = 2 * sum(map(len, _GRIDS.values()))  # trainings, the same for all
    for key, grid in searched.items():
        limit = 2 * len(grid) if len(searched) > 1 else left
        at = partial(_scaled, best, key)
        exponent, edge = minimum(
            lambda e, at=at: loss(at(e)),  # type: ignore[misc]
            grid,
            limit,
        )
        best, on_edge = at(exponent), on_edge or edge
    if not searched:  # groups: each has a rate of its own
        loss(best)
    return best, on_edge


def _scaled(spec: dict[str, Any], key: str, exponent: float) -> dict[str, Any]:
    keys = _TOGETHER if key in _TOGETHER else (key,)
    return spec | {
        name: _short(spec[name] * 10**exponent)
        for name in keys
        if spec.get(name)
    }


def _short(value: float) -> float:
    """Settings are shown, and are the name of a training on disk."""
    return float(f"{value:.2g}")


def minimum(
    loss: Callable[[float], float], grid: Sequence[float], limit: int
) -> tuple[float, bool]:
    """Where `loss` is least among the grid's points.

    The grid grows by its step where its edge is best, to `limit` points at
    most; also whether an edge is best all the same.
    """
    points = list(grid)
    step = points[1] - points[0]
    values = {point: loss(point) for point in points}
    while True:
        best = min(points, key=values.__getitem__)
        if points[0] < best < points[-1]:
            return best, False
        if len(points) >= limit:
            return best, True
        new = best - step if best == points[0] else best + step
        values[new] = loss(new)
        points = sorted(values)
