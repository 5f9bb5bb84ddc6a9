"""Config section `tune`: which settings are searched, in which bounds."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, field_validator, model_validator

from models.config.metric_registry import OBJECTIVES
from models.config.training import PositiveInt, Section

_KINDS = (
    "{log: [low, high]}, {linear: [low, high]}, {int: [low, high]},"
    " {choice: [value, ...]}"
)
# All trials share one Transform: of the features only what it does not see.
_TUNABLE = re.compile(
    r"(optimizer|model|train)\..+"
    r"|features\.(numeric|categorical)\.[^.]+\.(dim|pool)"
)


class Tune(Section):
    """A search for the best settings, before the training that is exported."""

    parameters: dict[str, dict[str, tuple[Any, ...]]]
    """Path of a setting -> its range.

    A path may also stand beside the other keys, dotted or nested.
    """
    trials: PositiveInt = 20
    """Number of models that the search trains."""
    algorithm: Literal["random", "bayesian"] = "random"
    """How the search chooses the next trial."""
    objective: Annotated[str, AfterValidator(OBJECTIVES.check)] = "logloss"
    """Metric on the eval split that decides, or `package.module:Name` of your
    own."""
    output: str | None = None
    """Output whose objective decides, such as `cvr`, with `data.labels`; null:
    logloss is the mean over the labels, and AUC that of the first."""
    seed: PositiveInt = 1
    """Seed of the search."""

    @model_validator(mode="before")
    @classmethod
    def _paths_as_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        own = {k: v for k, v in value.items() if k in cls.model_fields}
        beside = {k: v for k, v in value.items() if k not in own}
        given = own.get("parameters", {})
        if not isinstance(given, Mapping):
            return value
        found: dict[str, Any] = {}
        written: dict[str, str] = {}
        for tree, above in ((given, "parameters: "), (beside, "")):
            for keys, bounds in _flat(tree):
                path = ".".join(keys)
                way = above + "{".join(f"{key}: " for key in keys)
                way += "..." + "}" * (len(keys) - 1)
                if path in found:
                    raise ValueError(
                        f"{path} is given twice, as `{written[path]}` and as"
                        f" `{way}`: give one"
                    )
                found[path], written[path] = bounds, way
        return own | {"parameters": found}

    @field_validator("parameters", mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if not value:
            raise ValueError(
                "give at least one path, such as"
                " optimizer.learning_rate: {log: [1e-5, 1e-2]}"
            )
        for path, bounds in value.items():
            if not _TUNABLE.fullmatch(path):
                options = [k for k in cls.model_fields if k != "parameters"]
                raise ValueError(
                    f"{path}: unknown, or not to be tuned, since all trials"
                    " share one ingest and one Transform. Accepted:"
                    f" {', '.join(options)}, and paths of fields of"
                    " optimizer, model and train, and of `dim` and `pool` of a"
                    " feature"
                )
            problem = _problem(bounds)
            if problem:
                raise ValueError(f"{path}: received {bounds!r}; {problem}")
            for other in value:
                if other.startswith(f"{path}."):
                    raise ValueError(f"{other} is a part of {path}: give one")
        return value

    def ends(self) -> Iterator[tuple[str, Any]]:
        """Path and value, for each bound and each choice."""
        for path, bounds in self.parameters.items():
            for values in bounds.values():
                yield from ((path, value) for value in values)

    def hyperparameters(self) -> Any:
        """The space as a keras_tuner.HyperParameters."""
        import keras_tuner

        space = keras_tuner.HyperParameters()
        for path, bounds in self.parameters.items():
            ((kind, values),) = bounds.items()
            if kind == "choice":
                # KerasTuner knows no lists, and no choices of mixed types.
                space.Choice(path, [json.dumps(v) for v in values])
            elif kind == "int":
                space.Int(path, *values)
            else:
                space.Float(path, *map(float, values), sampling=kind)
        return space


def decoded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value, of a KerasTuner trial."""
    return {
        path: json.loads(value) if isinstance(value, str) else value
        for path, value in values.items()
    }


def applied(
    sections: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of the config's sections with these values in it."""
    changed = copy.deepcopy(dict(sections))
    for path, value in values.items():
        put(changed, path, value)
    return changed


def put(data: dict[str, Any], path: str, value: Any) -> tuple[str, ...]:
    """Sets `path` in nested mappings and lists, which it changes.

    Returns the keys that lead there; an element of a list has its number.

    A list's element goes by its number or its `name`, also where it is only
    the name; a mapping that is missing is made. A key that is itself dotted,
    as in `tune`, is found too.

    Raises:
        ValueError: a list has no such element.
    """
    *parents, last = path.split(".")
    target: Any = data
    way: list[str] = []
    for depth, part in enumerate(parents):
        rest = ".".join([*parents[depth:], last])
        if isinstance(target, dict) and rest in target:
            target[rest] = value
            return (*way, rest)
        if isinstance(target, list):
            number = _index(target, part)
            way.append(str(number))
            if target[number] == part:  # [device] is short for [{name: ...}]
                target[number] = {"name": part}
            target = target[number]
        else:
            way.append(part)
            if not isinstance(target.get(part), dict | list):
                target[part] = {}
            target = target[part]
        if not isinstance(target, dict | list):
            raise ValueError(
                f"{'.'.join(parents[: depth + 1])} is not a section"
            )
    if isinstance(target, list):
        number = _index(target, last)
        target[number] = value
        return (*way, str(number))
    target[last] = value
    return (*way, last)


def _index(items: list[Any], part: str) -> int:
    for number, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else item
        if name == part:
            return number
    if not part.isdecimal() or int(part) >= len(items):
        raise ValueError(
            f"received {part!r}; accepted: 0 to {len(items) - 1}, or the"
            " `name` of an element"
        )
    return int(part)


def _flat(
    tree: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Keys on the way, and bounds, of mappings in mappings."""
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and value
        if nested and all(isinstance(v, Mapping) for v in value.values()):
            yield from _flat(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def _problem(bounds: Any) -> str:
    """Problem of a parameter's bounds; "" if there is none."""
    if not isinstance(bounds, Mapping) or len(bounds) != 1:
        return f"accepted: one of {_KINDS}"
    ((kind, values),) = bounds.items()
    if kind not in ("log", "linear", "int", "choice"):
        return f"accepted: one of {_KINDS}"
    if not isinstance(values, list | tuple) or not values:
        return f"accepted: one of {_KINDS}"
    if kind == "choice":
        return ""
    if len(values) != 2 or not all(map(_is_number, values)):
        return f"accepted: {{{kind}: [low, high]}}, both numbers"
    low, high = values
    if not low < high:
        return "accepted: the lower bound first, and a higher one"
    if kind == "log" and low <= 0:
        return "accepted: bounds above 0 for `log`"
    if kind == "int" and not all(isinstance(v, int) for v in values):
        return "accepted: whole numbers for `int`"
    return ""


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
