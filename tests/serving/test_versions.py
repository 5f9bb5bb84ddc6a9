"""The watcher's rules, with a loader that loads nothing."""

import time
from pathlib import Path

import pytest

from serving.model_folder import scan
from serving.versions import Snapshot, VersionWatcher


class Directory:
    """A model directory whose versions are one file: `model`."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        self.root = root
        self.root.mkdir(exist_ok=True)
        self.snapshots: list[Snapshot[str]] = []
        self.loads: list[int] = []
        self.watcher = VersionWatcher(
            root, self._load, self.snapshots.append, keep, self._accept
        )

    def _load(self, path: Path) -> str:
        self.loads.append(int(path.name))
        content = (path / "model").read_text()
        if content == "corrupt":
            raise RuntimeError("it is corrupt")
        return content

    def _accept(self, new: str, served: str) -> None:
        if "strange" in new and "strange" not in served:
            raise ValueError("it has other inputs")

    def write(self, version: int, content: str) -> None:
        folder = self.root / str(version)
        folder.mkdir(exist_ok=True)
        (folder / "model").write_text(content)

    def remove(self, version: int) -> None:
        (self.root / str(version) / "model").unlink()
        (self.root / str(version)).rmdir()

    def pin(self, text: str | int) -> None:
        (self.root / ".pinned").write_text(f"{text}\n")

    def unpin(self) -> None:
        (self.root / ".pinned").unlink()

    @property
    def served(self) -> int | None:
        return self.snapshots[-1].served

    def refresh(self) -> dict[int, str]:
        self.watcher.refresh()
        return dict(self.snapshots[-1].loaded) if self.snapshots else {}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_only_folders_named_by_integers_are_versions(tmp_path: Path) -> None:
    for name in ("1", "20", ".tmp-3", "4.tmp", "-5", "x", "٣", "²", "07"):
        (tmp_path / name).mkdir()
    (tmp_path / "6").write_text("a file")
    assert set(scan(tmp_path)) == {1, 20}


def test_the_newest_are_kept_and_loaded_once(directory: Directory) -> None:
    for version in (1, 2, 10):
        directory.write(version, f"v{version}")
    assert directory.refresh() == {10: "v10", 2: "v2"}
    assert directory.refresh() == {10: "v10", 2: "v2"}
    assert directory.loads == [10, 2]
    directory.write(11, "v11")
    assert directory.refresh() == {11: "v11", 10: "v10"}
    assert directory.loads == [10, 2, 11]


def test_a_new_version_is_shown_before_an_old_one_goes(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.write(2, "v2")
    directory.refresh()
    directory.snapshots.clear()
    directory.write(3, "v3")
    directory.refresh()
    assert [set(s.loaded) for s in directory.snapshots] == [
        {1, 2},
        {1, 2, 3},
        {2, 3},
    ]
    assert directory.snapshots[0].loading == 3


def test_a_revoked_version_goes_before_another_is_loaded(
    directory: Directory,
) -> None:
    for version in (1, 2, 3):
        directory.write(version, f"v{version}")
    directory.refresh()
    directory.remove(3)
    directory.snapshots.clear()
    assert directory.refresh() == {2: "v2", 1: "v1"}
    assert set(directory.snapshots[0].loaded) == {2}


def test_a_corrupt_version_is_tried_again_only_when_it_changes(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.write(2, "corrupt")
    assert directory.refresh() == {1: "v1"}
    assert directory.snapshots[-1].failed == {2: "it is corrupt"}
    directory.refresh()
    assert directory.loads == [2, 1]
    directory.write(2, "mended")
    assert directory.refresh() == {2: "mended", 1: "v1"}
    assert directory.snapshots[-1].failed == {}


def test_a_version_written_anew_is_loaded_anew(directory: Directory) -> None:
    directory.write(1, "v1")
    directory.refresh()
    directory.write(1, "another")
    assert directory.refresh() == {1: "another"}
    directory.write(1, "corrupt")
    assert directory.refresh() == {1: "another"}


def test_a_failed_version_that_is_removed_is_forgotten(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.write(2, "corrupt")
    directory.refresh()
    directory.remove(2)
    directory.refresh()
    assert directory.snapshots[-1].failed == {}
    assert directory.snapshots[-1].loaded == {1: "v1"}


def test_a_directory_that_cannot_be_read_revokes_nothing(
    directory: Directory, tmp_path: Path
) -> None:
    directory.write(1, "v1")
    directory.refresh()
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert directory.refresh() == {1: "v1"}
    moved.rename(tmp_path)
    assert directory.refresh() == {1: "v1"}
    assert directory.loads == [1]


def test_the_thread_finds_a_version_and_stops(directory: Directory) -> None:
    directory.watcher.start(interval=0.01)
    directory.write(1, "v1")
    for _ in range(500):
        if directory.snapshots and directory.snapshots[-1].loaded:
            break
        time.sleep(0.01)
    directory.watcher.stop()
    assert directory.snapshots[-1].loaded == {1: "v1"}


def test_keep_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Received: 0"):
        Directory(tmp_path, keep=0)


def test_a_pinned_version_is_served_and_the_newest_stays_loaded(
    directory: Directory,
) -> None:
    for version in (1, 2, 3):
        directory.write(version, f"v{version}")
    directory.refresh()
    assert directory.served == 3
    directory.pin(1)
    assert directory.refresh() == {1: "v1", 3: "v3"}
    assert directory.served == 1
    directory.write(4, "v4")
    assert directory.refresh() == {1: "v1", 4: "v4"}
    assert directory.served == 1
    directory.unpin()
    assert directory.refresh() == {4: "v4", 3: "v3"}
    assert directory.served == 4


def test_every_snapshot_serves_what_is_loaded(directory: Directory) -> None:
    for version in (1, 2):
        directory.write(version, f"v{version}")
    directory.refresh()
    directory.pin(1)
    directory.refresh()
    directory.remove(1)
    directory.write(3, "corrupt")
    directory.refresh()
    assert directory.served == 2
    for snapshot in directory.snapshots:
        assert not snapshot.loaded or snapshot.served in snapshot.loaded


@pytest.mark.parametrize("text", ["9", "x", "", "²"])
def test_a_pin_on_nothing_is_ignored_and_told_once(
    directory: Directory, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write(1, "v1")
    directory.pin(text)
    directory.refresh()
    directory.refresh()
    assert directory.served == 1
    (record,) = [r for r in caplog.records if "pinned" in r.getMessage()]
    assert record.levelname == "ERROR"


def test_a_pinned_version_that_is_corrupt_gives_way_to_the_one_before(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.write(2, "corrupt")
    directory.write(3, "v3")
    directory.pin(2)
    assert directory.refresh() == {1: "v1", 3: "v3"}
    assert directory.served == 1


def test_a_version_that_is_not_accepted_waits(directory: Directory) -> None:
    directory.write(1, "v1")
    directory.refresh()
    directory.write(2, "strange v2")
    assert directory.refresh() == {1: "v1"}
    assert directory.snapshots[-1].failed == {2: "it has other inputs"}
    directory.refresh()
    assert directory.loads == [1, 2]
    directory.write(3, "v3")
    assert directory.refresh() == {3: "v3", 1: "v1"}
    # Whoever pins it, or takes away what was served, means it.
    directory.pin(2)
    assert directory.refresh() == {2: "strange v2", 3: "v3"}
    assert (directory.served, directory.snapshots[-1].failed) == (2, {})


def test_a_version_that_is_not_accepted_serves_where_no_other_is_left(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.refresh()
    directory.write(2, "strange v2")
    directory.refresh()
    directory.remove(1)
    assert directory.refresh() == {2: "strange v2"}
    assert directory.served == 2


def test_a_version_that_was_loaded_beside_a_pin_is_judged_too(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.write(2, "strange v2")
    directory.pin(1)
    assert directory.refresh() == {1: "v1", 2: "strange v2"}
    directory.unpin()
    assert directory.refresh() == {1: "v1"}
    assert directory.snapshots[-1].failed == {2: "it has other inputs"}


def test_a_served_version_written_anew_is_judged_too(
    directory: Directory,
) -> None:
    directory.write(1, "v1")
    directory.refresh()
    directory.write(1, "strange")
    assert directory.refresh() == {1: "v1"}
    assert directory.served == 1
    assert directory.snapshots[-1].failed == {1: "it has other inputs"}


def test_a_pin_of_the_server_goes_before_the_pin_of_the_directory(
    tmp_path: Path,
) -> None:
    snapshots: list[Snapshot[str]] = []
    for version in (1, 2, 3):
        (tmp_path / str(version)).mkdir()
    (tmp_path / ".pinned").write_text("2")
    VersionWatcher(
        tmp_path, lambda path: path.name, snapshots.append, pin=1
    ).refresh()
    assert (snapshots[-1].served, set(snapshots[-1].loaded)) == (1, {1, 3})
