"""`report.html` of a run: one file that fetches nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.report.gather import Copies, RunData, gather

REPORT = "report.html"
_VERDICTS = {
    "blessed": "Blessed: the push comes next.",
    "done": "Done: the model is pushed.",
    "refused": "Refused: nothing was pushed.",
    "failed": "Failed: nothing was pushed.",
    "input_error": "The config or the data is wrong: nothing was pushed.",
}
log = logging.getLogger("lionctr.report")


def write(folder: Path, copies: Copies | None = None) -> Path:
    """Writes the report of the run in `folder`; returns its path.

    Args:
        folder: of the run.
        copies: component -> output -> its folder on this machine; None: where
            the run's summary says.

    Raises:
        InputError: there is no run that has ended.
        OSError: the report cannot be written.
    """
    return put(folder / REPORT, page(gather(folder, copies)))


def put(path: Path, text: str) -> Path:
    """Writes a page, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8", errors="backslashreplace")
    temporary.replace(path)
    return path


def page(run: RunData) -> str:
    """The page; a section that cannot be shown says why."""
    from pipeline.report import sections
    from pipeline.report.elements import Section
    from pipeline.report.outputs import outputs

    shown = []
    for section in (*sections.ALL[:4], outputs, *sections.ALL[4:]):
        name = section.__name__
        found: Any
        try:
            found = section(run)
            if section is outputs:
                shown += list(found)
                continue
        except Exception as error:
            log.warning("report: %s", name, exc_info=True)
            note = f"Not shown: {type(error).__name__}: {error}"
            found = Section(name, name.capitalize(), [note])
        if found:
            shown.append(found)
    if run.lost:
        shown.append(Section("lost", "What could not be read", list(run.lost)))
    summary = run.summary
    status = str(summary.get("status"))
    why = [summary.get("message"), (summary.get("undefined") or {}).get("")]
    if summary.get("pushed_model"):
        why.insert(0, f"Pushed to {summary['pushed_model']}")
    why += [f"Warning: {line}" for line in summary.get("warnings") or []]
    return render(
        title=f"{summary.get('name')}: run {summary.get('run')}",
        good=status in ("done", "blessed"),
        verdict=_VERDICTS.get(status, status),
        why=[line for line in why if line],
        sections=shown,
    )


def render(**values: Any) -> str:
    """The template, filled in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
    )
    return environment.get_template("report.html.j2").render(**values)


def path_of(run: str, root: str) -> Path:
    """Path of a run's report: made anew, or a copy of that on a store.

    Raises:
        InputError: there is no such run.
    """
    from pipeline.run_store import find_run

    folder = find_run(run, root, (REPORT,))
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    if not summary.get("reported", True):  # on Kubeflow, before its Report
        message = summary.get("message") or "no message"
        raise InputError(f"{folder.name}: the run has no report. {message}")
    return (
        folder / REPORT if _is_of_kubeflow(folder, summary) else write(folder)
    )


def _is_of_kubeflow(folder: Path, summary: dict[str, Any]) -> bool:
    """True if the run's artifacts are where no page can be made of them."""
    uris = (summary.get("artifacts") or {}).get("Trainer") or {}
    is_there = (folder / REPORT).is_file()
    return is_there and any("://" in uri for uri in uris.values())
