"""An emulator of Google's storage, in this process."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def running(bucket: str) -> Iterator[str]:
    """The server's address; the bucket is there, and empty."""
    server_of = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = server_of.create_server(
        "127.0.0.1", port, in_memory=True, default_bucket=bucket
    )
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
