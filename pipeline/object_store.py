"""Copies from and to object stores, with errors that a user can act on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import InputError
from serving import object_store
from serving.object_store import CREDENTIALS, listed, new_folder, open_store


def write(store: Any, path: str, data: bytes) -> None:
    """Writes a file whole; a reader sees the old one or the new one."""
    import pyarrow.fs

    if not isinstance(store, pyarrow.fs.LocalFileSystem):
        with store.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(target)


def folders(uri: str) -> list[str]:
    """Names of the folders right below `uri`.

    Raises:
        InputError: the store cannot be read.
    """
    import pyarrow.fs

    with named(uri):
        store, root = open_store(uri)
        if isinstance(store, pyarrow.fs.GcsFileSystem):
            # There Arrow lists its own marks of folders only.
            found = listed(store, root)
            inside = [path[len(root) :].strip("/") for path in found]
            return sorted(
                {path.split("/")[0] for path in inside if "/" in path}
            )
        chosen = pyarrow.fs.FileSelector(root, allow_not_found=True)
        return sorted(
            info.base_name
            for info in store.get_file_info(chosen)
            if info.type == pyarrow.fs.FileType.Directory
        )


def fetch(uri: str, folder: Path, names: tuple[str, ...] = ()) -> None:
    """Copies what is below `uri`; see `serving.object_store.fetch`.

    Raises:
        InputError: the store cannot be read.
    """
    with named(uri):
        object_store.fetch(uri, folder, names)


def fetched(uri: str) -> Path:
    """A folder with what is below `uri`, for this process; see `fetch`."""
    folder = new_folder()
    fetch(uri, folder)
    return folder


@contextlib.contextmanager
def named(uri: str) -> Iterator[None]:
    """Turns errors of the store of `uri` into messages to its user.

    Raises:
        InputError: the store does not answer, or lacks what was read.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{uri} cannot be read: {error}. {CREDENTIALS}") from (
            error
        )
