"""`report.html` of a run: one file that fetches nothing."""

from __future__ import annotations

import logging
from pathlib import Path

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
    text = page(gather(folder, copies))
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
        good=status in ("done", "blessed"),
        verdict=_VERDICTS.get(status, status),
        why=[line for line in why if line],
        sections=shown,
    )


def path_of(run: str, root: str) -> Path:
    """A run's report: made anew, or a copy of that on an object store.

    Raises:
        InputError: there is no such run.
    """
    from pipeline import object_store, run_store

    name = ""
    if run.endswith((".yaml", ".yml")):
        from pipeline.config import load

        config = load(Path(run))
        root, name = run_store.root_of(config), config.name
    if not object_store.is_store(root):
        folder = find(run, root)
        if _is_of_kubeflow(folder):
            return folder / REPORT
        return write(folder)
    files = ("summary.json", REPORT)
    copies = run_store.fetched_root(root, name, files, keep=True)
    run = "last" if name else run
    return find(run, str(copies), root) / REPORT


def _is_of_kubeflow(folder: Path) -> bool:
    """Whether the run's artifacts are where no page can be made of them."""
    import json

    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    uris = (summary.get("artifacts") or {}).get("Trainer") or {}
    is_there = (folder / REPORT).is_file()
    return is_there and any("://" in uri for uri in uris.values())


def find(run: str, root: str, place: str | None = None) -> Path:
    """The folder of a run: given by folder, id, `last`, or its config.

    `root` holds copies of the runs in `place`, if that is given.

    Raises:
        InputError: there is none.
    """
    path = Path(run)
    if (path / "summary.json").is_file():
        return path
    pattern = "*/runs/*" if run == "last" else f"*/runs/{run}"
    if path.suffix in (".yaml", ".yml"):
        from pipeline.config import load

        config = load(path)
        root, pattern = config.root, f"{config.name}/runs/*"
    folders = [p.parent for p in Path(root).glob(f"{pattern}/summary.json")]
    if not folders:
        raise InputError(
            f"no finished run {place or root}/{pattern}. Accepted: a run's id,"
            " `last`, a config, or a folder; --root says where runs are"
        )
    return max(folders, key=lambda folder: (folder.name, folder))
