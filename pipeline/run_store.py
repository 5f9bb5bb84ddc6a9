"""Runs on disk: what they used and found, and which ones may be deleted."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluator.each_output import each_output
from models.errors import InputError
from pipeline import object_store
from serving.object_store import is_store, new_folder

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


SUMMARY = "summary.json"
SECTIONS = ("data", "features", "model", "optimizer", "train", "evaluate")


@dataclass(frozen=True)
class Run:
    """One run of the pipeline whose folder is `home`."""

    home: Path
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "unfinished"))

    @property
    def began(self) -> datetime.datetime | None:
        """The time in the id, in UTC; None where there is none."""
        try:
            return datetime.datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S")
        except ValueError:
            return None

    @property
    def when(self) -> str:
        """The time in the id, in UTC."""
        began = self.began
        return "" if began is None else f"{began:%Y-%m-%d %H:%M:%S}"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`; {} for a run that was killed."""
        try:
            found = json.loads((self.folder / SUMMARY).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def settings(self) -> dict[str, Any]:
        """The sections of the config that decide what is trained."""
        if "model" in self.summary:
            return {name: self.summary.get(name) for name in SECTIONS}
        import yaml

        try:
            text = (self.folder / "config.yaml").read_text("utf-8")
            found = yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: found.get(name) for name in SECTIONS}

    def artifacts(self) -> set[str]:
        """The folders of its components' outputs."""
        outputs = (self.summary.get("artifacts") or {}).values()
        return {uri for by_name in outputs for uri in by_name.values()}


def root_of(config: PipelineConfig) -> str:
    """Where the runs of a pipeline are: here, or those of Kubeflow.

    Raises:
        InputError: Kubeflow keeps none of them.
    """
    if not is_store(config.root):
        return config.root
    state = config.runner.kubeflow.state
    if state is not None:
        return state.rstrip("/")
    if config.root.startswith("gs://"):
        return config.root.rstrip("/")
    raise InputError(
        f"root: {config.root!r} holds Kubeflow's artifacts. Runs are kept where"
        " runner.kubeflow.state says, which is not set. Kubeflow's own pages"
        " show metrics, the report, and the URI of rejected rows"
    )


def fetched_root(
    root: str, name: str, files: tuple[str, ...], keep: bool = False
) -> Path:
    """A folder of this machine with the runs of an object store.

    Args:
        root: the URI that holds `<pipeline>/runs/<id>/`.
        name: of the pipeline; "" for all.
        files: names of the files that are wanted.
        keep: leaves the folder behind when the process ends.

    Raises:
        InputError: the store cannot be read.
    """
    folder = new_folder(keep)
    names = [name] if name else object_store.folders(root)
    for one in names:
        home = f"{root.rstrip('/')}/{one}/runs"
        object_store.fetch(home, folder / one / "runs", files)
    return folder


def runs(home: Path) -> list[Run]:
    """All runs of a pipeline, the oldest first."""
    folders = sorted(path for path in (home / "runs").iterdir())
    return [Run(home, path) for path in folders if path.is_dir()]


def rows(some: list[Run]) -> list[dict[str, Any]]:
    """Rows of the table of runs, each beside the run before it.

    Args:
        some: runs of pipelines, the oldest of each first.
    """
    before: dict[Path, Run] = {}
    found = []
    for run in some:
        found.append(_row(run, before.get(run.home)))
        if any(run.settings().values()):  # those of a killed run may be lost
            before[run.home] = run
    return found


def _row(run: Run, before: Run | None) -> dict[str, Any]:
    summary, settings = run.summary, run.settings()
    measured = _measured(summary.get("evaluation") or {})
    return {
        "pipeline": run.home.name,
        "run": run.id,
        "when": run.when,
        "status": run.status,
        "model": (settings.get("model") or {}).get("name"),
        "optimizer": optimizer_of(settings.get("optimizer") or {}),
        "changes": []
        if before is None or not any(settings.values())
        else changes(before.settings(), settings),
        "metrics": summary.get("metrics") or {},
        "better": {n: e.get("better") for n, e in measured.items()},
        "intervals": {n: e.get("interval") for n, e in measured.items()},
        "pushed_model": summary.get("pushed_model"),
        "report": str(run.folder / "report.html"),
    }


