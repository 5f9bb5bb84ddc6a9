"""Files of object stores (gs://, s3://, minio://), by their URIs."""

import atexit
import functools
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

SCHEMES = ("gs://", "s3://", "minio://")
CREDENTIALS = (
    "Credentials and endpoint are variables of the environment:"
    " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL of s3://"
    " and minio://, GOOGLE_APPLICATION_CREDENTIALS of gs://"
)
_MINIO = "http://minio-service.kubeflow:9000"
_EMULATOR = "STORAGE_EMULATOR_HOST"  # as Google's own clients call it
_BLOCK = 1 << 24  # bytes copied at a time
_PATIENCE = 60.0  # seconds of retries of gs://


def is_store(place: str) -> bool:
    """True for the URI of an object store."""
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
        emulator = environment.get(_EMULATOR, "")
        return _google(emulator, os.getpid()), path.rstrip("/")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get(
        "AWS_ENDPOINT_URL", _MINIO if scheme == "minio" else ""
    )
    region = environment.get("AWS_REGION") or environment.get(
        "AWS_DEFAULT_REGION", "us-east-1"
    )
    # The SDK's own credentials: another client for others.
    keys = sorted((k, v) for k, v in os.environ.items() if k[:4] == "AWS_")
    store = _amazon(endpoint, region, tuple(keys), os.getpid())
    return store, path.rstrip("/")


@functools.lru_cache(4)
def _amazon(endpoint: str, region: str, keys: Any, process: int) -> Any:
    """A client of S3; its threads are those of one process."""
    import pyarrow.fs

    settings: dict[str, Any] = {}
    if endpoint:
        kind, sign, host = endpoint.rstrip("/").partition("://")
        settings["endpoint_override"] = host if sign else endpoint
        settings["scheme"] = kind if sign else "https"
    return pyarrow.fs.S3FileSystem(region=region, **settings)


@functools.lru_cache(4)
def _google(emulator: str, process: int) -> Any:
    """A client of Google's storage, of one process."""
    import datetime

    import pyarrow.fs

    patience = datetime.timedelta(seconds=_PATIENCE)
    if not emulator:
        return pyarrow.fs.GcsFileSystem(retry_time_limit=patience)
    kind, sign, host = emulator.rstrip("/").partition("://")
    return pyarrow.fs.GcsFileSystem(
        anonymous=True,
        endpoint_override=host if sign else emulator,
        scheme=kind if sign else "http",
        retry_time_limit=patience,
    )


def found(store: Any, folder: str) -> list[Any]:
    """All files below a folder; none where there is no folder."""
    import pyarrow.fs

    chosen = pyarrow.fs.FileSelector(
        folder, recursive=True, allow_not_found=True
    )
    files = (
        info
        for info in store.get_file_info(chosen)
        if info.type == pyarrow.fs.FileType.File
    )
    return sorted(files, key=lambda info: str(info.path))


def listed(store: Any, folder: str) -> list[str]:
    """Paths of all files below a folder; none where there is no folder."""
    return [info.path for info in found(store, folder)]


def read(store: Any, path: str) -> bytes:
    """The content of a file."""
    with store.open_input_stream(path) as stream:
        return bytes(stream.read())


def fetch(uri: str, folder: Path, names: Collection[str] = ()) -> None:
    """Copies what is below `uri` into a folder of this machine.

    Args:
        uri: of a folder.
        folder: made if something is copied.
        names: of the files that are wanted; all without any.

    Raises:
        OSError: the store cannot be read.
    """
    store, root = open_store(uri)
    for path in listed(store, root):
        if names and path.rpartition("/")[2] not in names:
            continue
        target = folder / path[len(root) :].strip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            store.open_input_stream(path) as stream,
            target.open("wb") as file,
        ):
            while block := stream.read(_BLOCK):
                file.write(block)


def new_folder(keep: bool = False) -> Path:
    """A folder of this machine, until the process ends or for good."""
    folder = Path(tempfile.mkdtemp(prefix="lionctr-"))
    if not keep:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class StoreFiles:
    """Files of object stores, in the words of a file system.

    A folder is there as long as a file is below it. A file appears whole, or
    keeps its old content, when the one who writes it has closed it.
    """

    def open(self, path: str, mode: str = "rb") -> IO[Any]:
        """Opens a file, text in UTF-8.

        Raises:
            OSError: it is not there, or the store does not answer.
        """
        store, inside = open_store(path)
        if "w" in mode:
            stream = store.open_output_stream(inside)
            return stream if "b" in mode else _Text(stream)
        stream = store.open_input_stream(inside)
        if "b" in mode:
            return stream
        with stream:
            return io.StringIO(bytes(stream.read()).decode())

    def exists(self, path: str) -> bool:
        """True if a file or a folder is there."""
        import pyarrow.fs

        kind = self.info(path).type
        return kind == pyarrow.fs.FileType.File or self.isdir(path)

    def isdir(self, path: str) -> bool:
        """True if a file is below it."""
        return bool(listed(*open_store(path)))

    def listdir(self, path: str) -> list[str]:
        """Names of the files and folders in a folder."""
        return sorted({name.partition("/")[0] for name in self.below(path)})

    def walk(self, top: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Folders that hold files, each with these, as `os.walk`."""
        names: dict[str, list[str]] = {}
        for name in self.below(top):
            above, _, last = name.rpartition("/")
            names.setdefault(above, []).append(last)
        for above, files in names.items():
            yield f"{top.rstrip('/')}/{above}".rstrip("/"), [], files

    def below(self, path: str) -> dict[str, Any]:
        """Name inside a folder -> size and time of each file below it."""
        store, inside = open_store(path)
        return {
            info.path[len(inside) :].lstrip("/"): info
            for info in found(store, inside)
        }

    def makedirs(self, path: str) -> None:
        """Does nothing: a folder is there with its first file."""

    def info(self, path: str) -> Any:
        """Size and time of a file, as pyarrow's FileInfo."""
        store, inside = open_store(path)
        return store.get_file_info(inside)

    def remove(self, path: str) -> None:
        """Removes a file."""
        store, inside = open_store(path)
        store.delete_file(inside)

    def rmtree(self, path: str) -> None:
        """Removes all files below a folder, as far as they are there."""
        store, inside = open_store(path)
        for name in listed(store, inside):
            with suppress(FileNotFoundError):
                store.delete_file(name)


class _Text(io.StringIO):
    """Writes its text to a stream when it is closed."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def close(self) -> None:
        if not self.closed:
            with self._stream as stream:
                stream.write(self.getvalue().encode())
        super().close()
