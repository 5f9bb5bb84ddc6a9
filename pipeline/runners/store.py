"""The metadata database of a pipeline, and the artifacts that it knows of."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from models.errors import FailedError
from pipeline.runners import disk

_MARK = ".database"  # in the artifacts' folder: whose artifacts they are
_ORPHANED = ".orphaned"
_LIVE = 2  # ml_metadata.proto.Artifact.State
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_KEY = re.compile("[0-9a-f]{16}")  # of a training
_DAYS = 30  # that checkpoints of other code are kept
_SYSTEM = ".system"  # TFX's own files of executions under way


class Store:
    """Artifacts of earlier runs, for the only run under way.

    home: `<root>/<name>`.
    """

    def __init__(self, home: Path) -> None:
        self.database = home / "metadata.sqlite"
        self.artifacts = home / "artifacts"
        self.checkpoints = home / "checkpoints"
        self.trials = home / "trials"
        self._live: set[tuple[str, ...]] = set()

    def tidy(self) -> Iterator[str]:
        """Leaves no artifact that the database does not know of.

        TFX names a folder by an execution's number, and the numbers begin at
        1 again in a new database: each would be written into the files of
        another execution. Artifacts of another database are moved to
        `artifacts/.orphaned`; what killed attempts left is removed.

        Yields:
            What a person should know of it, a line each.

        Raises:
            FailedError: the database is damaged.
        """
        try:
            with closing(sqlite3.connect(self.database)) as connection:
                identity, live = self._known(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise self._damaged(str(error)) from error
            raise FailedError(f"{self.database}: {error}") from error
        self.artifacts.mkdir(parents=True, exist_ok=True)
        mark = self.artifacts / _MARK
        if self._mark() != identity:
            if self._orphan():
                yield (
                    f"note: {self.database} does not know the artifacts in"
                    f" {self.artifacts}; they were moved to"
                    f" {self.artifacts / _ORPHANED}, which may be deleted"
                )
            mark.write_text(identity, "utf-8")
        self._live = live
        self._sweep(live)

    def sweep_checkpoints(self, codes: Collection[str]) -> Iterator[str]:
        """Removes checkpoints that no training can go on from, after `tidy`.

        A training of examples that are there, by this code or within 30 days
        by other code, keeps them: its settings may come back.

        Args:
            codes: versions of the code that trains.

        Yields:
            What was removed, and why, a line each.
        """
        for folder in sorted(self.checkpoints.glob("*")):
            if not _KEY.fullmatch(folder.name) or not folder.is_dir():
                continue
            for part in folder.glob("part-*"):  # a save that was killed
                shutil.rmtree(part)
            why = self._abandoned(folder, codes)
            if why:
                freed = disk.size(sum(p.stat().st_size for p in _files(folder)))
                shutil.rmtree(folder)
                yield f"note: removed {freed} of checkpoints, {folder}: {why}"

    def _abandoned(self, folder: Path, codes: Collection[str]) -> str:
        """Why no training goes on from these checkpoints; "" if one may."""
        if not any(folder.glob("step-*")):
            return "the training was killed before its first checkpoint"
        try:
            origin = json.loads((folder / "origin.json").read_text("utf-8"))
            graph, code = Path(origin["graph"]), origin["code_version"]
        except (OSError, ValueError, KeyError, TypeError):
            graph, code = None, ""  # of an earlier version
        if graph is not None:
            place = graph.parts[-4:-1]
            there = self.artifacts.joinpath(*place, graph.name).is_dir()
            if place not in self._live or not there:
                return "the examples of the training are gone"
        times = (path.stat().st_mtime for path in _files(folder))
        idle = time.time() - max(times, default=0)
        if code not in codes and idle > _DAYS * 86_400:
            return f"over {_DAYS} days old, of another version of the code"
        return ""

    def _known(
        self, connection: sqlite3.Connection
    ) -> tuple[str, set[tuple[str, ...]]]:
        """The database's own number; component, output, id of artifacts."""
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(found)
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        size = self.database.stat().st_size
        if size % page:  # of the last page, SQLite takes the rest for zeros
            raise self._damaged(f"it was cut at byte {size:,}")
        (known,) = connection.execute("PRAGMA application_id").fetchone()
        number = known or _number()
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master")
        }
        if not known and "Artifact" in tables and not self._mark():
            # An earlier version gave neither of them a number.
            self.artifacts.mkdir(parents=True, exist_ok=True)
            (self.artifacts / _MARK).write_text(_text(number), "utf-8")
        if number != known:
            connection.execute(f"PRAGMA application_id = {number}")
            connection.commit()
        live = set()
        if "Artifact" in tables:
            rows = connection.execute(
                "SELECT uri FROM Artifact WHERE state = ?", [_LIVE]
            )
            live = {tuple(uri.split("/")[-3:]) for (uri,) in rows if uri}
        return _text(number), live

    def _damaged(self, why: str) -> FailedError:
        return FailedError(
            f"{self.database} is damaged: {why}. It only lists what earlier"
            " runs made; pushed models do not need it. Move it away and run"
            " again: every step is repeated. Or put a copy of it back"
        )

    def _mark(self) -> str:
        try:
            return (self.artifacts / _MARK).read_text("utf-8")
        except FileNotFoundError:
            return ""

    def _orphan(self) -> bool:
        """Moves all artifacts aside, over those of the time before."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        found = [p for p in self.artifacts.iterdir() if p.name[0] != "."]
        if not found:
            return False
        aside = self.artifacts / _ORPHANED
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in found:
            path.rename(aside / path.name)
        return True

    def _sweep(self, live: set[tuple[str, ...]]) -> None:
        """Removes what belongs to no finished execution."""
        for output in self.artifacts.glob("[!.]*/*"):
            if output.name == _SYSTEM:
                shutil.rmtree(output)
                continue
            for path in output.glob("[0-9]*"):
                place = path.relative_to(self.artifacts).parts
                if path.name.isdecimal() and place not in live:
                    shutil.rmtree(path)
        for path in self.trials.glob("*.tmp"):
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _number() -> int:
    return 1 + secrets.randbelow((1 << 31) - 1)


def _text(number: int) -> str:
    return f"{number:08x}"
