"""File systems of this machine and of object stores, by a place's URI."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError

SCHEMES = ("gs://", "s3://", "minio://")
_MINIO = "http://minio-service.kubeflow:9000"
_EMULATOR = "STORAGE_EMULATOR_HOST"  # as Google's own clients call it


def is_store(place: str) -> bool:
    """True if `place` is the URI of an object store."""
    return place.startswith(SCHEMES)


def open_store(
    uri: str, environment: Mapping[str, str] = os.environ
) -> tuple[Any, str]:
    """The file system of `uri`, and the path in it.

    Credentials, region and endpoint (AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST)
    are the environment's.
    """
    import pyarrow.fs

    scheme, sign, path = uri.partition("://")
    if not sign:
        return pyarrow.fs.LocalFileSystem(), str(Path(uri).absolute())
    if scheme == "gs":
        return _google(environment.get(_EMULATOR, "")), path.rstrip("/")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get(
        "AWS_ENDPOINT_URL", _MINIO if scheme == "minio" else ""
    )
    settings: dict[str, Any] = {}
    if endpoint:
        kind, sign, host = endpoint.rstrip("/").partition("://")
        settings["endpoint_override"] = host if sign else endpoint
        settings["scheme"] = kind if sign else "https"
    region = environment.get("AWS_REGION") or environment.get(
        "AWS_DEFAULT_REGION", "us-east-1"
    )
    store = pyarrow.fs.S3FileSystem(region=region, **settings)
    return store, path.rstrip("/")


def _google(emulator: str) -> Any:
    import pyarrow.fs

    if not emulator:
        return pyarrow.fs.GcsFileSystem()
    kind, sign, host = emulator.rstrip("/").partition("://")
    return pyarrow.fs.GcsFileSystem(
        anonymous=True,
        endpoint_override=host if sign else emulator,
        scheme=kind if sign else "http",
    )


def listed(store: Any, folder: str) -> list[str]:
    """Paths of all files below a folder; none where there is no folder."""
    import pyarrow.fs

    chosen = pyarrow.fs.FileSelector(
        folder, recursive=True, allow_not_found=True
    )
    return sorted(
        info.path
        for info in store.get_file_info(chosen)
        if info.type == pyarrow.fs.FileType.File
    )


def read(store: Any, path: str) -> bytes:
    """The content of a file."""
    with store.open_input_stream(path) as stream:
        return bytes(stream.read())


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

    with _named(uri):
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
    """Copies what is below `uri` into a folder of this machine.

    Args:
        uri: of a folder of an object store.
        folder: made if something is copied.
        names: of the files that are wanted; all without any.

    Raises:
        InputError: the store cannot be read.
    """
    with _named(uri):
        store, root = open_store(uri)
        for path in listed(store, root):
            if names and path.rpartition("/")[2] not in names:
                continue
            target = folder / path[len(root) :].strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read(store, path))


def fetched(uri: str) -> Path:
    """A folder with what is below `uri`, for this process; see `fetch`."""
    folder = new_folder()
    fetch(uri, folder)
    return folder


def new_folder(keep: bool = False) -> Path:
    """A folder of this machine, until the process ends or for good."""
    folder = Path(tempfile.mkdtemp(prefix="lionctr-"))
    if not keep:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _named(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{uri} cannot be read: {error}. {CREDENTIALS}") from (
            error
        )


CREDENTIALS = (
    "Credentials and endpoint are variables of the environment:"
    " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL of s3://"
    " and minio://, GOOGLE_APPLICATION_CREDENTIALS of gs://"
)
