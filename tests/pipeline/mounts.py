"""Small disks for tests; skips where mounting is not allowed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mounts a disk of `size` at `folder`; yields what resizes it."""
    folder.mkdir(parents=True, exist_ok=True)

    def mount(options: str, *more: str) -> None:
        command = ["mount", *more, "-o", options, str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no disk can be mounted here: {error}")

    mount(f"size={size}", "-t", "tmpfs", "tmpfs")
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "-l", str(folder)])
        yield lambda size: mount(f"remount,size={size}")
