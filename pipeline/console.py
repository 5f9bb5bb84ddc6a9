"""What `lionctr run` shows: components, progress, a closing table.

Everything else that is printed, by Python or native code, goes to the run's
log file: file descriptors 1 and 2 point there while the pipeline runs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_TICK_SECONDS = 0.5
_PLAIN_SECONDS = 10.0


class Console:
    """Lines for a person on a stream; a live line where it is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._lock = threading.Lock()
        self._note = ""
        self._noted = 0.0

    def line(self, text: str) -> None:
        """Prints `text`, clearing the live line."""
        with self._lock:
            clear = "\r\x1b[K" if self._live else ""
            self._stream.write(f"{clear}{text}\n")
            self._stream.flush()

    def note(self, text: str) -> None:
        """Progress inside the running component."""
        self._note = text
        now = time.monotonic()
        if not self._live and now - self._noted >= _PLAIN_SECONDS:
            self._noted = now
            self.line(f"    {text}")

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Shows that `name` is running, with its seconds, until it ends."""
        self._note, self._noted = "", time.monotonic()
        ended = threading.Event()
        began = time.monotonic()

        def tick() -> None:
            while not ended.wait(_TICK_SECONDS):
                seconds = time.monotonic() - began
                width = _columns()
                text = f"  {name:<17} running  {seconds:6.1f} s  {self._note}"
                with self._lock:
                    self._stream.write(f"\r\x1b[K{text[: width - 1]}")
                    self._stream.flush()

        ticker = threading.Thread(target=tick, daemon=True)
        if self._live:
            ticker.start()
        try:
            yield
        finally:
            ended.set()
            if self._live:
                ticker.join()


class NoteHandler(logging.Handler):
    """Sends the project's own log lines to the console as notes.

    Those that are logged with `extra={"keep": True}` stay as lines.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one record."""
        if getattr(record, "keep", False):
            self._console.line(f"    {record.getMessage()}")
        else:
            self._console.note(record.getMessage())


@contextmanager
def quiet(log_file: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Sends descriptors 1 and 2 to `log_file`; yields the real streams."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    out = os.fdopen(saved[0], "w", encoding="utf-8", errors="replace")
    err = os.fdopen(saved[1], "w", encoding="utf-8", errors="replace")
    try:
        yield out, err
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        out.flush()
        err.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        out.close()
        err.close()


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return int(os.environ.get("COLUMNS", "100"))
