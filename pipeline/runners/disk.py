"""Room on the disks of a run: looked at before a step, named when it ends."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.errors import FailedError

_FULL = {
    errno.ENOSPC: "",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "a file would be larger than a limit on file sizes allows",
}
# As TensorFlow, Beam, SQLite and ML Metadata say it, without a number.
_WORDS = {
    "no space left": "",
    "database or disk is full": "",
    "cannot commit": "",
    "disk i/o error": "",
    "disk quota exceeded": _FULL[errno.EDQUOT],
    "file too large": _FULL[errno.EFBIG],
}
_DATABASE = ("database or disk", "cannot commit", "disk i/o")
_PROBE = 1 << 16
_LITTLE = 64 << 20  # below it a warning, whatever the step


def temporary() -> Path:
    """The folder of temporary files."""
    named = os.environ.get("TMPDIR")
    return Path(named) if named else Path(tempfile.gettempdir())


def check(step: str, places: Sequence[Path], need: int) -> Iterator[str]:
    """Yields a warning for each place with less room than `need` bytes.

    Args:
        step: the component that begins.
        places: folders that it writes to; those of one disk count once.
        need: bytes that it reads, and about those that it writes.

    Raises:
        FailedError: a place takes no file at all.
    """
    disks = set()
    for place in places:
        folder = _existing(place)
        disk = folder.stat().st_dev
        why = _refusal(folder)
        if why is not None:
            raise FailedError(_full(place, why))
        if disk in disks:
            continue
        disks.add(disk)
        free = shutil.disk_usage(folder).free
        if free < max(need, _LITTLE):
            about = f"; it may write {size(need)}" if need > free else ""
            yield f"warning: {size(free)} free for {step} in {place}{about}"


def explain(error: BaseException, places: Sequence[Path]) -> str | None:
    """The message for a full disk, if that is why `error` was raised.

    Args:
        error: as it was raised; what it came from is looked at too.
        places: folders that the step wrote to, the likeliest first.
    """
    errors = list(_chain(error))
    text = "\n".join(map(str, errors))
    why = next((w for word, w in _WORDS.items() if word in text.lower()), None)
    named: Path | None = None
    for one in errors:
        if isinstance(one, OSError) and one.errno in _FULL:
            why = _FULL[one.errno]
            if isinstance(one.filename, str | bytes):
                named = Path(os.fsdecode(one.filename))
    full = next((p for p in places if _refusal(_existing(p)) is not None), None)
    if why is None and full is None:
        return None
    message = str(error).strip()
    if re.search(r"No space left on (?!device)", message):
        return message
    mentioned = (p for p in places if str(p) in text)
    place = named or full or next(mentioned, places[0])
    if named is None and any(word in text.lower() for word in _DATABASE):
        place = next((p for p in places if p.suffix == ".sqlite"), place)
    return _full(place, why or "")


def size(number: float) -> str:
    """Bytes with a unit."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def _full(place: Path, why: str) -> str:
    free = shutil.disk_usage(_existing(place)).free
    why = why or f"{size(free)} are free now"
    return (
        f"No space left on {place}: {why}. Make room and run the same command"
        " again: finished steps are kept."
    )


def _refusal(folder: Path) -> str | None:
    """Why the disk takes no file of some kB; None if it does, or may not."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
    except OSError as error:
        return _FULL.get(error.errno or 0)
    return None


def _existing(place: Path) -> Path:
    """The folder that is there, of a path that may not be."""
    while not place.is_dir():
        if place == place.parent:
            return Path()
        place = place.parent
    return place


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
