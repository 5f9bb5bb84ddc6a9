"""The manifest of a version: the digest of every file, and its origin."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

NAME = "assets.extra/manifest.json"
FORMAT = 1
# Rows of a batch, or a multiple: a matrix product gives a row the same bits in
# every batch of whole blocks.
BLOCK = 16
CHUNK = 1 << 20  # bytes read at a time
_DESCRIPTION = "assets.extra/lion_ctr.json"  # of exports without a manifest
_EXTRA = "assets.extra/"  # no loader of SavedModels reads it
_SHOWN = 3  # damaged files named in a message
_THREADS = 4


class DamagedError(ValueError):
    """A version is not what was exported; the message names the files."""


class FileSystem(Protocol):
    """The part of a file system that a manifest needs."""

    def walk(self, top: str) -> Iterable[tuple[str, list[str], list[str]]]: ...
    def open(self, path: str, mode: str) -> IO[Any]: ...
    def exists(self, path: str) -> bool: ...


class LocalFiles:
    """Files of this machine."""

    walk = staticmethod(os.walk)
    exists = staticmethod(os.path.lexists)  # a link to nothing is damage

    @staticmethod
    def open(path: str, mode: str) -> IO[Any]:
        """Opens a file, text in UTF-8.

        Raises:
            OSError: it cannot be opened, or reading it might never end.
        """
        if "r" in mode and not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return Path(path).open(mode, encoding=None if "b" in mode else "utf-8")


LOCAL: FileSystem = LocalFiles()


class Digest(NamedTuple):
    """SHA-256 and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Digests of a version's files, without the manifest, and its origin.

    files: path inside the version -> digest.
    about: what the export says: `export_id`, `created`, `trained_on`,
        `optimizer`, `inputs` (feature -> name in the signature), `metrics`,
        `block` (rows that the graph fills a batch up to).
    """

    files: Mapping[str, Digest]
    about: Mapping[str, Any]

    def to_json(self) -> str:
        """The file's text; its own digest is the last key."""
        content = {
            "format": FORMAT,
            **self.about,
            "files": {
                name: digest._asdict()
                for name, digest in sorted(self.files.items())
            },
        }
        content["sha256"] = _own_digest(content)
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Reads what `to_json` wrote.

        Raises:
            DamagedError: it is not that, or of a newer format.
        """
        try:
            content = json.loads(text)
            written = content.pop("sha256")
            number = content["format"]
            if isinstance(number, int) and number > FORMAT:
                raise DamagedError(
                    f"{NAME} has format {number}; accepted: up to {FORMAT}."
                    " A newer lion-ctr wrote it"
                )
            if written != _own_digest(content):
                raise ValueError("its own sha256 does not hold")
            files = {
                name: Digest(str(entry["sha256"]), int(entry["bytes"]))
                for name, entry in content.pop("files").items()
            }
            content.pop("format")
        except DamagedError:
            raise
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise DamagedError(f"{NAME} is damaged: {error}") from None
        return cls(files, content)


def write(
    folder: str, about: Mapping[str, Any], files: FileSystem = LOCAL
) -> None:
    """Writes the manifest of an export whose files are all there."""
    names = sorted(names_of(folder, files) - {NAME})
    digests = _digests(folder, names, files)
    with files.open(os.path.join(folder, NAME), "w") as file:
        file.write(Manifest(digests, about).to_json())


def read(folder: str, files: FileSystem = LOCAL) -> Manifest | None:
    """The manifest of a version; None for one without.

    Raises:
        DamagedError: it is not what was written.
        OSError: it cannot be read.
    """
    path = os.path.join(folder, NAME)
    if not files.exists(path):
        return None
    with files.open(path, "rb") as file:
        return Manifest.from_json(file.read())


def about(folder: str, files: FileSystem = LOCAL) -> dict[str, Any]:
    """Description inside an export; {} for a foreign SavedModel.

    Raises:
        DamagedError: the manifest is not what was written.
        OSError: it cannot be read.
    """
    manifest = read(folder, files)
    if manifest is not None:
        return dict(manifest.about)
    path = os.path.join(folder, _DESCRIPTION)
    if not files.exists(path):
        return {}
    try:
        with files.open(path, "r") as file:
            described: dict[str, Any] = json.loads(file.read())
    except ValueError as error:
        raise DamagedError(f"{_DESCRIPTION} is damaged: {error}") from None
    return described


def verify(folder: str, files: FileSystem = LOCAL) -> bool:
    """Compares every file of a version with its manifest.

    Files that a loader does not read (hidden ones, or in `assets.extra`) may
    be added to a version; no other may.

    Returns:
        False where there is no manifest to compare with.

    Raises:
        DamagedError: a file is missing, changed or not in the manifest.
        OSError: a file cannot be read.
    """
    manifest = read(folder, files)
    if manifest is None:
        return False
    names = names_of(folder, files) - {NAME}
    compare(manifest, _digests(folder, names, files))
    return True


def compare(manifest: Manifest, digests: Mapping[str, Digest]) -> None:
    """Compares the files of a version with its manifest; see `verify`.

    Raises:
        DamagedError: a file is missing, changed or not in the manifest.
    """
    expected = manifest.files
    faults = [f"{name} is missing" for name in expected.keys() - digests.keys()]
    for name, digest in digests.items():
        if name not in expected:
            if name.startswith(_EXTRA):
                continue
            faults.append(f"{name} is not in the manifest")
        elif expected[name].bytes != digest.bytes:
            faults.append(
                f"{name} has {digest.bytes} bytes instead of"
                f" {expected[name].bytes}"
            )
        elif expected[name].sha256 != digest.sha256:
            faults.append(
                f"{name} has sha256 {digest.sha256[:12]}... instead of"
                f" {expected[name].sha256[:12]}..."
            )
    if not faults:
        return
    shown = sorted(faults)[:_SHOWN]
    if len(faults) > _SHOWN:
        shown.append(f"and {len(faults) - _SHOWN} more")
    raise DamagedError(f"files differ from the manifest: {'; '.join(shown)}")


def input_changes(served: Iterable[str], other: Iterable[str]) -> str:
    """How the inputs of another version differ; "" if they do not."""
    before, after = set(served), set(other)
    changes = []
    for verb, names in (("lacks", before - after), ("adds", after - before)):
        if names:
            changes.append(f"{verb} {', '.join(map(repr, sorted(names)))}")
    return "; ".join(changes)


def names_of(folder: str, files: FileSystem = LOCAL) -> set[str]:
    """Paths of a version's files inside it, hidden ones left out."""
    names = set()
    for above, _, inside in files.walk(folder):
        prefix = above[len(folder) :].strip("/")
        for name in inside:
            path = f"{prefix}/{name}" if prefix else name
            if not any(part.startswith(".") for part in path.split("/")):
                names.add(path)
    return names


def digest_of(path: str, files: FileSystem = LOCAL) -> Digest:
    """Reads a file once."""
    digest, size = hashlib.sha256(), 0
    with files.open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Digest(digest.hexdigest(), size)


def _digests(
    folder: str, names: Iterable[str], files: FileSystem
) -> dict[str, Digest]:
    # Hashing releases the interpreter's lock.
    paths = {name: os.path.join(folder, name) for name in names}
    with ThreadPoolExecutor(_THREADS, "sha256") as threads:
        digests = threads.map(
            lambda path: digest_of(path, files), paths.values()
        )
        return dict(zip(paths, digests, strict=True))


def _own_digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
