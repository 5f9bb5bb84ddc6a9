"""Versions in an object store, copied to this machine to be served."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving import manifest
from serving.errors import ServingError
from serving.model_folder import GRAPH, PIN, preferred, version_number
from serving.object_store import CREDENTIALS, StoreFiles

_logger = logging.getLogger(__name__)
_SOURCE = ".source.json"  # in a copy: the files that it is of
_NEW, _OLD = ".fetch-", ".gone-"
_TRIES = 2
# Path in a version -> its bytes, and the time of change.
_Files = Mapping[str, tuple[int, int]]


class StoreVersions:
    """A folder of this machine with copies of the versions in a store.

    Every copy is compared with its manifest, and appears by one rename. The
    folder stays for the next process: `$XDG_CACHE_HOME/lionctr`, or
    `~/.cache/lionctr`.

    Args:
        uri: of the model's folder, such as s3://bucket/serving/ads.

    Raises:
        ServingError: no folder can be made.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        # Another endpoint has other buckets of the same name.
        places = [self._uri, *map(os.environ.get, _ENDPOINTS)]
        key = hashlib.sha256(repr(places).encode()).hexdigest()[:16]
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        above = Path(home).expanduser() / "lionctr" / "models" / key
        self.folder = above / self._uri.rpartition("/")[2]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServingError(
                f"{uri} cannot be copied to {self.folder}: {error.strerror}."
                " XDG_CACHE_HOME names another folder"
            ) from error

    def first(self, keep: int, pin: int | None) -> None:
        """Copies versions to serve, before anything is loaded.

        Raises:
            ServingError: the store does not answer, or holds no version.
        """
        try:
            found = self.update(keep, pin)
        except OSError as error:
            raise ServingError(
                f"{self._uri} cannot be read: {error}. {CREDENTIALS}"
            ) from error
        if not found:
            raise ServingError(
                f"{self._uri} holds no version (a folder named by an integer,"
                f" with {GRAPH})"
            )

    def update(self, keep: int, pin: int | None = None) -> list[int]:
        """Brings the folder in line with the store; the versions there.

        Args:
            keep: how many of the preferred versions are copied.
            pin: the version to serve; None: the one that the store pins.

        Raises:
            OSError: the store does not answer.
        """
        below = StoreFiles().below(self._uri)
        versions: dict[int, dict[str, tuple[int, int]]] = {}
        for name, info in below.items():
            above, _, inside = name.partition("/")
            number = version_number(above) if inside else None
            if number is not None and not inside.startswith("."):
                files = versions.setdefault(number, {})
                files[inside] = (info.size, info.mtime_ns)
        whole = {v: files for v, files in versions.items() if GRAPH in files}
        self._copy_pin(PIN in below)
        for path in self.folder.iterdir():
            local = version_number(path.name)
            if local is not None and local not in whole:
                _remove(path)
        pin = pin if pin is not None else self._pin()
        holding = 0
        for version in preferred(whole, pin if pin in whole else None):
            if holding == keep:
                break
            holding += self._ensure(version, whole[version])
        return sorted(whole)

    def version(self, number: int) -> Path:
        """A copy of one version.

        Raises:
            OSError: the store does not answer.
        """
        self.update(1, number)
        return self.folder / str(number)

    def _ensure(self, version: int, files: _Files) -> bool:
        """Copies a version if need be; returns whether it holds.

        One that does not hold is left for the server, which says so.
        """
        target = self.folder / str(version)
        stamp = json.dumps(dict(sorted(files.items())))
        known = _read(target / _SOURCE)
        if known.get("files") == stamp:
            return bool(known["holds"])
        for attempt in range(_TRIES):
            new = self.folder / f"{_NEW}{uuid.uuid4().hex}"
            try:
                holds = self._copy(version, files, new)
                if not holds and attempt + 1 < _TRIES:
                    continue
                text = json.dumps({"files": stamp, "holds": holds})
                (new / _SOURCE).write_text(text, "utf-8")
                if target.exists():
                    _remove(target)
                new.rename(target)
                return holds
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return False

    def _copy(self, version: int, files: _Files, new: Path) -> bool:
        store = StoreFiles()
        for name in files:
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                store.open(f"{self._uri}/{version}/{name}") as source,
                path.open("xb") as target,
            ):
                shutil.copyfileobj(source, target, manifest.CHUNK)
        try:
            manifest.verify(str(new))
        except manifest.DamagedError as error:
            _logger.error("%s/%d: %s", self._uri, version, error)
            return False
        _logger.info("%s/%d is copied to this machine", self._uri, version)
        return True

    def _copy_pin(self, is_there: bool) -> None:
        pin = self.folder / PIN
        if not is_there:
            pin.unlink(missing_ok=True)
            return
        with StoreFiles().open(f"{self._uri}/{PIN}", "r") as file:
            text = file.read()
        new = self.folder / f"{_NEW}{uuid.uuid4().hex}"
        new.write_text(text, "utf-8")
        new.replace(pin)

    def _pin(self) -> int | None:
        try:
            text = (self.folder / PIN).read_text("utf-8")
        except FileNotFoundError:
            return None
        return version_number(text.strip())


_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "STORAGE_EMULATOR_HOST",
)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove(path: Path) -> None:
    """Takes a version away at once, then removes its files."""
    hidden = path.with_name(f"{_OLD}{uuid.uuid4().hex}")
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
