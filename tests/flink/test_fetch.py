"""Flink's jars: only the very files that `jars.sha256` names are used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "flink"))

import cluster
import fetch


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the one jar that the sums name."""
    digest = hashlib.sha256(b"jar").hexdigest()
    sums = tmp_path / "jars.sha256"
    sums.write_text(f"{digest}  a.jar\n")
    monkeypatch.setattr(fetch, "SUMS", sums)
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / "a.jar").write_bytes(b"jar")
    return folder


def test_known_jars_are_not_fetched_again(
    jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    fetch.fetch(jars)
    assert fetch.missing(jars) == []


@pytest.mark.parametrize("content", [b"", b"changed"])
def test_another_file_of_the_same_name_does_not_count(
    jars: Path, content: bytes
) -> None:
    (jars / "a.jar").write_bytes(content)
    assert fetch.missing(jars) == ["a.jar"]


def test_what_arrives_is_checked_before_it_is_kept(
    jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (jars / "a.jar").unlink()
    monkeypatch.setattr(fetch, "_flink", lambda target: None)
    monkeypatch.setattr(
        fetch, "_beam", lambda target: (target / "a.jar").write_bytes(b"other")
    )
    with pytest.raises(SystemExit, match=r"sha256.*a\.jar"):
        fetch.fetch(jars)
    assert list(jars.iterdir()) == []


def test_a_start_without_the_jars_says_how_to_get_them(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (jars / "a.jar").unlink()
    monkeypatch.setattr(cluster.shutil, "which", lambda name: name)
    with pytest.raises(SystemExit, match="fetch`"):
        cluster.Cluster(tmp_path / "home", jars).start()
    assert not (tmp_path / "home").exists()
