"""Ends a run that is told to stop, or that waits for a worker that died."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from models.errors import FailedError

_SECONDS = 1.0  # between two looks
_PATIENCE = 15  # looks in a row that must find no worker at work
_AGAIN = 15  # looks until a signal that had no effect is sent again
_MOMENT = 0.05  # seconds for a destructor to end


class _Leave(SystemExit):
    """Error that a signal raises."""


class Watch:
    """The signals of a run, and a thread that looks at Beam's workers.

    SIGTERM raises SystemExit in the main thread, once, while the run is at
    work; afterwards it only makes the run end with its summary. One that is
    raised in a destructor has no effect, and is raised again. SIGHUP is
    ignored: a lost terminal does not end a run.
    """

    def __init__(self) -> None:
        self._working = False
        self._stopped = 0
        self._waited = 0
        self._died = False
        self._ended = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        """The part of a run that a signal may cut short."""
        self._working = True
        try:
            if self._stopped:
                self._leave()
            yield
        finally:
            self._working = False

    def receive(self, number: int, _: FrameType | None = None) -> None:
        """Handles a signal, in the main thread."""
        self._stopped = number
        self._waited = 0
        if self._working:
            self._leave()

    def leave_if_told(self) -> None:
        """Ends the run here if somebody swallowed what a signal raised."""
        if self._stopped:
            self._leave()

    def lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raises again what was raised in a destructor, a moment later."""
        if isinstance(unraisable.exc_value, _Leave | FailedError):
            threading.Timer(_MOMENT, self._again).start()
        else:
            sys.__unraisablehook__(unraisable)

    def _again(self) -> None:
        if self._working and self._mine():
            _send()

    def _leave(self) -> None:
        if self._died:
            raise FailedError(
                "A worker of Beam died without an answer; the log shows why"
                " if it could be written. Run the same command again to go on."
            )
        raise _Leave(128 + self._stopped)

    def look(self, workers: bool) -> None:
        """Looks until the run ends, at Beam's workers too; a thread's work."""
        idle = 0
        while not self._ended.wait(_SECONDS):
            idle = idle + 1 if workers and waits_for_nobody() else 0
            if idle == _PATIENCE:
                self._died = True
                _send()
            # The main thread may be in a call that swallows exceptions.
            self._waited += bool(self._stopped and self._working)
            if self._waited >= _AGAIN and self._mine():
                _send()

    def _mine(self) -> bool:
        """True if no handler of a training saves state first."""
        return signal.getsignal(signal.SIGTERM) == self.receive

    def end(self) -> None:
        """Stops looking."""
        self._ended.set()


@contextmanager
def watch(workers: bool = True) -> Iterator[Watch]:
    """A Watch over what happens inside; none outside the main thread.

    Args:
        workers: whether Beam's workers are threads or processes of this one.
    """
    watched = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watched
        return
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, watched.receive),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    }
    looker = threading.Thread(target=watched.look, args=[workers], daemon=True)
    looker.start()
    hook, sys.unraisablehook = sys.unraisablehook, watched.lost
    try:
        yield watched
    finally:
        watched.end()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _send() -> None:
    """Sends SIGTERM to the main thread."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


def waits_for_nobody() -> bool:
    """True if Beam's runner waits, and no worker does what it waits for.

    A worker that dies leaves no answer, and the runner waits for ever. Workers
    are threads of this process, or processes that a thread of this one waits
    for: neither those of a cluster nor those that somebody else has started.
    """
    calls = {
        (frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name)
        for top in sys._current_frames().values()
        for frame in _stack(top)
    }
    works = ("sdk_worker.py", "do_instruction") in calls
    works = works or ("local_job_service.py", "run") in calls
    return ("fn_runner.py", "process_bundle") in calls and not works


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
