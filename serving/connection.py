"""A connection of a client over HTTP, with limits for the head of a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from serving.limits import DEFAULTS, Limits


class Connection(HttpToolsProtocol):
    """uvicorn's, which waits for a head forever and however large.

    The body's limits are those of the routes that read it.
    """

    limits: Limits = DEFAULTS

    def connection_made(self, transport: Any) -> None:
        """Starts to wait for the first request."""
        super().connection_made(transport)
        self._in_head, self._size = True, 0
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops to wait."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuses a head that is too large."""
        if self._in_head:
            self._size += len(data)
        super().data_received(data)
        if self._in_head and self._size > self.limits.head:
            self._refuse(431, f"a head may have {self.limits.head} bytes")

    def on_message_begin(self) -> None:
        """Waits for the end of the head, on a kept connection too."""
        super().on_message_begin()
        if self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Lets the request go on."""
        self._stop_waiting()
        self._in_head, self._size = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expects the next head."""
        self._in_head = True
        super().on_message_complete()

    def _wait(self) -> None:
        seconds = self.limits.head_seconds
        self._timer = self.loop.call_later(seconds, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Ends the connection, and what it still asks."""
        self._stop_waiting()
        self._leave()
        super().send_400_response(msg)

    def _late(self) -> None:
        if self._answers:
            self._wait()  # a head that follows may be late for its own time
            return
        self._timer = None
        seconds = self.limits.head_seconds
        self._refuse(408, f"the head took more than {seconds:g} seconds")

    def _refuse(self, status: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        self._stop_waiting()
        if self._answers:
            self._leave()  # an answer has begun, perhaps
        else:
            body = f'{{"error":"{reason}"}}'.encode()
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n" % len(body)
                + body
            )
        self.transport.close()

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _leave(self) -> None:
        """Drops an answer that nobody may get: its writes would fail."""
        if self._answers:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
