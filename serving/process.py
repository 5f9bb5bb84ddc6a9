"""The server as a child of another process: `python -m serving.process DIR`.

It listens on free ports of this machine. It ends with the standard input, so
that no parent that was killed leaves a server behind.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from serving.errors import ServingError
from serving.server import serve


def _end_with_input() -> None:
    # By the descriptor: a thread that waits inside sys.stdin would hold its
    # lock at the end of the process.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(model_dir: str) -> int:
    """Serves a model's folder; returns the exit code."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        serve(Path(model_dir), port=0, grpc_port=0)
    except ServingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
