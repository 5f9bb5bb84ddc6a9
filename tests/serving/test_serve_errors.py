"""How `serve` starts, and what it refuses before it loads anything."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving import ServingError
from serving.listen import bind
from serving.server import serve
from tests.serving.tiny import REPOSITORY


def test_importing_the_package_imports_neither_tensorflow_nor_kserve() -> None:
    code = (
        "import sys, serving, serving.server; "
        "heavy = {'tensorflow', 'kserve', 'numpy', 'pipeline', 'models'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"Received: .*/nowhere"):
        serve(tmp_path / "nowhere")


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1").mkdir()
    with pytest.raises(ServingError, match="holds no version"):
        serve(tmp_path)


def test_a_version_in_place_of_its_model(tmp_path: Path) -> None:
    (tmp_path / "ctr" / "1").mkdir(parents=True)
    (tmp_path / "ctr" / "1" / "saved_model.pb").touch()
    with pytest.raises(ServingError, match=f"give {tmp_path}/ctr$"):
        serve(tmp_path / "ctr" / "1")


def test_the_push_root_in_place_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "ctr" / "1").mkdir(parents=True)
    with pytest.raises(ServingError, match=f"models in it: {tmp_path}/ctr$"):
        serve(tmp_path)


@pytest.mark.parametrize("which", ["port", "grpc_port"])
def test_a_port_that_is_taken(tmp_path: Path, which: str) -> None:
    (tmp_path / "1").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ports = {"port": 0, "grpc_port": 0, which: number}
        with pytest.raises(ServingError, match=f"127.0.0.1:{number}.*in use"):
            serve(tmp_path, **ports)


def test_a_port_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(ServingError, match="99999"):
        serve(tmp_path, port=99999)


def test_the_socket_names_its_protocol() -> None:
    """Else asyncio leaves Nagle's algorithm on: 40 ms more an answer."""
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
