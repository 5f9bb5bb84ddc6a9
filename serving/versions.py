"""Follow a directory of integer version folders: load, switch, unload."""

import gc
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from serving.model_folder import pinned, preferred, scan

_logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")
# Every file of a version with its size and time of change.
Fingerprint = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Snapshot(Generic[Loaded]):
    """Versions loaded at one moment; never changed, only replaced.

    served: the version that answers where none is named.
    """

    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    loading: int | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    served: int | None = None


class VersionWatcher(Generic[Loaded]):
    """Keeps the newest versions of a model directory loaded.

    A version is one folder whose name is an integer; anything else, such as
    a folder that a push is still writing, is ignored. The served version is
    the pinned one, else the newest. A version that does not load, or may not
    replace the served one, is skipped until its files change. A version
    whose folder is gone was revoked and is dropped; so are those older than
    the newest `keep`. Whoever still holds a dropped version may finish with
    it.
    """

    def __init__(
        self,
        model_dir: Path,
        load: Callable[[Path], Loaded],
        publish: Callable[[Snapshot[Loaded]], None],
        keep: int = 2,
        accept: Callable[[Loaded, Loaded], None] | None = None,
        pin: int | None = None,
        update: Callable[[], object] | None = None,
    ) -> None:
        """Watches nothing yet: see `refresh` and `start`.

        Args:
            model_dir: holds the version folders.
            load: loads and warms up one version; may raise anything.
            publish: is given every new snapshot; must not block.
            keep: how many versions stay loaded, at least 1.
            accept: is given a new version and the served one; raises if the
                new one may not replace it. It is not asked about a pin.
            pin: the version to serve, whatever the directory's own pin says.
            update: brings the directory up to date before each look at it;
                raises OSError if it cannot.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1. Received: {keep}")
        self._model_dir = model_dir
        self._load = load
        self._publish = publish
        self._keep = keep
        self._accept = accept
        self._fixed_pin = pin
        self._update = update
        self._loaded: dict[int, Loaded] = {}
        self._fingerprints: dict[int, Fingerprint] = {}
        self._failed: dict[int, tuple[Fingerprint, str]] = {}
        # Those that `accept` refused, in favour of the served one.
        self._refused: set[int] = set()
        self._served: int | None = None
        self._changed = False  # since the last snapshot
        self._bad_pin = ""
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
            if self._update is not None:
                self._update()
            found = scan(self._model_dir)
            pin = self._pin(found)
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
        self._refused &= found.keys()
        served = self._choose(found, pin)
        wanted = set() if served is None else {served}
        for version in sorted(found, reverse=True):
            if len(wanted) == (keep or self._keep):
                break
            if self._ensure(version, found[version]):
                wanted.add(version)
                self._show_changes()
        self._drop(self._loaded.keys() - wanted, "superseded")

    def _choose(self, found: Mapping[int, Path], pin: int | None) -> int | None:
        """Loads versions, the preferred first, until one may be served."""
        before = self._loaded.get(self._served) if self._served else None
        if before is None or pin in self._refused:
            # Nothing is left to compare with, or whoever pins it knows.
            for version in self._refused:
                self._failed.pop(version, None)
            self._refused.clear()
        for version in preferred(found, pin):
            if not self._ensure(version, found[version]):
                continue
            known = version == pin or self._loaded[version] is before
            if not known and self._refuses(version, before):
                continue
            if version != self._served:
                why = ", as it is pinned" if version == pin else ""
                _logger.info("version %d is served%s", version, why)
                self._served, self._changed = version, True
            self._show_changes()
            return version
        return None

    def _refuses(self, version: int, before: Loaded | None) -> bool:
        """True if a loaded version may not replace the served one."""
        if self._accept is None or before is None:
            return False
        try:
            self._accept(self._loaded[version], before)
        except Exception as error:
            self._fail(version, self._fingerprints[version], error)
            self._refused.add(version)
            if version == self._served:  # it was rewritten
                self._loaded[version] = before
                return False
            del self._loaded[version], self._fingerprints[version]
            self._show()
            return True
        return False

    def _ensure(self, version: int, path: Path) -> bool:
        """Loads a version if need be; returns whether it is loaded."""
        fingerprint = _fingerprint(path)
        failed = self._failed.get(version)
        known = failed[0] if failed else self._fingerprints.get(version)
        if known == fingerprint:
            return version in self._loaded
        self._show(loading=version)
        self._refused.discard(version)
        try:
            self._loaded[version] = self._load(path)
        except Exception as error:
            # TensorFlow raises most of Python's exceptions for what may be
            # wrong with a SavedModel; none of them may stop serving.
            self._fail(version, fingerprint, error)
            self._show()
        else:
            self._fingerprints[version] = fingerprint
            self._failed.pop(version, None)
            self._changed = True
            _logger.info("version %d is loaded", version)
        return version in self._loaded

    def _fail(self, version: int, files: Fingerprint, error: Exception) -> None:
        reason = str(error).strip() or type(error).__name__
        self._failed[version] = (files, reason)
        _logger.error("version %d is skipped: %s", version, reason)
        _logger.debug("version %d", version, exc_info=True)

    def _pin(self, found: Mapping[int, Path]) -> int | None:
        """The version that is pinned; says once what is wrong with a pin."""
        problem = ""
        pin = self._fixed_pin
        try:
            if pin is None:
                pin = pinned(self._model_dir)
        except ValueError as error:
            problem = str(error)
        if pin is not None and pin not in found:
            problem = f"version {pin} is pinned and not there"
        if problem and problem != self._bad_pin:
            _logger.error("%s; the newest version is served", problem)
        self._bad_pin = problem
        return None if problem else pin

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

    def _show_changes(self) -> None:
        if self._changed:
            self._show()

    def _show(self, loading: int | None = None) -> None:
        self._changed = False
        failed = {version: why for version, (_, why) in self._failed.items()}
        served = self._served
        if served not in self._loaded:
            served = max(self._loaded, default=None)
        loaded = dict(self._loaded)
        self._publish(Snapshot(loaded, loading, failed, served))

    def _run(self, interval: float) -> None:
        while not self._stopped.wait(interval):
            try:
                self.refresh()
            except Exception:
                _logger.exception("watching %s failed", self._model_dir)


def _fingerprint(path: Path) -> Fingerprint:
    files = set()
    for file in path.rglob("*"):
        try:
            status = file.stat()
        except OSError:
            continue
        files.add((str(file), status.st_size, status.st_mtime_ns))
    return frozenset(files)
