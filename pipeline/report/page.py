"""`report.html` of a run: one file that fetches nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.report.gather import RunData, gather

REPORT = "report.html"
_VERDICTS = {
    "done": "Done: the model is pushed.",
    "refused": "Refused: nothing was pushed.",
    "failed": "Failed: nothing was pushed.",
    "input_error": "The config or the data is wrong: nothing was pushed.",
}
log = logging.getLogger("lionctr.report")


def write(folder: Path) -> Path:
    """Writes the report of the run in `folder`; returns its path.

    Raises:
        InputError: there is no run that has ended.
        OSError: the report cannot be written.
    """
    text = page(gather(folder))
    path = folder / REPORT
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8", errors="backslashreplace")
    temporary.replace(path)
    return path


def page(run: RunData) -> str:
    """The page; a section that cannot be shown says why."""
    import jinja2

    from pipeline.report import sections

    shown = []
    for section in sections.ALL:
        name = section.__name__
        try:
            found = section(run)
        except Exception as error:
            log.warning("report: %s", name, exc_info=True)
            note = f"Not shown: {type(error).__name__}: {error}"
            found = sections.Section(name, name.capitalize(), [note])
        if found:
            shown.append(found)
    if run.lost:
        shown.append(
            sections.Section("lost", "What could not be read", list(run.lost))
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
    )
    summary = run.summary
    status = str(summary.get("status"))
    why = [summary.get("message"), (summary.get("undefined") or {}).get("")]
    if summary.get("pushed_model"):
        why.insert(0, f"Pushed to {summary['pushed_model']}")
    return environment.get_template("report.html.j2").render(
        title=f"{summary.get('name')}: run {summary.get('run')}",
        good=status == "done",
        verdict=_VERDICTS.get(status, status),
        why=[line for line in why if line],
        sections=shown,
    )
