"""Messages about a wrong config: file and line, field, received, accepted."""

from __future__ import annotations

import re

from pydantic import BaseModel, ValidationError

from optimizers.config.messages import TOP, nearest, problems, shown
from pipeline.yaml_file import NO_LINE, Lines

__all__ = ["explain", "nearest", "place", "shown"]


def explain(
    error: ValidationError,
    root: type[BaseModel],
    above: tuple[str, ...] = (),
    where: str = "",
    lines: Lines | None = None,
) -> list[str]:
    """One line for each field: file and line, path, received, accepted.

    Args:
        error: of pydantic.
        root: the section at the top, to which the paths belong.
        above: the path of what was validated.
        where: the file; "" for none.
        lines: of the file.
    """
    found, more = problems(error, root, above)
    told = [
        f"{place(where, lines or {}, field, text)}{field}: {text}"
        for field, text in found.items()
    ]
    if more:
        rest = f"... and {more:,} more problems"
        told.append(f"{where}: {rest}" if where else rest)
    return told


def place(where: str, lines: Lines, field: str, text: str = "") -> str:
    """`FILE:LINE: ` of a field, or of the section that it is missing from.

    text: the problem; a section's check names the setting first.
    """
    if not where:
        return ""
    path = () if field == TOP else tuple(field.split("."))
    named = re.match(r"`?([\w.\[\]-]+)", text)
    inside = named[1].replace("[", ".").replace("]", "") if named else ""
    parts = tuple(inside.strip(".").split("."))
    ways = [(*path, *parts), (*path, inside), parts, path]
    ways += [path[:length] for length in range(len(path) - 1, 0, -1)]
    line = next((lines[way] for way in ways if way in lines), None)
    if line == NO_LINE:
        return f"--set, {where}: "
    return f"{where}:{line}: " if line else f"{where}: "
