"""Limits of requests and of all that wait; settings of the request log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.errors import TooLargeError


@dataclass(frozen=True)
class Limits:
    """Limits of requests, and how long one may wait for a batch.

    body: bytes of a request, decompressed.
    rows: of a request.
    waiting: rows of all requests that wait for a call of the model.
    body_seconds: that a client may take to send a request's body.
    head, head_seconds: bytes of its head, and seconds to send it.
    batch_wait: seconds that a request waits for others, at most.
    """

    body: int = 64 << 20
    rows: int = 100_000
    waiting: int = 65_536
    body_seconds: float = 30.0
    head: int = 64 << 10
    head_seconds: float = 30.0
    batch_wait: float = 0.0

    def check_rows(self, rows: int) -> None:
        """Raises TooLargeError if there are too many rows."""
        if rows > self.rows:
            raise TooLargeError(
                f"a request may have {self.rows} rows. Received: {rows}"
            )

    def check_body(self, size: int) -> None:
        """Raises TooLargeError if a body has too many bytes."""
        if size > self.body:
            raise TooLargeError(
                f"a request may have {self.body} bytes, decompressed."
                f" Received: {size} or more"
            )


DEFAULTS = Limits()


@dataclass(frozen=True)
class LogOptions:
    """Settings of the request log.

    folder: of the files. share: of the requests, each with all its rows.
    file_bytes, file_seconds: size and age at which a file gets its name.
    waiting: rows that may wait to be written; more are dropped.
    """

    folder: Path
    share: float = 0.01
    file_bytes: int = 64 << 20
    file_seconds: float = 600.0
    waiting: int = 65_536
