"""Folders of runs on Kubeflow, on a volume or a store, for `lionctr runs`.

Folders lie as those of local runs do: `<state>/<name>/runs/<id>/`. An id is the
time, and the name that Kubeflow gives the run.
"""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

from models import valid_json
from pipeline import object_store
from serving.object_store import CREDENTIALS, listed, open_store, read

# Parameters of the tasks that write to it: where runs are, and which it is.
RUNS, RUN = "lionctr_runs", "lionctr_run"
_SUMMARY = "summary.json"
_TIME = "%Y%m%d-%H%M%S"
log = logging.getLogger("lionctr.kubeflow")


class RunFolder:
    """The folder of one run.

    Args:
        runs: the folder of all runs of a pipeline, a path or a URI.
        run: the run's name on the cluster.

    Raises:
        OSError: the place cannot be read.
    """

    def __init__(self, runs: str, run: str) -> None:
        self._store, self._runs = open_store(runs)
        now = datetime.datetime.now(datetime.UTC)
        self.id = f"{now:{_TIME}}-{run}"
        if run.startswith("{{"):  # a backend that does not know it
            self.id = f"{now:{_TIME}}-run"
        found = {
            path[len(self._runs) :].strip("/").partition("/")[0]
            for path in listed(self._store, self._runs)
        }
        length = len(self.id) - len(run)
        ours = [name for name in found if name[length:] == run]
        if ours:
            self.id = max(ours)
        self.uri = f"{runs.rstrip('/')}/{self.id}"

    def write(self, name: str, text: str) -> None:
        """Writes one file of the run."""
        path = f"{self._runs}/{self.id}/{name}"
        data = text.encode("utf-8", "backslashreplace")
        object_store.write(self._store, path, data)

    def summary(self) -> dict[str, Any]:
        """The run's summary; empty before there is one."""
        path = f"{self._runs}/{self.id}/{_SUMMARY}"
        try:
            found = json.loads(read(self._store, path))
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the run's summary."""
        self.write(_SUMMARY, valid_json.dumps(summary) + "\n")


def of(values: dict[str, Any]) -> RunFolder | None:
    """The folder that a task's parameters name, which are removed.

    None where they name none, or its place cannot be read: the run goes on.
    """
    runs, run = values.pop(RUNS, ""), values.pop(RUN, "")
    if not runs:
        return None
    try:
        return RunFolder(runs, run)
    except OSError as error:
        log.warning("%s cannot be read: %s. %s", runs, error, CREDENTIALS)
        return None


def note_begin(folder: RunFolder | None, name: str) -> None:
    """Leaves a summary that a run has without a Report; a failure warns."""
    if folder is None:
        return
    message = (
        "The run ended before its Report, or is under way. Kubeflow's pages"
        " show which task failed, and its log."
    )
    summary = {
        "status": "unfinished",
        "message": message,
        "name": name,
        "run": folder.id,
        "reported": False,
    }
    try:
        if not folder.summary():  # of a try before
            folder.write_summary(summary)
    except (OSError, ValueError) as error:
        log.warning("%s cannot be written: %s", folder.uri, error)


def note_end(folder: RunFolder | None, **found: Any) -> None:
    """Adds to the run's summary how it ended; a failure is a warning."""
    if folder is None:
        return
    try:
        summary = folder.summary()
        if summary:
            folder.write_summary(summary | found)
    except (OSError, ValueError) as error:
        log.warning("%s cannot be written: %s", folder.uri, error)
