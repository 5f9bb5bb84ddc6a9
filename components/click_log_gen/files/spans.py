"""Daily logs: which files belong to the days, or numbers, that a run reads."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

from components.click_log_gen.config.log_files import PLACEHOLDERS, LogFiles
from components.click_log_gen.config.log_formats import FORMATS
from components.click_log_gen.config.sections import DataConfig, Spans
from components.click_log_gen.files import log_paths as files
from models import user_code
from models.config.paths import is_local
from models.errors import InputError

_Found = dict[int, dict[int, list[str]]]  # span -> version -> files

_EPOCH = date(1970, 1, 1)  # TFX counts the spans of dates from here
# One digit where no other stands beside it: month=1.
_SHORT = r"\d\d|(?<!\d)\d(?!\d)"
_PARTS = {
    "YYYY": r"\d{4}",
    "MM": _SHORT,
    "DD": _SHORT,
    "SPAN": r"\d+",
    "VERSION": r"\d+",
}
_GLOBS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
_CLASS = re.compile(r"\[(?:!|(?!!))(?:\][^\]]*|[^\]]+)\]")
_TOKEN = re.compile(rf"(\{{[A-Z]+\}}|{_CLASS.pattern}|\*\*|\*|\?)")


def data_version(data: DataConfig) -> str:
    """Changes when a file of a log is added, removed or written.

    And when the code of a log format of the user's own changes.
    """
    digest = hashlib.sha256()
    for name, log in resolved(data)[0].logs.items():
        for entry in files.find(log.path, f"data.{name}.path"):
            state = (name, *entry, *_times(entry[0]))
            digest.update(repr(state).encode())
        if FORMATS.is_own(log.format):
            module = log.format.partition(":")[0]
            digest.update(user_code.version([module]).encode())
    return digest.hexdigest()[:16]


def _times(path: str) -> tuple[int, ...]:
    """Nanoseconds of the last change of a local file and of its inode.

    `cp -p`, `touch -r` and archives set the first one back; the second one is
    the kernel's alone.
    """
    if not is_local(path):
        return ()
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_ctime_ns


def log_bytes(data: DataConfig) -> int:
    """Bytes of all files of the logs, packed as they are."""
    return sum(
        entry[1]
        for name, log in resolved(data)[0].logs.items()
        for entry in files.find(log.path, f"data.{name}.path")
    )


def resolved(data: DataConfig) -> tuple[DataConfig, dict[int, int]]:
    """`data` with the files of its spans as paths; span -> version.

    The impressions choose the spans, and a click log must have each of them.
    The versions are those of the impressions; none where there are no spans.

    Raises:
        InputError: no file matches, or a span is missing.
    """
    if data.spans is None:
        return data, {}
    shown, versions = resolve(data.impressions, data.spans)
    update: dict[str, object] = {"impressions": shown, "spans": None}
    if data.clicks is not None:
        update["clicks"] = _clicks(data.clicks, list(versions))
    update["events"] = {
        name: _clicks(log, list(versions), f"data.events.{name}.path", "event")
        for name, log in data.events.items()
    }
    return data.model_copy(update=update), versions


def days(data: DataConfig) -> dict[str, int]:
    """Impressions' file -> its day since 1970, where rows have no time.

    Raises:
        InputError: no file matches.
    """
    if data.time is not None or data.spans is None:
        return {}
    found = _found(data.impressions, "data.impressions.path")
    return {
        path: number
        for number, of_version in found.items()
        for paths in of_version.values()
        for path in paths
    }


def resolve(
    source: LogFiles, spans: Spans, field: str = "data.impressions.path"
) -> tuple[LogFiles, dict[int, int]]:
    """`source` with the files of `spans` as its path, oldest span first.

    Of a span's versions the newest counts. Also returns span -> version, 0
    where the paths have none; a date's span is its day since 1970.

    Raises:
        InputError: no file matches, or a span is missing.
    """
    found = _found(source, field)
    wanted = _wanted(sorted(found), spans, _has_dates(source), field)
    versions = {number: max(found[number]) for number in wanted}
    return _only(source, found, wanted), versions


def _clicks(
    source: LogFiles,
    wanted: list[int],
    field: str = "data.clicks.path",
    what: str = "click",
) -> LogFiles:
    """`source` with the files of the impressions' spans as its path.

    Without a span's clicks all its impressions would be negatives, so here
    `skip_missing` does not count.
    """
    found = _found(source, field)
    missing = [number for number in wanted if number not in found]
    if missing:
        raise InputError(
            f"data.spans: {field} has no files of"
            f" {_some(missing, _has_dates(source))}, of which there are"
            f" impressions; give an empty {what} file for a day without"
            f" {what}s, or end the spans before it"
        )
    return _only(source, found, wanted)


def _found(source: LogFiles, field: str) -> _Found:
    found: _Found = defaultdict(lambda: defaultdict(list))
    for pattern in source.path:
        for path, match in _matches(files.as_glob(pattern), field):
            number = _number(match)
            if number is not None:
                version = max(_numbers(match).get("VERSION", {0}))
                found[number][version].append(path)
    if not found:
        raise InputError(
            f"{field}: no file matches {', '.join(map(repr, source.path))};"
            " {YYYY}, {MM} and {DD} (together {DATE}) stand for the digits of"
            " a day, {SPAN} and {VERSION} for those of a number"
        )
    return found


def _matches(pattern: str, field: str) -> Iterator[tuple[str, re.Match[str]]]:
    """The files of any span; those in folders if `pattern` is of folders."""
    glob, regex = _glob(pattern), _regex(pattern)
    there = False
    for path, _, _ in files.matches(glob, field):
        match = re.fullmatch(regex, path)
        if match:
            there = True
            yield path, match
    for path, _, _ in [] if there else files.inside(glob, field):
        match = re.fullmatch(f"{regex.rstrip('/')}/.*", path)
        if match:
            yield path, match


def _only(source: LogFiles, found: _Found, wanted: list[int]) -> LogFiles:
    """`source` with the newest version of each span in `wanted`."""
    newest = [found[number][max(found[number])] for number in wanted]
    files = tuple(path for paths in newest for path in paths)
    return source.model_copy(update={"path": files})


def _has_dates(source: LogFiles) -> bool:
    return "{SPAN}" not in source.path[0]


def _wanted(
    there: list[int], spans: Spans, dates: bool, field: str
) -> list[int]:
    """The spans to read, in order."""
    since, until = _bound(spans.since), _bound(spans.until)
    if until is None:
        until = there[-1] if since is None else max(there[-1], since)
    if since is None and spans.last is not None:
        since = until - spans.last + 1
    assert since is not None  # the config's own check
    wanted = range(since, until + 1)
    present = set(there)
    missing = [n for n in wanted if n not in present]
    if missing and (not spans.skip_missing or len(missing) == len(wanted)):
        raise InputError(
            f"data.spans: {field} has no files of {_some(missing, dates)};"
            f" it has {_shown(there[:1], dates)} to"
            f" {_shown(there[-1:], dates)}. `skip_missing: true` goes on"
            " without them"
        )
    return [n for n in wanted if n in present]


def _bound(value: date | int | None) -> int | None:
    return (value - _EPOCH).days if isinstance(value, date) else value


def _some(numbers: list[int], dates: bool) -> str:
    shown = _shown(numbers[:5], dates)
    more = len(numbers) - 5
    return f"{shown} and {more} more" if more > 0 else shown


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
    """Regular expression of the paths that `pattern` stands for.

    The groups are placeholders, numbered, since one may come again.
    """
    pattern = pattern.replace("{DATE}", "{YYYY}-{MM}-{DD}")
    return "".join(
        f"(?P<{token[1:-1]}_{number}>{_PARTS[token[1:-1]]})"
        if token[1:-1] in _PARTS
        else _GLOBS.get(token) or _literal(token)
        for number, token in enumerate(_TOKEN.split(pattern))
    )


def _literal(token: str) -> str:
    """`[...]` as fnmatch reads it, anything else as it is."""
    if not _CLASS.fullmatch(token):
        return re.escape(token)
    inside = re.sub(r"([\\&~|\[])", r"\\\1", token[1:-1])
    if inside[0] in "!^":
        inside = {"!": "^", "^": r"\^"}[inside[0]] + inside[1:]
    return f"[{inside}]"


def _numbers(match: re.Match[str]) -> dict[str, set[int]]:
    """Placeholder -> the numbers that stand in its places."""
    found: dict[str, set[int]] = defaultdict(set)
    for group, digits in match.groupdict().items():
        found[group.partition("_")[0]].add(int(digits))
    return found


def _number(match: re.Match[str]) -> int | None:
    """The span of a path; None if its digits are no date, or differ."""
    numbers = _numbers(match)
    if any(len(values) > 1 for values in numbers.values()):
        return None
    one = {name: max(values) for name, values in numbers.items()}
    if "SPAN" in one:
        return one["SPAN"]
    try:
        day = date(*(one[part] for part in ("YYYY", "MM", "DD")))
    except ValueError:
        return None
    return (day - _EPOCH).days
