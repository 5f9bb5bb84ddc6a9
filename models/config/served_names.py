"""What a column is called in the exported model's signature."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

_TAKEN = {"self"}  # by the function that a loaded signature is


def served_name(raw: str) -> str:
    """The column's name, or the nearest one that TensorFlow takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", raw)
    if not name[:1].isalpha() or keyword.iskeyword(name) or name in _TAKEN:
        return f"f_{name}"
    return name


def check_served(names: Iterable[str]) -> None:
    """Raises ValueError if two columns would have one name.

    TensorFlow takes names that differ only in case for one.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(served_name(name).lower(), name)
        if other != name:
            raise ValueError(
                f"features {other!r} and {name!r} would both be"
                f" {served_name(name)!r} in the exported model, where other"
                " characters than letters, digits and _ become _, and case"
                " does not count; rename one of the columns"
            )
