"""Kinds of arguments: what each accepts, its default, and how it is refused."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

SPARSE_MODES = ("lazy", "decayed", "dense")
MOMENTUM_DTYPES = ("float32", "float64", "bfloat16", "float16")


class FieldError(ValueError):
    """A problem of one field of a section.

    field: the path, dotted, from that section.
    message: received and accepted, without the field.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class SettingError(FieldError):
    """A setting of an optimizer is wrong; a path from the section on."""

    def __str__(self) -> str:
        field = f"optimizer.{self.field}" if self.field else "optimizer"
        return f"{field}: {self.message}"


def refusal(field: str, received: Any, accepted: str) -> SettingError:
    """The error of a setting, in the words of every other section."""
    return SettingError(
        field,
        f"received {received!r}{_yaml_hint(received)}; accepted: {accepted}",
    )


@dataclass(frozen=True)
class Argument:
    """A test of one argument's value, and the words for what passes it."""

    accepts: str
    test: Callable[[Any], bool]
    default: Any = None

    def with_default(self, default: Any) -> Self:
        """The same argument of an optimizer that has this default."""
        return replace(self, default=default)

    def check(self, name: str, value: Any) -> None:
        """Raises a ValueError of Keras's form if `value` does not pass."""
        if not self.test(value):
            raise ValueError(
                f"`{name}` must be {self.accepts}. "
                f"Received: {value!r}{_yaml_hint(value)}"
            )

    def check_setting(self, field: str, value: Any) -> None:
        """Raises a SettingError if `value` does not pass."""
        if not self.test(value):
            raise refusal(field, value, self.accepts)


def number(
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    optional: bool = False,
) -> Argument:
    """A finite number in [low, high]; `above`, `below` exclude the limit."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return (
            _is_number(value)
            and (value > low if above else value >= low)
            and (value < high if below else value <= high)
        )

    return Argument(_or_null(_range(low, high, above, below), optional), test)


def integer(least: int, *, optional: bool = False) -> Argument:
    """An integer that is at least `least`."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return is_integer(value) and value >= least

    return Argument(_or_null(f"an integer >= {least}", optional), test)


def choice(accepted: tuple[str, ...], *, optional: bool = False) -> Argument:
    """One of the strings `accepted`."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return isinstance(value, str) and value in accepted

    listed = ", ".join(map(repr, accepted))
    return Argument(_or_null(f"one of {listed}", optional), test)


def boolean(default: bool = False) -> Argument:
    """True or False."""
    return Argument(
        "true or false", lambda value: isinstance(value, bool), default
    )


def is_integer(value: Any) -> bool:
    """True if `value` is an integer and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _range(low: float, high: float, above: bool, below: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        left, right = "(" if above else "[", ")" if below else "]"
        return f"a number in {left}{low:g}, {high:g}{right}"
    if math.isfinite(low):
        return f"a number {'>' if above else '>='} {low:g}"
    if math.isfinite(high):
        return f"a number {'<' if below else '<='} {high:g}"
    return "a finite number"


def _or_null(accepts: str, optional: bool) -> str:
    return f"{accepts}, or null" if optional else accepts


def _yaml_hint(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return " (text, not a number: YAML reads 1e-4 as text, 1.0e-4 as a number)"
