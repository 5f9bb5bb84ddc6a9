"""The manifest: what it finds, what it lets pass, what it says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import manifest
from serving.manifest import DamagedError
from tests.serving.tiny import REPOSITORY

FILES = {
    "saved_model.pb": b"graph",
    "fingerprint.pb": b"",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 9000,
    "assets/ads \N{SNOWMAN}": b"one\ntwo\n",
    "assets.extra/tf_serving_warmup_requests": b"warm",
}
ABOUT = {"export_id": "one", "inputs": {"Ad ID": "Ad_ID"}, "rate": 1e-4}


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The files of an export, with a manifest."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest.write(str(tmp_path), ABOUT)
    return tmp_path


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys, serving.manifest, serving.model_folder; "
        "heavy = {'tensorflow', 'kserve', 'numpy', 'pipeline', 'models'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_what_is_written_is_read_and_holds(version: Path) -> None:
    assert manifest.verify(str(version))
    known = manifest.read(str(version))
    assert known is not None
    assert (known.about, known.files.keys()) == (ABOUT, FILES.keys())
    assert manifest.about(str(version)) == ABOUT
    assert manifest.Manifest.from_json(known.to_json()) == known


def test_its_digests_are_those_of_sha256sum(version: Path) -> None:
    """Whoever has the file can check it without this project."""
    content = json.loads((version / manifest.NAME).read_text())
    lines = [f"{v['sha256']}  {k}" for k, v in content["files"].items()]
    subprocess.run(
        ["sha256sum", "--check", "--quiet"],
        input="\n".join(lines),
        text=True,
        cwd=version,
        check=True,
    )


@pytest.mark.parametrize("name", [*FILES, manifest.NAME])
def test_one_changed_bit_is_found_in_every_file(
    version: Path, name: str
) -> None:
    path = version / name
    content = bytearray(path.read_bytes() or b"x")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=name.split("/")[-1]):
        manifest.verify(str(version))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(version: Path, name: str) -> None:
    (version / name).unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing"):
        manifest.verify(str(version))


@pytest.mark.parametrize("name", [*FILES, manifest.NAME])
@pytest.mark.parametrize(
    "replace",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/nowhere"),
        lambda path: path.symlink_to(path),
        Path.mkdir,
    ],
    ids=["fifo", "endless", "nothing", "itself", "folder"],
)
def test_what_is_no_file_is_refused_and_not_read(
    version: Path, name: str, replace: Callable[[Path], object]
) -> None:
    (version / name).unlink()
    replace(version / name)
    with pytest.raises((DamagedError, OSError), match=name.split("/")[-1]):
        manifest.verify(str(version))


@pytest.mark.parametrize("name", ["assets/new", "variables/x", "keras.pb"])
def test_a_file_that_was_not_exported_is_found(
    version: Path, name: str
) -> None:
    (version / name).write_bytes(b"x")
    with pytest.raises(DamagedError, match=f"{name} is not in the manifest"):
        manifest.verify(str(version))


@pytest.mark.parametrize("name", [".nfs0001", "assets.extra/note", ".x/y"])
def test_files_that_no_loader_reads_may_be_added(
    version: Path, name: str
) -> None:
    (version / name).parent.mkdir(exist_ok=True)
    (version / name).write_bytes(b"x")
    assert manifest.verify(str(version))


def test_files_may_be_links(version: Path) -> None:
    target = version.with_name(version.name + "-linked")
    target.mkdir()
    for name in (*FILES, manifest.NAME):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).symlink_to(version / name)
    assert manifest.verify(str(target))


def test_many_damaged_files_are_counted(version: Path) -> None:
    for number in range(10):
        (version / f"assets/new-{number}").touch()
    with pytest.raises(DamagedError, match="and 7 more") as error:
        manifest.verify(str(version))
    assert len(str(error.value)) < 200


def test_a_version_without_one_is_not_verified(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert not manifest.verify(str(tmp_path))
    assert manifest.about(str(tmp_path)) == {}
    old = tmp_path / "assets.extra/lion_ctr.json"
    old.parent.mkdir()
    old.write_text('{"export_id": "old"}')
    assert not manifest.verify(str(tmp_path))
    assert manifest.about(str(tmp_path)) == {"export_id": "old"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "files": {}, "sha256": "0"}',
        '{"format": 1, "files": [], "sha256": 1}',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_said_to_be_damaged(
    version: Path, text: str | bytes
) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (version / manifest.NAME).write_bytes(data)
    for look in (manifest.verify, manifest.read, manifest.about):
        with pytest.raises(DamagedError, match=r"manifest\.json is damaged"):
            look(str(version))


def test_a_newer_format_is_named(version: Path) -> None:
    path = version / manifest.NAME
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DamagedError, match="format 2; accepted: up to 1"):
        manifest.verify(str(version))


def test_changes_of_inputs_are_named() -> None:
    assert manifest.input_changes("abc", "abc") == ""
    assert manifest.input_changes("ab", "bdc") == "lacks 'a'; adds 'c', 'd'"
