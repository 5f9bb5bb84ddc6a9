"""Follow a directory of integer version folders: load, switch, unload."""

import gc
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

_logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")
# Every file of a version with its size and time of change.
Fingerprint = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Snapshot(Generic[Loaded]):
    """What is loaded at one moment; never changed, only replaced."""

    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    loading: int | None = None
    failed: Mapping[int, str] = field(default_factory=dict)


class VersionWatcher(Generic[Loaded]):
    """Keeps the newest versions of a model directory loaded.

    A version is one folder whose name is an integer; anything else, such as
    a folder that a push is still writing, is ignored. A version that does
    not load is skipped until its files change. A version whose folder is
    gone was revoked and is dropped; so are those older than the newest
    `keep`. Whoever still holds a dropped version may finish with it.
    """

    def __init__(
        self,
        model_dir: Path,
        load: Callable[[Path], Loaded],
        publish: Callable[[Snapshot[Loaded]], None],
        keep: int = 2,
    ) -> None:
        """Watches nothing yet: see `refresh` and `start`.

        Args:
            model_dir: holds the version folders.
            load: loads and warms up one version; may raise anything.
            publish: is given every new snapshot; must not block.
            keep: how many versions stay loaded, at least 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1. Received: {keep}")
        self._model_dir = model_dir
        self._load = load
        self._publish = publish
        self._keep = keep
        self._loaded: dict[int, Loaded] = {}
        self._fingerprints: dict[int, Fingerprint] = {}
        self._failed: dict[int, tuple[Fingerprint, str]] = {}
        self._unreadable = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval: float) -> None:
        """Refreshes every `interval` seconds, in a thread of its own."""
        self._thread = threading.Thread(
            target=self._run, args=(interval,), name="versions", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Stops watching; waits for a load that is under way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def refresh(self, keep: int | None = None) -> None:
        """Brings what is loaded in line with the directory, once."""
        try:
            found = scan(self._model_dir)
        except OSError as error:
            # A file system that fails to answer revokes nothing.
            if not self._unreadable:
                _logger.warning("cannot read %s: %s", self._model_dir, error)
            self._unreadable = True
            return
        self._unreadable = False
        gone = self._failed.keys() - found.keys()
        for version in gone:
            del self._failed[version]
        if gone:
            self._show()
        self._drop(self._loaded.keys() - found.keys(), "revoked")
        wanted: set[int] = set()
        for version in sorted(found, reverse=True):
            if self._ensure(version, found[version]):
                wanted.add(version)
            if len(wanted) == (keep or self._keep):
                break
        self._drop(self._loaded.keys() - wanted, "superseded")

    def _ensure(self, version: int, path: Path) -> bool:
        fingerprint = _fingerprint(path)
        failed = self._failed.get(version)
        known = failed[0] if failed else self._fingerprints.get(version)
        if known == fingerprint:
            return version in self._loaded
        self._show(loading=version)
        try:
            self._loaded[version] = self._load(path)
        except Exception as error:
            # TensorFlow raises most of Python's exceptions for what may be
            # wrong with a SavedModel; none of them may stop serving.
            reason = str(error).strip() or type(error).__name__
            self._failed[version] = (fingerprint, reason)
            _logger.error("version %d is skipped: %s", version, reason)
            _logger.debug("version %d", version, exc_info=True)
        else:
            self._fingerprints[version] = fingerprint
            self._failed.pop(version, None)
            _logger.info("version %d is loaded", version)
        self._show()
        return version in self._loaded

    def _drop(self, versions: set[int], reason: str) -> None:
        if not versions:
            return
        for version in versions:
            del self._loaded[version]
            del self._fingerprints[version]
            _logger.info("version %d is unloaded: %s", version, reason)
        self._show()
        # Loaded models are full of reference cycles; their memory comes back
        # only with a collection.
        gc.collect()

    def _show(self, loading: int | None = None) -> None:
        failed = {version: why for version, (_, why) in self._failed.items()}
        self._publish(Snapshot(dict(self._loaded), loading, failed))

    def _run(self, interval: float) -> None:
        while not self._stopped.wait(interval):
            try:
                self.refresh()
            except Exception:
                _logger.exception("watching %s failed", self._model_dir)


def scan(model_dir: Path) -> dict[int, Path]:
    """The version folders of a model directory.

    Raises:
        OSError: the directory cannot be read.
    """
    return {
        int(entry.name): entry
        for entry in model_dir.iterdir()
        if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()
    }


def _fingerprint(path: Path) -> Fingerprint:
    files = set()
    for file in path.rglob("*"):
        try:
            status = file.stat()
        except OSError:
            continue
        files.add((str(file), status.st_size, status.st_mtime_ns))
    return frozenset(files)
