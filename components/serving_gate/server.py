"""The server that will serve the model, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


class Starting:
    """A server that is on its way; `wait` for it."""

    def __init__(
        self, process: subprocess.Popen[str], name: str, log: Path
    ) -> None:
        self._process = process
        self._name = name
        self._log = log

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

    It runs on the CPU, since this process may hold the accelerator's memory.

    Args:
        model: folder of the SavedModel; in an object store it is copied.
        name: of the model.
    """
    with tempfile.TemporaryDirectory(prefix="lionctr-gate-") as folder:
        versions, log = Path(folder) / name, Path(folder) / "log.txt"
        versions.mkdir()
        if model_store.is_remote(model):
            verified_copy.copy(model, str(versions / "1"))
        else:
            (versions / "1").symlink_to(Path(model).resolve())
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM, str(versions)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).parents[2],
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
            )
        try:
            yield Starting(process, name, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
