"""Full disks: told before a step, and named when a step ends by one."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import FailedError
from pipeline.runners import disk
from tests.pipeline.mounts import small_disk


def fill(folder: Path) -> OSError:
    """Fills the disk of a folder; returns the error that it ends with."""
    try:
        with (folder / "filling").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass
    except OSError as error:
        return error
    raise AssertionError("a disk without an end")


def test_a_step_does_not_begin_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "300k"):
        place = tmp_path / "small" / "not" / "there"
        (warning,) = disk.check("Transform", [place, place.parent], 5_000_000)
        assert "307 kB free for Transform" in warning
        assert "it may write 5 MB" in warning
        fill(tmp_path / "small")
        with pytest.raises(FailedError, match=f"No space left on {place}"):
            list(disk.check("Transform", [place], 0))
        assert [p.name for p in (tmp_path / "small").iterdir()] == ["filling"]


def test_there_is_no_warning_where_there_is_room(tmp_path: Path) -> None:
    assert list(disk.check("Trainer", [tmp_path / "new"], 1000)) == []


def test_what_failed_on_a_full_disk_is_named_by_the_disk(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "small", "100k"):
        error = fill(tmp_path / "small")
        assert error.filename is None
        wrapped = RuntimeError(f"{error} [while running 'Convert']")
        places = [tmp_path, tmp_path / "small"]
        for raised in (error, wrapped, TypeError("a tensor as a bool")):
            message = disk.explain(raised, places)
            assert message
            assert message.startswith(f"No space left on {places[1]}")
            assert "run the same command again" in message
    # The disk has room again, as after TFX has removed what was unfinished.
    message = disk.explain(wrapped, places)
    assert message and message.startswith(f"No space left on {tmp_path}:")
    assert disk.explain(TypeError("a tensor as a bool"), places) is None


def test_the_database_is_named_by_what_sqlite_says(tmp_path: Path) -> None:
    path = tmp_path / "small" / "metadata.sqlite"
    with small_disk(path.parent, "60k"):
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
            connection.commit()
        connection.close()
    message = disk.explain(raised.value, [tmp_path / "artifacts", path])
    assert message and message.startswith(f"No space left on {path}:")


LIMITED = """
import resource, sys
from pathlib import Path
from pipeline.runners import disk
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
path = Path(sys.argv[1], "model")
try:
    path.write_bytes(bytes(300_000))
except OSError as error:
    print(disk.explain(error, [path.parent]))
"""


def test_a_limit_on_file_sizes_is_told_as_one(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(f"No space left on {tmp_path}: a file would")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000
