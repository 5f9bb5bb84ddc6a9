"""The server as a child of another process: `python -m serving.process [DIR]`.

Without DIR it loads what a server needs, and takes the folder as a line of its
standard input: whoever needs a server later need not wait for that.

It listens on free ports of this machine. It ends with the standard input, so
that no parent that was killed leaves a server behind.
"""

import os
import queue
import signal
import sys
import threading
from pathlib import Path

from serving.errors import ServingError
from serving.server import load, serve


def _line_of_input() -> str:
    """The first line, "" if the input ends before."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return os.fsdecode(line) if byte else ""


def _follow_input(folders: queue.Queue[str] | None) -> None:
    """Passes on the first line, where it is wanted; ends with the input."""
    # By the descriptor: a thread that waits inside sys.stdin would hold its
    # lock at the end of the process.
    if folders is not None and (line := _line_of_input()):
        folders.put(line)
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(model_dir: str = "") -> int:
    """Serves a model's folder; returns the exit code."""
    folders = None if model_dir else queue.Queue[str]()
    threading.Thread(target=_follow_input, args=(folders,), daemon=True).start()
    if folders is not None:
        load()
        model_dir = folders.get()
    try:
        serve(Path(model_dir), port=0, grpc_port=0)
    except ServingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
