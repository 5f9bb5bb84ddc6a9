"""No execution's folder holds files of another one."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from models.errors import FailedError
from pipeline.runners.store import Store

PENDING, LIVE = (
    metadata_store_pb2.Artifact.PENDING,
    metadata_store_pb2.Artifact.LIVE,
)


def add(store: Store, number: int, state: int = LIVE) -> Path:
    """An artifact of an execution, in the database and on disk."""
    uri = store.artifacts / "ClickLogGen" / "examples" / str(number)
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(store.database)
    connection.sqlite.connection_mode = 3  # read, write, make
    opened = metadata_store.MetadataStore(connection)
    kind = opened.put_artifact_type(
        metadata_store_pb2.ArtifactType(name="Examples")
    )
    opened.put_artifacts(
        [metadata_store_pb2.Artifact(type_id=kind, uri=str(uri), state=state)]
    )
    del opened
    return write(uri)


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "data").write_text("rows")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A pipeline that has run: an artifact, and a checkpoint."""
    store = Store(tmp_path / "ctr")
    store.database.parent.mkdir()
    assert list(store.tidy()) == []
    add(store, 1)
    write(store.checkpoints / "k")
    return store


def stopped(store: Store, key: str, graph: Path | None, code: str) -> Path:
    """A training that was stopped: its checkpoint and what it needs."""
    folder = write(store.checkpoints / key / "step-0000000010").parent
    if graph is not None:
        origin = {"graph": f"{graph}/transform_fn", "code_version": code}
        (folder / "origin.json").write_text(json.dumps(origin))
    return folder


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def files(store: Store) -> set[str]:
    return {
        str(path.relative_to(store.artifacts).parent)
        for path in store.artifacts.rglob("data")
    }


def test_what_the_database_knows_stays(store: Store) -> None:
    assert list(store.tidy()) == []
    assert files(store) == {"ClickLogGen/examples/1"}
    assert (store.checkpoints / "k" / "data").exists()


def test_what_killed_attempts_left_is_removed(store: Store) -> None:
    add(store, 2, PENDING)
    write(store.artifacts / "ClickLogGen/examples/3")
    write(store.artifacts / "ClickLogGen/rejected/1/work")
    write(store.artifacts / "ClickLogGen/.system/executor_execution/3/.temp")
    write(store.artifacts / "ClickLogGen/rejected/1-refused")
    write(store.trials)
    (store.trials / "ab.json.12.tmp").write_text("half")
    assert list(store.tidy()) == []
    assert files(store) == {
        "ClickLogGen/examples/1",
        "ClickLogGen/rejected/1-refused",  # for `lionctr rejected`
    }
    assert [path.name for path in store.trials.iterdir()] == ["data"]


@pytest.mark.parametrize("make", [Path.unlink, lambda p: p.write_bytes(b"")])
def test_artifacts_that_a_new_database_does_not_know_are_moved_aside(
    store: Store, make: Callable[[Path], object]
) -> None:
    make(store.database)
    (note,) = store.tidy()
    assert str(store.artifacts / ".orphaned") in note
    assert files(store) == {".orphaned/ClickLogGen/examples/1"}
    # Its path would be that of another training's examples.
    assert not store.checkpoints.exists()
    assert list(store.tidy()) == []
    add(store, 1)
    assert list(store.tidy()) == []
    assert "ClickLogGen/examples/1" in files(store)


def test_a_database_that_comes_back_finds_no_files_of_another(
    store: Store, tmp_path: Path
) -> None:
    kept = store.database.read_bytes()
    store.database.unlink()
    list(store.tidy())
    add(store, 1).joinpath("data").write_text("other rows")
    store.database.write_bytes(kept)
    assert len(list(store.tidy())) == 1
    assert files(store) == {".orphaned/ClickLogGen/examples/1"}


def test_artifacts_of_an_earlier_version_are_taken_over(
    store: Store,
) -> None:
    (store.artifacts / ".database").unlink()
    data = bytearray(store.database.read_bytes())
    data[68:72] = bytes(4)  # SQLite's application id
    store.database.write_bytes(data)
    assert list(store.tidy()) == []
    assert list(store.tidy()) == []
    assert files(store) == {"ClickLogGen/examples/1"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_database_that_was_cut_is_named_with_the_way_out(
    store: Store, share: float
) -> None:
    data = store.database.read_bytes()
    store.database.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FailedError, match=r"metadata\.sqlite is damaged") as e:
        list(store.tidy())
    assert "Move it away and run again" in str(e.value)
    assert files(store) == {"ClickLogGen/examples/1"}
    store.database.unlink()
    assert len(list(store.tidy())) == 1


def test_a_file_that_is_no_database_is_named(store: Store) -> None:
    store.database.write_text("not a database, but long enough" * 100)
    with pytest.raises(FailedError, match="file is not a database"):
        list(store.tidy())


def test_checkpoints_that_may_be_gone_on_from_stay(store: Store) -> None:
    live = store.artifacts / "ClickLogGen/examples/1"
    (live / "transform_fn").mkdir()
    elsewhere = Path("another/folder", *live.parts[-3:])  # moved, or relative
    kept = [
        stopped(store, "0" * 16, live, "now"),
        stopped(store, "1" * 16, elsewhere, "now"),
        stopped(store, "2" * 16, live, "before"),
        stopped(store, "3" * 16, None, ""),
    ]
    age(kept[0], 400)
    age(kept[2], 29)
    part = write(kept[0] / "part-12")
    assert list(store.tidy()) == []
    assert list(store.sweep_checkpoints({"now", "tuner"})) == []
    assert all((path / "step-0000000010/data").exists() for path in kept)
    assert not part.exists()
    assert (store.checkpoints / "k/data").exists()  # not a training's


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("removed", "the examples of the training are gone"),
        ("unknown", "the examples of the training are gone"),
        ("code", "over 30 days old, of another version of the code"),
        ("no origin", "over 30 days old, of another version of the code"),
        ("half an origin", "over 30 days old, of another version"),
        ("no checkpoint", "killed before its first checkpoint"),
    ],
)
def test_abandoned_checkpoints_are_removed_and_named(
    store: Store, case: str, words: str
) -> None:
    live = store.artifacts / "ClickLogGen/examples/1"
    (live / "transform_fn").mkdir()
    folder = stopped(store, "a" * 16, live, "now")
    if case == "removed":  # by `lionctr runs --keep`; the database knows it
        shutil.rmtree(live)
    elif case == "unknown":
        other = live.with_name("7")
        origin = {"graph": f"{other}/transform_fn", "code_version": "now"}
        (folder / "origin.json").write_text(json.dumps(origin))
    elif case == "code":
        origin = {"graph": f"{live}/transform_fn", "code_version": "before"}
        (folder / "origin.json").write_text(json.dumps(origin))
    elif case == "no origin":
        (folder / "origin.json").unlink()
    elif case == "half an origin":
        (folder / "origin.json").write_text('{"graph": "')
    else:
        (folder / "step-0000000010").rename(folder / "part-1")
        write(folder / "best")
    if words.startswith("over"):
        age(folder, 31)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    if case == "no checkpoint":
        size -= 4  # of the half-written one
    assert list(store.tidy()) == []
    (line,) = store.sweep_checkpoints({"now"})
    assert f"removed {size} bytes of checkpoints, {folder}: " in line
    assert words in line
    assert not folder.exists()
    assert (store.checkpoints / "k/data").exists()
