"""The server that will serve the model, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from components import model_store, verified_copy
from models.errors import RefusedError

_PROGRAM = "serving.process"
_START_SECONDS = 600  # to import TensorFlow and load a large model
_END_SECONDS = 40
_BANNER = re.compile(r" at (http://\S+?)/v1/.* gRPC (\S+);")


@dataclass(frozen=True)
class Server:
    """Addresses of a server.

    name: of the model.
    """

    name: str
    url: str
    grpc: str


class _Child:
    """The program of a server, which waits for the folder that it serves.

    It runs on the CPU, since this process may hold the accelerator's memory.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lionctr-gate-")
        self.folder = Path(self._folder.name)
        self.log = self.folder / "log.txt"
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).parents[2],
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
            )

    def serve(self, versions: Path) -> None:
        """Tells it the folder."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its log says why
            self.process.stdin.write(f"{versions}\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._folder.cleanup()


_prepared: ContextVar[list[_Child] | None] = ContextVar(
    "_prepared", default=None
)


@contextmanager
def prepared() -> Iterator[None]:
    """Starts the program of one `serving`, before its model is there."""
    children = [_Child()]
    token = _prepared.set(children)
    try:
        yield
    finally:
        _prepared.reset(token)
        for child in children:
            child.end()


class Starting:
    """A server that is on its way; `wait` for it."""

    def __init__(self, child: _Child, name: str) -> None:
        self._process = child.process
        self._name = name
        self._log = child.log

    def wait(self) -> Server:
        """Blocks until it answers.

        Raises:
            RefusedError: it does not; the message says why.
        """
        output = self._process.stdout
        assert output is not None
        guard = threading.Timer(_START_SECONDS, self._process.kill)
        guard.start()
        try:
            banner = output.readline()
        finally:
            guard.cancel()
        found = _BANNER.search(banner)
        if found is None:
            raise RefusedError(f"the server does not serve it: {self._why()}")
        return Server(self._name, *found.groups())

    def _why(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"


@contextmanager
def serving(model: str, name: str) -> Iterator[Starting]:
    """Starts a server of one version, and ends it.

    Args:
        model: folder of the SavedModel; in an object store it is copied.
        name: of the model.
    """
    children = _prepared.get()
    child = children.pop() if children else _Child()
    try:
        versions = child.folder / "models" / name
        versions.mkdir(parents=True)
        if model_store.is_remote(model):
            verified_copy.copy(model, str(versions / "1"))
        else:
            (versions / "1").symlink_to(Path(model).resolve())
        child.serve(versions)
        yield Starting(child, name)
    finally:
        child.end()
