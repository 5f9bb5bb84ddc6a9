"""Output of `lionctr run`: components, progress, a closing table.

Everything else that is printed, by Python or native code, goes to the run's
log file: file descriptors 1 and 2 point there while the pipeline runs. No
line decides over a run: a full disk or a lost terminal costs lines only.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

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


@contextmanager
def notes(console: Console) -> Iterator[None]:
    """Sends the project's own log lines to the console as notes.

    Those that are logged with `extra={"keep": True}` stay as lines.
    """
    handler = _NoteHandler(console)
    with info_lines() as ours:
        ours.addHandler(handler)
        try:
            yield
        finally:
            ours.removeHandler(handler)


@contextmanager
def info_lines() -> Iterator[logging.Logger]:
    """Lets the project's own log lines of level INFO through; its logger."""
    ours = logging.getLogger("lionctr")
    level = ours.level
    ours.setLevel(logging.INFO)
    try:
        yield ours
    finally:
        ours.setLevel(level)


class _NoteHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._kept: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one record; of those to keep, each text once."""
        text = record.getMessage()
        if not getattr(record, "keep", False):
            self._console.note(text)
        elif text not in self._kept:
            self._kept.add(text)
            self._console.line(f"    {text}")


class _Descriptor(io.FileIO):
    """A descriptor that drops what it cannot take, and keeps the error.

    With `strict` a write raises the error too.
    """

    error: OSError | None = None
    strict = False

    def write(self, data: Any) -> int:
        """Returns the bytes that count as written."""
        try:
            written: int | None = super().write(data)
        except OSError as error:
            self.error = self.error or error
            if self.strict:
                raise
            written = None
        if written is None and not self.strict:
            return memoryview(data).nbytes
        return written  # type: ignore[return-value]  # None: try again


def lost(stream: TextIO) -> OSError | None:
    """Why a stream of this module, flushed now, could not be written to.

    EPIPE, where a reader such as `head` went away, counts as well.
    """
    try:
        stream.flush()
    except OSError as error:
        return error
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Descriptor) else None


def unwritten(error: OSError) -> str:
    """The message for standard output that took not all of the answer."""
    return f"cannot write to standard output: {error.strerror}"


def written(out: TextIO, console: Console) -> int:
    """Exit code of a run that is done: 1 if a full disk took its answer.

    A reader or a terminal that went away wanted no more.
    """
    error = lost(out)
    if error is None or error.errno in (errno.EPIPE, errno.EIO):
        return 0
    console.line(f"lionctr: {unwritten(error)}")
    return 1


@contextmanager
def quiet(log_file: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Sends descriptors 1 and 2 to `log_file`; yields the real streams.

    Neither the log nor the real streams raise when they cannot be written.
    """
    standard_streams()
    streams = sys.stdout, sys.stderr
    for stream in streams:
        _flush(stream)
    saved = os.dup(1), os.dup(2)
    target = _opened(log_file)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    out, err = (_stream(descriptor, closefd=True) for descriptor in saved)
    try:
        yield out, err
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        out.flush()
        err.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        out.close()
        err.close()


def standard_streams() -> None:
    """Opens the descriptors 0 to 2 that the caller left closed.

    Else the next file that is opened, a lock or a model, becomes one of them,
    and is written to or closed as such. Standard output keeps the error of a
    write that failed; what standard error cannot take is dropped.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _strict(1, getattr(sys.stdout, "encoding", "utf-8"))
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, getattr(sys.stderr, "encoding", "utf-8"))


def _stream(
    descriptor: int, encoding: str = "utf-8", closefd: bool = False
) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "w", closefd=closefd)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def _strict(descriptor: int, encoding: str) -> TextIO:
    raw = _Descriptor(descriptor, "w", closefd=False)
    raw.strict = True
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty(),
    )


def _opened(log_file: Path) -> int:
    """A descriptor of the log; of the null device where it cannot be made."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(log_file, flags, 0o644)
    except OSError:
        return os.open(os.devnull, flags)


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        stream.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return int(os.environ.get("COLUMNS", "100"))
