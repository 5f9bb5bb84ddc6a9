"""Lines of the server's log: few, whoever sends what."""

import logging


def set_up() -> None:
    """Writes what concerns an operator, and no line a request."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("serving").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # Without a handler uvicorn does not even format its access log.
    logging.getLogger("uvicorn.access").propagate = False
    for name in ("serving.requests", "uvicorn.error", "asyncio", "grpc"):
        logging.getLogger(name).addFilter(RateLimit())


class RateLimit(logging.Filter):
    """Lets so many lines pass in a time; says how many it kept back."""

    def __init__(self, lines: int = 20, seconds: float = 10.0) -> None:
        """Lets `lines` pass every `seconds`."""
        super().__init__()
        self._lines, self._seconds = lines, seconds
        self._start = self._count = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """True if a record is written."""
        if record.created - self._start >= self._seconds:
            kept = int(self._count - self._lines)
            if kept > 0:
                record.msg = f"{record.getMessage()} ({kept} lines kept back)"
                record.args = ()
            self._start, self._count = record.created, 0
        self._count += 1
        return self._count <= self._lines
