"""Daily logs: which files belong to the days, or numbers, that a run reads."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta

from components.click_log_gen import chunks
from components.click_log_gen.config import PLACEHOLDERS, LogFiles, Spans
from models.errors import InputError

_EPOCH = date(1970, 1, 1)  # TFX counts the spans of dates from here
_PARTS = {
    "{DATE}": r"(?P<YYYY>\d{4})-(?P<MM>\d\d)-(?P<DD>\d\d)",
    "{YYYY}": r"(?P<YYYY>\d{4})",
    "{MM}": r"(?P<MM>\d\d)",
    "{DD}": r"(?P<DD>\d\d)",
    "{SPAN}": r"(?P<SPAN>\d+)",
    "{VERSION}": r"(?P<VERSION>\d+)",
    "**": ".*",
    "*": "[^/]*",
    "?": "[^/]",
}


def resolve(source: LogFiles, spans: Spans) -> tuple[LogFiles, dict[int, int]]:
    """`source` with the files of `spans` as its path, oldest span first.

    Of a span's versions the newest counts. Also returns span -> version, 0
    where the paths have none; a date's span is its day since 1970.

    Raises:
        InputError: no file matches, or a span is missing.
    """
    found: dict[int, dict[int, list[str]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for pattern in source.path:
        shape = re.compile(_regex(pattern))
        for path, _, _ in chunks.find((_glob(pattern),)):
            match = shape.fullmatch(path)
            number = _number(match) if match else None
            if match is not None and number is not None:
                version = int(match.groupdict().get("VERSION") or 0)
                found[number][version].append(path)
    dates = "{SPAN}" not in source.path[0]
    wanted = _wanted(sorted(found), spans, dates)
    versions = {number: max(found[number]) for number in wanted}
    files = [
        path for number in wanted for path in found[number][versions[number]]
    ]
    return source.model_copy(update={"path": tuple(files)}), versions


def _wanted(there: list[int], spans: Spans, dates: bool) -> list[int]:
    """The spans to read, in order."""
    since, until = _bound(spans.since), _bound(spans.until)
    if until is None:
        until = there[-1] if there else 0
    if since is None and spans.last is not None:
        since = until - spans.last + 1
    assert since is not None  # the config's own check
    wanted = range(since, until + 1)
    present = set(there)
    missing = [n for n in wanted if n not in present]
    if missing and (not spans.skip_missing or len(missing) == len(wanted)):
        shown = _shown(missing[:5], dates)
        if len(missing) > 5:
            shown += f" and {len(missing) - 5} more"
        have = (
            f"{_shown(there[:1], dates)} to {_shown(there[-1:], dates)}"
            if there
            else "none"
        )
        raise InputError(
            f"data.spans: no files of {shown}; there are files of {have}."
            " `skip_missing: true` goes on without them"
        )
    return [n for n in wanted if n in present]


def _bound(value: date | int | None) -> int | None:
    return (value - _EPOCH).days if isinstance(value, date) else value


def _shown(numbers: Iterable[int], dates: bool) -> str:
    return ", ".join(
        str(_EPOCH + timedelta(number)) if dates else str(number)
        for number in numbers
    )


def _glob(pattern: str) -> str:
    for placeholder in PLACEHOLDERS:
        pattern = pattern.replace(placeholder, "*")
    return pattern


def _regex(pattern: str) -> str:
    """What the paths that `pattern` stands for look like."""
    tokens = re.split(r"(\{[A-Z]+\}|\*\*|\*|\?)", pattern)
    regex = "".join(_PARTS.get(token, re.escape(token)) for token in tokens)
    seen: set[str] = set()

    def once(match: re.Match[str]) -> str:
        # A group has its name once; where it comes again it must be equal.
        name = match.group(1)
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return match.group(0)

    return re.sub(r"\(\?P<(\w+)>[^)]*\)", once, regex)


def _number(match: re.Match[str]) -> int | None:
    """The span of a path; None if its digits are no date."""
    groups = match.groupdict()
    if groups.get("SPAN") is not None:
        return int(groups["SPAN"])
    try:
        day = date(*(int(groups[part]) for part in ("YYYY", "MM", "DD")))
    except ValueError:
        return None
    return (day - _EPOCH).days
