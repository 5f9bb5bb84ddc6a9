"""The wheel built in isolation: the native libraries are inside."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PROGRAM = """
import importlib.util
import optimizers
from components.example_io import build
from optimizers import Lion
assert build.library().exists()
assert importlib.util.find_spec("tfx") is None
print(optimizers.kernel_status()[0], Lion(1e-3).name)
"""

pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with the wheel that a clean checkout builds."""
    folder = tmp_path_factory.mktemp("wheel")
    archive = folder / "source.tar"
    done = _run("git", "archive", "-o", archive, "HEAD", cwd=ROOT)
    if done.returncode:
        pytest.skip("needs a git checkout")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    done = _run(
        UV, "build", "--wheel", "-o", folder, ".", cwd=folder / "source"
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    for command in (
        (UV, "venv", "--python", sys.executable, folder / "venv"),
        (UV, "pip", "install", "--python", folder / "venv", wheel),
    ):
        done = _run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin"


def test_the_wheel_alone_has_the_libraries_and_no_tfx(environment, tmp_path):
    done = _run(environment / "python", "-c", PROGRAM, cwd=tmp_path)
    assert done.stdout == "custom_op lion\n", done.stderr


def test_the_command_without_its_extra_says_what_to_install(
    environment, tmp_path
):
    config = tmp_path / "c.yaml"
    config.write_text("name: a\n")
    done = _run(environment / "lionctr", "run", config, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'lion-ctr[pipeline]'" in done.stderr
    assert _run(environment / "lionctr", "--help", cwd=tmp_path).stdout
