"""New versions in a model's folder: copied, verified, whole or absent."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components import model_store, verified_copy
from serving import manifest, signature
from serving.model_folder import GRAPH

log = logging.getLogger("lionctr.push")
_NEW = ".push-"  # a version that is being copied
_OLD = ".dropped-"  # a version that is being removed
_DAY = 86_400  # seconds after which a push is taken for killed


def publish(
    model: str,
    base: str,
    more: Mapping[str, Any] | None = None,
    key: str | None = None,
    added: Mapping[str, str] | None = None,
) -> int:
    """Copies a SavedModel to a version of its own; returns the number.

    Every byte that is copied is compared with the manifest that the export
    wrote. No file is linked: whatever becomes of the artifact, a version that
    is served stays as it is. The version appears by one rename. An object store
    cannot rename a folder; there, saved_model.pb is copied last, after all
    else was read back. A folder without it is unfinished, and no version.

    Args:
        model: the folder of the SavedModel.
        base: the folder of the versions; see `model_store.locked`.
        more: what the manifest says beside what the export wrote.
        key: the private key to sign the version with; local versions only.
        added: path in the version -> file that it has besides.

    Raises:
        DamagedError: a file is not what was exported; nothing is pushed.
        ServingError: the key cannot be used; nothing is pushed.
    """
    model_store.files_of(base).makedirs(base)
    if model_store.is_remote(base):
        with _claimed(base) as version:
            target = model_store.path_of(base, version)
            verified_copy.copy(model, target, more, added)
        return version
    temporary = Path(base) / f"{_NEW}{uuid.uuid4().hex}"
    try:
        verified_copy.copy(model, str(temporary), more, added)
        if key is not None:
            signature.sign(temporary, Path(key))
        return _appear(temporary, base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def republish(version: int, base: str) -> int:
    """Makes a version the newest again, under a new number.

    The files are linked, not copied; where a file system has no links, they
    are copied.

    Raises:
        DamagedError: the version does not hold.
    """
    source = model_store.path_of(base, version)
    if model_store.is_remote(base):
        return publish(source, base)
    manifest.verify(source)
    temporary = Path(base) / f"{_NEW}{uuid.uuid4().hex}"
    try:
        shutil.copytree(source, temporary, copy_function=verified_copy.linked)
        return _appear(temporary, base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _claimed(base: str) -> Iterator[int]:
    """The number of a version that nobody else pushes, where nothing locks.

    Whoever writes a claim first sees no other; two that write at once both
    see two, and both try another number. An error takes all files away.
    """
    files = model_store.files_of(base)
    version = _next(base)
    while True:
        target = model_store.path_of(base, version)
        name = f"{_NEW}{uuid.uuid4().hex}"
        claim = os.path.join(target, name)
        try:
            with files.open(claim, "w") as file:
                file.write("a push is under way\n")
            if files.listdir(target) == [name]:
                break
        except BaseException:
            with suppress(OSError):
                files.remove(claim)
            raise
        files.remove(claim)
        version = max(version, _next(base)) + 1 + secrets.randbelow(60)
    try:
        yield version
    except BaseException:
        with suppress(OSError):
            _remove(target)
        raise
    with suppress(OSError):
        files.remove(claim)


def sweep(base: str) -> None:
    """Removes what killed pushes left.

    On this machine only for the holder of the lock. In an object store a
    version without its graph is of a push under way, or of a killed one: a
    version's number is the time when its push began.
    """
    if model_store.is_remote(base):
        whole = model_store.versions(base)
        for number in set(model_store.numbers(base)).difference(whole):
            if number < time.time() - _DAY:
                path = model_store.path_of(base, number)
                model_store.files_of(base).rmtree(path)
                log.info("removed %s, left by a push that was killed", path)
        return
    for leftover in Path(base).glob(".*"):
        if leftover.name.startswith((_NEW, _OLD)):
            shutil.rmtree(leftover, ignore_errors=True)
            log.info("removed %s, left by a push that was killed", leftover)


def drop(base: str, keep: int, before: int | None) -> list[int]:
    """Removes all but the newest `keep` versions; returns the removed.

    Beside them stay the pinned one, `before`, which was served until now,
    and, if the newest has other inputs, the newest one with inputs that are
    not these: servers may refuse the change and go on with that version.
    """
    found = model_store.versions(base)
    kept = {*found[-keep:], before, model_store.pin(base)}
    inputs = {v: inputs_of(model_store.path_of(base, v)) for v in found}
    others = [v for v in found if inputs[v] != inputs[found[-1]]]
    kept.update(others[-1:])
    gone = [version for version in found if version not in kept]
    for version in gone:
        _remove(model_store.path_of(base, version))
    return gone


def inputs_of(model: str) -> set[str]:
    """Names of the features that a version takes, as it says."""
    return set(model_store.about(model).get("inputs", {}))


def sync(folder: Path) -> None:
    """Flushes all files and folders, so that a power cut loses none."""
    for path in (folder, *folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _next(base: str) -> int:
    """The time in seconds, but above every version there.

    A number that was served once does not come back.
    """
    newest = max(model_store.numbers(base), default=0)
    return max(int(time.time()), newest + 1)


def _appear(temporary: Path, base: str) -> int:
    sync(temporary)
    version = _next(base)
    while True:
        target = Path(base) / str(version)
        try:
            temporary.rename(target)
            break
        except OSError:
            if not target.exists():
                raise
            version += 1  # another push took the number
    folder = os.open(base, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return version


def _remove(path: str) -> None:
    """Takes a version away at once, then removes its files."""
    if model_store.is_remote(path):
        files = model_store.files_of(path)
        graph = os.path.join(path, GRAPH)
        if files.exists(graph):
            files.remove(graph)
        files.rmtree(path)
        return
    folder = Path(path)
    hidden = folder.with_name(f"{_OLD}{uuid.uuid4().hex}")
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
