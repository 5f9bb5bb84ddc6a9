"""No execution's folder holds files of another one."""

from __future__ import annotations

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
