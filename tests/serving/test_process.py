"""The server as a child: says why it does not start, and is no orphan."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path


def start(*model_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.process", *map(str, model_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_folder_without_a_version_is_told(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.wait(60) == 2
    assert process.stderr is not None
    assert "holds no version" in process.stderr.read()
    process.communicate()


def test_it_ends_with_its_input_while_it_still_loads(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    process = start(tmp_path)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == -signal.SIGTERM
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read() == ""
    process.stdout.close()
    process.stderr.close()


def test_it_takes_the_folder_from_its_input_when_it_has_loaded(
    tmp_path: Path,
) -> None:
    process = start()
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(f"{tmp_path}\n")
    process.stdin.flush()
    assert process.wait(120) == 2
    assert f"{tmp_path} holds no version" in process.stderr.read()
    process.communicate()


def test_it_ends_with_its_input_before_it_has_a_folder() -> None:
    process = start()
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM, "")
