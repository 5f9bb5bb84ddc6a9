"""The op library: built when it must be, refused when it does not fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optimizers.ops import build

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the sources, with one small source instead of the kernels."""
    shutil.copytree(build.SOURCES, tmp_path / "cc")
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "SOURCES", tmp_path / "cc")
    monkeypatch.setattr(build, "XLA_SOURCE", tmp_path / "cc" / "lion_xla.cc")
    compiled = []

    def compile_(target):
        compiled.append(target.name)
        target.write_bytes(b"library")

    monkeypatch.setattr(build, "_compile", compile_)
    return tmp_path, compiled


def test_a_library_that_fits_is_not_built_again(tree):
    folder, compiled = tree
    first = build.build(folder)
    assert build.build(folder) == first
    assert build.find(folder)[0] == first
    assert len(compiled) == 1


def test_changed_sources_are_built_again_and_the_old_library_goes(tree):
    folder, compiled = tree
    first = build.build(folder)
    with (folder / "cc" / "lion.h").open("a") as stream:
        stream.write("// changed\n")
    path, reason = build.find(folder)
    assert path is None
    assert reason == "its sources have changed since it was built"
    second = build.build(folder)
    assert second != first
    assert list(folder.glob("lion-*.so")) == [second]
    assert len(compiled) == 2


def test_another_tensorflow_is_named_and_its_library_not_loaded(
    tree, monkeypatch
):
    folder, compiled = tree
    monkeypatch.setattr(build, "tensorflow_version", lambda: "2.20.0")
    build.build(folder)
    monkeypatch.setattr(build, "tensorflow_version", lambda: "2.21.0")
    path, reason = build.find(folder)
    assert path is None
    assert "built for TensorFlow 2.20.0, and TensorFlow 2.21.0 is" in reason
    build.build(folder)
    assert len(compiled) == 2


def test_a_wheels_build_copies_the_library_that_is_there(tree, tmp_path):
    folder, compiled = tree
    build.build(folder)
    copied = build.build(tmp_path / "wheel" / "ops")
    assert copied.read_bytes() == b"library"
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("compiler", "cause"),
    [
        ("/bin/false", "`/bin/false --version ...` ended with 1"),
        ("no-such-compiler", "CXX is 'no-such-compiler', which is not found"),
    ],
)
def test_without_a_compiler_one_warning_names_cause_and_switch(
    tree, monkeypatch, capsys, compiler, cause
):
    folder, _ = tree
    monkeypatch.undo()
    monkeypatch.setattr(build, "HERE", folder)
    monkeypatch.setenv("CXX", compiler)
    assert build.main(folder / "nothing") == 1
    error = capsys.readouterr().err
    assert cause in error
    assert "CXX" in error
    assert build.COMMAND in error
    assert error.count("\n") == 1
    assert not list((folder / "nothing").iterdir())


@pytest.mark.ci
def test_a_process_without_the_library_warns_once_and_trains(tmp_path):
    shutil.copytree(
        ROOT / "optimizers",
        tmp_path / "optimizers",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    program = (
        "import warnings; warnings.simplefilter('always');"
        "import numpy as np, tensorflow as tf;"
        "from optimizers import Lion, kernel_status;"
        "v = tf.Variable([1.0, 1.0]);"
        "Lion(0.5).apply([tf.constant([1.0, -1.0])], [v]);"
        "print(v.numpy().tolist(), Lion().kernel_in_use, kernel_status())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("[0.5, 1.5] python ('python', ")
    assert result.stderr.count("Lion's op library cannot be used") == 1
    assert "it is not built" in result.stderr
    assert "kernel='python'" in result.stderr
