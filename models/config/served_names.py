"""Names of columns in the exported model's signature."""

from __future__ import annotations

import itertools
import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

_TAKEN = {"self"}  # by the function that a loaded signature is


def served_name(raw: str) -> str:
    """The column's name, or the nearest one that TensorFlow takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", raw)
    if not name[:1].isalpha() or keyword.iskeyword(name) or name in _TAKEN:
        return f"f_{name}"
    return name


def served_names(names: Iterable[str]) -> dict[str, str]:
    """Column -> its name in the signature, no two of which are equal.

    Names in other scripts become the same underscores: the second one gets a
    number. TensorFlow takes names that differ only in case for one.

    Raises:
        ValueError: two columns in Latin script would have one name.
    """
    ordered = list(dict.fromkeys(names))
    owners: dict[str, str] = {}
    for name in filter(str.isascii, ordered):
        other = owners.setdefault(served_name(name).lower(), name)
        if other != name:
            raise ValueError(
                f"features {other!r} and {name!r} would both be"
                f" {served_name(name)!r} in the exported model, where other"
                " characters than letters, digits and _ become _, and case"
                " does not count; rename one of the columns"
            )
    served = {name: served_name(name) for name in ordered}
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
    for name in ordered:
        if name.isascii():
            continue
        wanted = free = served[name]
        while free.lower() in owners:
            free = f"{wanted}_{next(numbers[wanted.lower()])}"
        served[name] = free
        owners[free.lower()] = name
    return served
