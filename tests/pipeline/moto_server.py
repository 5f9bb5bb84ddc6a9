"""Moto's S3 server, in a process of its own."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def running(bucket: str) -> Iterator[str]:
    """The server's address; the bucket is there, and empty."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", f"-p{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        put = urllib.request.Request(f"{url}/{bucket}", method="PUT")
        urllib.request.urlopen(put, timeout=30).close()
        yield url
    finally:
        server.kill()
        server.wait()


def variables(url: str) -> dict[str, str]:
    """The environment of those who may read and write there."""
    return {
        "AWS_ACCESS_KEY_ID": "minio",
        "AWS_ENDPOINT_URL": url,
        "AWS_SECRET_ACCESS_KEY": "minio123",
    }
