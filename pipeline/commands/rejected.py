"""`lionctr rejected`: which rows a run did not use, and why."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from models import valid_json
from models.errors import InputError
from pipeline import object_store
from pipeline.run_store import SUMMARY, find_run
from serving.object_store import is_store

_WIDEST = 500  # characters shown of a row


def show(
    run: str,
    root: str = "runs",
    reason: str = "",
    limit: int = 20,
    as_json: bool = False,
) -> int:
    """Prints counts by reason, then rows; returns the exit code.

    Args:
        run: a run's id or folder, `last`, a config (its last run), or the
            folder or URI of an artifact of rejected rows.
        root: where runs are, for an id and for `last`.
        reason: only rows whose reason holds this text.
        limit: so many rows at most; 0 for all.

    Raises:
        InputError: there is no such run, or it kept no rejected rows.
    """
    folder = _folder(run, root)
    rows = _chosen(folder, reason, limit)
    reasons = _reasons(folder)
    if as_json:
        found = {"rejected": folder, "reasons": reasons, "rows": list(rows)}
        print(valid_json.dumps(found))
        return 0
    print(f"{sum(reasons.values()):,} rows in {folder}")
    for text, count in Counter(reasons).most_common():
        print(f"{count:12,}  {_printable(text)}")
    shown = 0
    for row in rows:
        print(f"\n{row['file']}, {row['where']}: {_printable(row['reason'])}")
        print(f"  {_readable(row)}")
        shown += 1
    matching = sum(n for text, n in reasons.items() if _holds(text, reason))
    if matching > shown:
        print(
            f"\n{matching - shown:,} more; --limit 0 shows all, --reason TEXT"
            " some"
        )
    return 0


def _folder(run: str, root: str) -> str:
    """Where the rejected rows of `run` are."""
    path = Path(run)
    if is_store(run):
        run = str(object_store.fetched(run))
        path = Path(run)
    if "://" in run or (path.is_dir() and not (path / SUMMARY).exists()):
        if next(_files(run), None) is None and not _counts(run):
            raise InputError(
                f"{run}: neither a run's folder (there is no {SUMMARY}) nor"
                " one of rejected rows"
            )
        return run
    path = find_run(run, root)
    summary = json.loads((path / SUMMARY).read_text("utf-8"))
    folder = summary.get("rejected")
    if not folder:
        raise InputError(
            f"{path}: the run has no rejected rows to show; it ended before"
            f" they were written: {summary.get('message') or 'no message'}"
        )
    if is_store(folder):
        return str(object_store.fetched(folder))
    if "://" not in folder and not Path(folder).is_dir():
        raise InputError(f"{path}: its rejected rows, {folder}, are gone")
    return str(folder)


def _chosen(folder: str, reason: str, limit: int) -> Iterator[dict[str, str]]:
    number = 0
    for row in _rows(folder):
        if limit and number == limit:
            return
        if _holds(row["reason"], reason):
            number += 1
            yield row


def _holds(text: str, reason: str) -> bool:
    return reason.casefold() in text.casefold()


def _reasons(folder: str) -> dict[str, int]:
    counts = _counts(folder)
    if "reasons" not in counts:
        return dict(Counter(row["reason"] for row in _rows(folder)))
    clicks = counts.get("clicks", {}).get("reasons", {})
    found = Counter(counts["reasons"]) + Counter(clicks)
    for events in counts.get("events", {}).values():
        found += Counter(events["reasons"])
    return dict(found)


def _counts(folder: str) -> dict[str, Any]:
    try:
        with _open(f"{folder}/counts.json") as stream:
            counts = json.loads(stream.read())
    except OSError:
        return {}
    return counts if isinstance(counts, dict) else {}


def _rows(folder: str) -> Iterator[dict[str, str]]:
    for path in _files(folder):
        with _open(path) as stream:
            for line in stream:
                yield json.loads(line)


def _files(folder: str) -> Iterator[str]:
    if "://" not in folder:
        yield from map(str, sorted(Path(folder).glob("rejected-*.jsonl")))
        return
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([f"{folder}/rejected-*.jsonl"])[0].metadata_list
    yield from sorted(str(item.path) for item in found)


def _open(path: str) -> IO[bytes]:
    if "://" not in path:
        return Path(path).open("rb")
    from apache_beam.io.filesystems import FileSystems

    return cast(IO[bytes], FileSystems.open(path))


def _readable(row: dict[str, str]) -> str:
    """The row, with escapes for what a terminal cannot or should not show."""
    text = row.get("row", "")
    if "row_base64" in row:
        data = base64.b64decode(row["row_base64"])
        text = data.decode(errors="backslashreplace")
    shown = _printable(text[:_WIDEST])
    if len(text) > _WIDEST:
        shown += f"... ({len(text):,} characters; --json shows all)"
    return shown


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )
