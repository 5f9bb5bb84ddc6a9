"""Table of a run for a person: its steps and its results."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components import data_checks
from models.config.search_space import decoded
from optimizers.config.messages import counted
from pipeline import counts, metrics_table
from pipeline.runners.outputs import Outputs

_NAME_WIDTH = 17


def step(
    name: str,
    state: str,
    seconds: float,
    outputs: Outputs,
    splits: Sequence[str],
) -> Iterator[str]:
    """Lines of a component that has ended.

    Args:
        name: of the component.
        state: "done", "cached" or "FAILED".
        seconds: how long it took.
        outputs: what the run has left.
        splits: names of the splits.
    """
    failed = state == "FAILED"
    about = "" if failed else _about(name, outputs)
    yield f"  {name:<{_NAME_WIDTH}} {state:<7} {seconds:7.1f} s{about}"
    if name == "ClickLogGen" and not failed:
        for line in counts.details(outputs.counts(), splits):
            yield f"    {line}"
    if name == "Trainer" and state == "cached":  # else it said so itself
        for line in outputs.training().get("warnings", []):
            yield f"    warning: {line}"
    if name == "ExampleValidator" and not failed:
        for line in data_checks.lines(outputs.data_checks()):
            yield f"    {line}"


def _about(name: str, outputs: Outputs) -> str:
    if name == "ClickLogGen":
        return f"  {counts.rows(outputs.counts())}"
    if name == "Tuner":
        best = decoded(outputs.best())
        return "  " + ", ".join(f"{k} {v}" for k, v in best.items())
    if name == "Trainer":
        training = outputs.training()
        return (
            f"  {counted(training['examples'], 'row')} in"
            f" {counted(training['steps'], 'step')},"
            f" {training['train_examples_per_second']:,.0f} a second"
        )
    if name == "ServingGate":
        return f"  {_served(outputs.serving_gate())}"
    return ""


def _served(gate: dict[str, Any]) -> str:
    """Measurements of the ServingGate, in a line."""
    times = ", ".join(
        f"{way} {latency['p50']:.2g} ms, p99 {latency['p99']:.2g}"
        for way, latency in gate["latency"].items()
    )
    return f"{gate['rows']} rows as trained; {times}"


def metrics(summary: dict[str, Any]) -> Iterator[str]:
    """The metrics, also of a model that was refused."""
    if not summary["evaluation"]:
        return
    yield ""
    yield from metrics_table.lines(summary["evaluation"])
    yield from metrics_table.fit_lines(
        summary["fit"], several=bool(summary.get("labels"))
    )
    undefined = summary["undefined"]
    if "" in undefined:
        yield f"  not defined       {undefined['']}"
    slices = len(undefined) - ("" in undefined)
    if slices:
        first = next(why for name, why in undefined.items() if name)
        yield (
            f"  not defined       metrics of {counted(slices, 'slice')}"
            f"{', such as' * (slices > 1)}: {first}"
        )


def table(summary: dict[str, Any], folder: Path) -> Iterator[str]:
    """All of a run that is done.

    Args:
        summary: see `summary`.
        folder: of the run.
    """
    yield from metrics(summary)
    yield ""
    rejected = summary["rows"]["rejected"]
    if rejected:
        yield (
            f"  rejected rows     {rejected:,}: lionctr rejected"
            f" {shlex.quote(str(folder))}"
        )
    clicks = summary["clicks"]
    if clicks:
        yield (
            f"  held back rows    {summary['rows']['held_back']:,}: younger"
            " than data.clicks.window"
        )
        others = [
            f"{count:,} {name.replace('_', ' ')}"
            for name, count in clicks.items()
            if name not in ("read", "joined") and count
        ]
        yield (
            f"  clicks            {clicks['joined']:,} of"
            f" {clicks['read']:,} joined; {', '.join(others) or 'all'}"
        )
    for name, found in summary.get("events", {}).items():
        yield (
            f"  events of {name:<8}{found['credited']:,} of {found['read']:,}"
            f" credited; {found['orphans']:,} orphans,"
            f" {found['outside']:,} outside the window,"
            f" {found['rejected']:,} rejected"
        )
    pushed = summary["pushed_model"]
    logs = shlex.quote(summary["tensorboard"])
    yield f"  pushed model      {pushed}"
    yield f"  summary           {folder / 'summary.json'}"
    yield f"  TensorBoard       tensorboard --logdir {logs}"
    models = shlex.quote(str(Path(pushed).parent))
    yield f"  serve it          lionctr serve {models}"
