"""`lionctr runs`: a pipeline's runs as a table; compare two, delete old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import valid_json
from models.errors import InputError
from pipeline import run_store
from pipeline.run_store import Run
from serving.object_store import is_store

_METRICS = ("auc", "logloss", "calibration")  # columns of the table
_CHANGES = 3  # shown in the table


@dataclass(frozen=True)
class Options:
    """Arguments of `lionctr runs`; see the command's help."""

    sort: str = ""
    diff: Sequence[str] | None = None
    keep: int | None = None
    dry_run: bool = False
    as_json: bool = False
    html: bool = False


def main(name: str, root: str, options: Options) -> int:
    """Runs one `lionctr runs` command; returns the exit code.

    Args:
        name: of a pipeline, or its config; "" for all in `root`.
        root: where the runs of pipelines are.
        options: what to do.

    Raises:
        InputError: there is no such pipeline, run or metric.
    """
    if name.endswith((".yaml", ".yml")):
        from pipeline.config import load

        config = load(Path(name))
        root, name = run_store.root_of(config), config.name
    place = root
    if is_store(root):
        if options.keep is not None or options.html:
            option = "--html" if options.html else "--keep"
            raise InputError(
                f"{option}: received with {root!r}; accepted: runs of this"
                " machine. A store's own rules of lifetime delete there"
            )
        files = ("summary.json", "config.yaml")
        root = str(run_store.fetched_root(root, name, files))
    homes = _homes(name, root, place)
    if options.dry_run and options.keep is None:
        raise InputError("--dry-run: received without --keep N")
    if options.keep is not None:
        if options.keep < 0:
            raise InputError(
                f"--keep: received {options.keep}; accepted: 0 or more"
            )
        if not name:
            raise InputError(
                "--keep: received no pipeline; accepted: lionctr runs"
                " CONFIG|NAME --keep N"
            )
        return _keep(homes[0], options)
    runs = [run for home in homes for run in run_store.runs(home)]
    if options.diff:
        return _diff(runs, options)
    rows = run_store.rows(runs)
    rows.reverse()
    for row in rows if place != root else ():
        row["report"] = row["report"].replace(root, place.rstrip("/"), 1)
    if options.sort:
        rows = _sorted(rows, options.sort)
    if options.html:
        from pipeline.report import index

        print(index.write(rows, homes[0] if name else homes[0].parent))
        return 0
    if options.as_json:
        print(valid_json.dumps({"runs": rows}))
        return 0
    for line in _table(rows, options.sort, len(homes) > 1):
        print(line)
    return 0


def _homes(name: str, root: str, place: str) -> list[Path]:
    """The folders of the pipelines; `root` holds copies of those in `place`."""
    known = sorted(path.parent for path in Path(root).glob("*/runs"))
    if not name:
        if not known:
            raise InputError(
                f"no runs in {place!r}; --root says where they are"
            )
        return known
    for home in (Path(root) / name, Path(name)):
        if (home / "runs").is_dir():
            return [home]
    names = ", ".join(home.name for home in known) or "none"
    raise InputError(
        f"{name}: no runs in {f'{place}/{name}'!r}. Pipelines there:"
        f" {names}; --root says where runs are"
    )


