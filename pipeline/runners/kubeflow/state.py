"""A task's lasting folder on an object store, which renames no folder.

The task works on a folder of its container; what is written there is copied to
the store meanwhile, and back when the task is tried again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs

from models.errors import InputError
from serving.object_store import CREDENTIALS, is_store, open_store

_FOLDERS = ("checkpoints", "trials")  # Transform opens stores itself
_SECONDS = 10.0  # between copies
log = logging.getLogger("lionctr.kubeflow")


class Mirror:
    """Copies a folder to a store and back.

    A file is copied once it has its final name: writers rename. Of a folder
    the index comes last, so that one without it is seen to be damaged.

    Args:
        store: the file system.
        root: the folder there.
        folder: the one here.
    """

    def __init__(self, store: Any, root: str, folder: Path) -> None:
        self._store, self._root, self._folder = store, root, folder
        self._known: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Mirror:
        """Fetches what is in the store, then copies whatever is new."""
        self._folder.mkdir(parents=True, exist_ok=True)
        chosen = pyarrow.fs.FileSelector(
            self._root, recursive=True, allow_not_found=True
        )
        for info in self._store.get_file_info(chosen):
            if info.type == pyarrow.fs.FileType.File:
                name = info.path[len(self._root) :].strip("/")
                path = self._folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                pyarrow.fs.copy_files(
                    info.path,
                    str(path),
                    source_filesystem=self._store,
                    destination_filesystem=pyarrow.fs.LocalFileSystem(),
                )
                self._known[name] = _stamp(path)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()
        self.copy()

    def copy(self) -> None:
        """Brings the store to what the folder is now."""
        found = {
            str(path.relative_to(self._folder)): path
            for path in self._folder.rglob("*")
            if path.is_file() and not _is_unfinished(path, self._folder)
        }
        for name in sorted(found, key=lambda n: (n.endswith("index.json"), n)):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                stamp = _stamp(found[name])
                if self._known.get(name) != stamp:
                    self._write(found[name], f"{self._root}/{name}")
                    self._known[name] = stamp
        for name in self._known.keys() - found.keys():
            del self._known[name]
            with contextlib.suppress(FileNotFoundError):
                self._store.delete_file(f"{self._root}/{name}")

    def _write(self, path: Path, target: str) -> None:
        if isinstance(self._store, pyarrow.fs.LocalFileSystem):
            self._store.create_dir(target.rpartition("/")[0])
        with (
            path.open("rb") as source,
            self._store.open_output_stream(target) as stream,
        ):
            while block := source.read(1 << 24):
                stream.write(block)

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS):
            try:
                self.copy()
            except OSError as error:
                log.warning("state is not copied to %s: %s", self._root, error)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _is_unfinished(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return path.suffix == ".tmp" or any(p.startswith("part-") for p in parts)


@contextlib.contextmanager
def mirrored(task: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """`task` (an ExecutorInput) with its lasting folders below `folder`.

    Raises:
        InputError: the store cannot be read.
    """
    task = json.loads(json.dumps(task))
    values = task.get("inputs", {}).get("parameterValues", {})
    text = values.get("custom_config")
    # TFX's own Pusher has "null" here.
    custom = json.loads(text) if isinstance(text, str) and text else None
    custom = custom if isinstance(custom, dict) else {}
    with contextlib.ExitStack() as stack:
        for name in _FOLDERS:
            uri = custom.get(name)
            if not isinstance(uri, str) or not is_store(uri):
                continue
            custom[name] = str(folder / name)
            try:
                store, root = open_store(uri, os.environ)
                stack.enter_context(Mirror(store, root, folder / name))
            except OSError as error:
                raise InputError(
                    f"runner.kubeflow.state: {uri} cannot be read: {error}."
                    f" {CREDENTIALS}; runner.kubeflow.defaults.secrets gives"
                    " them to the tasks"
                ) from error
            values["custom_config"] = json.dumps(custom)
        yield task