def _measured(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Metric -> its entry; of an output after the first: cvr.auc."""
    return {
        head + metric: entry
        for head, part in each_output(evaluation)
        for metric, entry in (part.get("metrics") or {}).items()
    }


def optimizer_of(section: dict[str, Any]) -> str | None:
    """Names of the optimizer, of groups each once."""
    names = [one.get("name") for one in section.get("groups") or [section]]
    return ", ".join(dict.fromkeys(filter(None, names))) or None


def find_run(run: str, root: str, more: tuple[str, ...] = ()) -> Path:
    """The folder of a run that has ended; a copy of one on an object store.

    Args:
        run: its id or folder, `last`, or a config: the last run of that.
        root: where runs are, for an id and for `last`.
        more: files that a copy has beside the summary; it then stays when
            the process ends.

    Raises:
        InputError: there is none.
    """
    path = Path(run)
    if (path / SUMMARY).is_file():
        return path
    pattern, name = "*/runs/*" if run == "last" else f"*/runs/{run}", ""
    if path.suffix in (".yaml", ".yml"):
        from pipeline.config import load

        config = load(path)
        root, name = root_of(config), config.name
        pattern = f"{name}/runs/*"
    place = root
    if is_store(root):
        root = str(fetched_root(root, name, (SUMMARY, *more), bool(more)))
    folders = [p.parent for p in Path(root).glob(f"{pattern}/{SUMMARY}")]
    if not folders:
        newest = sorted(Path(root).glob(f"*/runs/*/{SUMMARY}"))[-3:]
        known = ", ".join(path.parent.name for path in newest) or "none"
        raise InputError(
            f"no finished run {place}/{pattern}. Runs in {place!r}: {known}."
            " Accepted: a run's id, `last`, a config, or a folder; --root says"
            " where runs are"
        )
    return max(folders, key=lambda folder: (folder.name, folder))


def artifact(home: Path, uri: str) -> Path | None:
    """Where an artifact of the pipeline is; None for one elsewhere.

    A run names it as its own process saw it: from another working directory,
    or of a folder that was moved since.
    """
    if "://" in uri:
        return None
    _, inside, tail = uri.rpartition("/artifacts/")
    path = home / "artifacts" / tail
    return path if inside and ".." not in path.parts else None


def changes(before: Any, after: Any) -> list[dict[str, Any]]:
    """Settings that differ: path, before, after; None where one has none."""
    first, second = dict(_leaves(before)), dict(_leaves(after))
    return [
        {"path": path, "before": first.get(path), "after": second.get(path)}
        for path in dict.fromkeys([*first, *second])
        if first.get(path) != second.get(path)
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    named = isinstance(value, list) and any(isinstance(v, dict) for v in value)
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif named:
        items = [
            (str(v.get("name", n)) if isinstance(v, dict) else str(n), v)
            for n, v in enumerate(value)
        ]
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{path}.{key}" if path else key)


@dataclass(frozen=True)
class Plan:
    """Runs and artifacts that may be deleted, as `plan` found them."""

    deleted: list[Run]
    artifacts: list[Path]
    checkpoints: list[Path]  # of trainings that were stopped
    bytes: int
    kept_for: list[tuple[Run, str]] = field(default_factory=list)

    def carry_out(self) -> None:
        """Deletes: artifacts first, so that no run names less than it has."""
        folders = [*self.artifacts, *self.checkpoints]
        for path in [*folders, *(run.folder for run in self.deleted)]:
            shutil.rmtree(path)

    def to_json(self) -> dict[str, Any]:
        return {
            "deleted": [run.id for run in self.deleted],
            "artifacts": [str(path) for path in self.artifacts],
            "checkpoints": [str(path) for path in self.checkpoints],
            "bytes": self.bytes,
            "kept_for": {run.id: why for run, why in self.kept_for},
        }


def plan(home: Path, keep: int) -> Plan:
    """Which runs may go, with the artifacts that only they use.

    The newest `keep` stay, and all that pushed a model or made what one of
    these took from the cache. So do those without a summary: a killed run's
    outputs are unknown. Checkpoints go that none of the newest `keep` has
    written.
    """
    everything = runs(home)
    recent = everything[len(everything) - keep :] if keep else []
    kept = {run.id for run in recent}
    why: list[tuple[Run, str]] = []
    for run in everything:
        if run.id in kept:
            continue
        if run.summary.get("pushed_model"):
            why.append((run, f"it pushed {run.summary['pushed_model']}"))
        elif not run.summary:
            why.append((run, "it has no summary.json"))
    kept |= {run.id for run, _ in why}
    used = {u for run in everything if run.id in kept for u in run.artifacts()}
    seen: set[str] = set()
    for run in everything:  # the first that names an artifact made it
        made = run.artifacts() - seen
        seen |= made
        if run.id not in kept and made & used:
            why.append((run, "a later run that stays reuses what it made"))
    kept |= {run.id for run, _ in why}
    deleted = [run for run in everything if run.id not in kept]
    used = {u for run in everything if run.id in kept for u in run.artifacts()}
    candidates = {
        artifact(home, uri) for run in deleted for uri in run.artifacts() - used
    }
    # A run of an older version does not say which artifacts it uses.
    all_named = all(
        "artifacts" in run.summary
        for run in everything
        if run.id in kept and run.summary
    )
    artifacts = sorted(p for p in candidates if all_named and p and p.is_dir())
    checkpoints = _written_before(home / "checkpoints", recent)
    folders = [*artifacts, *checkpoints, *(run.folder for run in deleted)]
    size = sum(map(_size, folders))
    return Plan(deleted, artifacts, checkpoints, size, why)


def _written_before(folder: Path, recent: list[Run]) -> list[Path]:
    """The folders in `folder` without a file from the time of `recent`."""
    began = recent[0].began if recent else datetime.datetime.max
    if began is None:
        return []
    since = began.replace(tzinfo=datetime.UTC)
    return [
        path
        for path in sorted(folder.glob("*/"))
        if all(
            datetime.datetime.fromtimestamp(p.stat().st_mtime, datetime.UTC)
            < since
            for p in path.rglob("*")
        )
    ]


def _size(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(where, name)).st_size
        for where, _, names in os.walk(folder)
        for name in names
    )