def _sorted(rows: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The best first, runs without the metric last."""
    known = sorted({name for row in rows for name in row["metrics"]})
    if metric not in known:
        raise InputError(
            f"--sort: received {metric!r}; accepted here:"
            f" {', '.join(known) or 'nothing: no run has metrics'}"
        )
    better = _better(metric, rows)
    orders = {"one": _off_one, "higher": float.__neg__}
    order: Callable[[float], float] = orders.get(better, float)

    def key(row: dict[str, Any]) -> tuple[bool, float]:
        value = row["metrics"].get(metric)
        return value is None, 0.0 if value is None else order(float(value))

    return sorted(rows, key=key)


def _better(metric: str, rows: Sequence[dict[str, Any]]) -> str:
    """Side on which a metric is better; of a user's own, where it says so."""
    from models.config.metric_registry import REGISTERED

    plain = metric.rpartition(".")[2]  # of an output: cvr.auc
    if plain in REGISTERED:
        return REGISTERED[plain].better
    found = [row["better"].get(metric) for row in rows]
    return next(filter(None, found), "")


def _off_one(value: float) -> float:
    return abs(value - 1)


def _table(rows: list[dict[str, Any]], sort: str, several: bool) -> list[str]:
    metrics = list(_METRICS)
    if sort and sort not in metrics:
        metrics.append(sort)
    head = ["run", "when (UTC)", "status", "model", "optimizer", *metrics]
    head += ["pushed", "differs from the run before"]
    lines = [["pipeline"] * several + head]
    for row in rows:
        values = [row["metrics"].get(name) for name in metrics]
        numbers = ["" if v is None else f"{v:.5f}" for v in values]
        changed = [f"{c['path']} {_text(c['after'])}" for c in row["changes"]]
        shown = ", ".join(changed[:_CHANGES])
        if len(changed) > _CHANGES:
            shown += f", {len(changed) - _CHANGES} more"
        lines.append(
            [row["pipeline"]] * several
            + [
                row["run"], row["when"], row["status"], row["model"] or "",
                row["optimizer"] or "", *numbers,
                Path(row["pushed_model"] or "").name, shown,
            ]
        )  # fmt: skip
    return _aligned(lines)


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            f"{c:<{w}}" for c, w in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else valid_json.dumps(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _diff(runs: list[Run], options: Options) -> int:
    first, second = (_named(runs, name) for name in options.diff or ())
    settings = run_store.changes(first.settings(), second.settings())
    values = [run.summary.get("metrics") or {} for run in (first, second)]
    metrics = {
        name: [found.get(name) for found in values]
        for name in dict.fromkeys([*values[0], *values[1]])
    }
    if options.as_json:
        ids = [first.id, second.id]
        found = {"runs": ids, "settings": settings, "metrics": metrics}
        print(valid_json.dumps(found))
        return 0
    lines = [["", first.id, second.id]]
    for one in settings:
        sides = (one["before"], one["after"])
        lines.append([one["path"], *(_text(side) for side in sides)])
    if not settings:
        lines.append(["settings", "the same", "the same"])
    for name, pair in metrics.items():
        lines.append([name, *("-" if v is None else f"{v:.5f}" for v in pair)])
    print("\n".join(_aligned(lines)))
    return 0


def _named(runs: list[Run], name: str) -> Run:
    for run in reversed(runs):
        if name in ("last", run.id) or Path(name) == run.folder:
            return run
    known = ", ".join(run.id for run in runs[-5:]) or "none"
    raise InputError(
        f"--diff: received {name!r}; accepted: a run's id, or `last`. Newest"
        f" runs: {known}"
    )


def _keep(home: Path, options: Options) -> int:
    from pipeline.runners.run_folder import only_one

    assert options.keep is not None
    with only_one(home):
        plan = run_store.plan(home, options.keep)
        if not options.dry_run:
            plan.carry_out()
    if options.as_json:
        print(valid_json.dumps(plan.to_json() | {"dry_run": options.dry_run}))
        return 0
    word = "would delete" if options.dry_run else "deleted"
    for run in plan.deleted:
        print(f"{word} run {run.id}, {run.status}")
    for path in [*plan.artifacts, *plan.checkpoints]:
        print(f"{word} {path}")
    for run, why in plan.kept_for:
        print(f"kept run {run.id}: {why}")
    count = len(plan.checkpoints)
    stopped = f", checkpoints of {count} stopped trainings" if count else ""
    print(
        f"{word} {len(plan.deleted)} runs and {len(plan.artifacts)} artifacts"
        f"{stopped}, {plan.bytes:,} bytes"
    )
    return 0
