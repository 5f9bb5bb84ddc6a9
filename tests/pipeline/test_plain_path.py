"""Folders with glob characters in their names, and paths as people write."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from models.config.paths import expanded, literal
from pipeline.config import ConfigError
from pipeline.runners.plain_path import plain, unlinked


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the links go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    return folder


def test_a_plain_folder_stays(tmp_path: Path) -> None:
    assert plain(tmp_path / "runs") == tmp_path / "runs"


@pytest.mark.parametrize("name", ["runs [1]", "a*b", "who?"])
def test_a_link_stands_for_a_folder_and_stays_the_same(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    link = plain(folder)
    assert literal(str(link)) == str(link)
    assert plain(folder) == link
    (link / "found").write_text("x")
    assert (folder / "found").read_text() == "x"
    assert glob.glob(f"{link}/*") == [f"{link}/found"]  # noqa: PTH207
    link.unlink()  # as a reboot does
    assert plain(folder) == link and link.is_symlink()


def test_texts_name_the_folder_again(tmp_path: Path) -> None:
    folder = tmp_path / "r[1]"
    folder.mkdir()
    link = plain(folder)
    found = unlinked({"a": [f"{link}/x", 1, None]}, link, folder)
    assert found == {"a": [f"{folder}/x", 1, None]}


def test_a_link_that_cannot_be_made_is_told(
    tmp_path: Path, temporary: Path
) -> None:
    (temporary / f"lionctr-{os.getuid()}").write_text("a file")
    with pytest.raises(ConfigError, match=r"root: received .*r\[1\]"):
        plain(tmp_path / "r[1]")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("~", "/home/me"),
        ("~/a/*.csv", "/home/me/a/*.csv"),
        ("./~/a", "./~/a"),
        ("a~", "a~"),
        ("file:///a/b[1]", "/a/b[1]"),
        ("file:/a", "/a"),
        ("file://localhost/a", "/a"),
        ("s3://b/~", "s3://b/~"),
        ("latest_blessed", "latest_blessed"),
    ],
)
def test_home_and_file_uris(
    path: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded(path) == found


@pytest.mark.parametrize("path", ["~nobody-here", "file://host/a", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="received"):
        expanded(path)


@pytest.mark.parametrize("uri", ["s3://key:s3cr3t@b/x", "gs://s3cr3t@b"])
def test_a_uri_with_credentials_is_refused_without_showing_them(
    uri: str,
) -> None:
    with pytest.raises(ValueError, match="a URI without them") as caught:
        expanded(uri)
    assert "s3cr3t" not in str(caught.value)
    assert expanded("s3://b/a@1") == "s3://b/a@1"


def test_a_literal_matches_itself_alone(tmp_path: Path) -> None:
    for name in ("a[1]", "a*", "a?", "a1", "ab"):
        (tmp_path / name).touch()
    for name in ("a[1]", "a*", "a?"):
        path = str(tmp_path / name)
        assert glob.glob(literal(path)) == [path]  # noqa: PTH207
