"""One tiny model and one server for all of the serving tests."""

import shutil
from collections.abc import Iterator

import pytest

from tests.serving.tiny import RunningServer


@pytest.fixture(scope="session")
def session_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """One server for the session; tests take `server`."""
    root = tmp_path_factory.mktemp("serving")
    (root / "tiny").mkdir()
    server = RunningServer(root / "tiny", root / "exported", root / "log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(session_server: RunningServer) -> RunningServer:
    """The server, with version 1 (bias 0) and nothing else."""
    server = session_server
    kept = {entry.name for entry in server.model_dir.iterdir()}
    for name in kept - {"1"}:
        path = server.model_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "1" not in kept:
        server.push(1, bias=0.0)
    if server.process.poll() is not None:
        server.start()
    server.wait_for(lambda: server.states() == {1: "AVAILABLE"})
    return server
