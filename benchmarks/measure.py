"""Measurements in fresh processes, and a table of them beside their goals."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

IN_PROCESS = ("--runner=FnApiRunner",)


class Seconds(NamedTuple):
    """What a piece of work took; other programs slow `cpu` down less."""

    wall: float
    cpu: float


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `work` in a new Python process; its output goes to a log.

    `work` is a function of a module, its arguments and result are pickled.
    The calling process must stay small: a child's peak memory begins at its
    parent's.
    """
    # A program that is told to end takes its child and folder with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    log = Path(tempfile.gettempdir()) / f"lionctr-benchmark-{os.getpid()}.log"
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(
        target=_quietly, args=(sender, log, work, arguments), daemon=True
    )
    child.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        sys.exit(f"{work.__name__} failed; log: {log}")
    finally:
        child.terminate()
        child.join()
    log.unlink()
    return result


def _quietly(
    sender: Connection,
    log: Path,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sender.send(work(*arguments))


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def execute(
    component: Any,
    inputs: Mapping[str, Any],
    folder: Path,
    beam: tuple[str, ...] = (),
) -> tuple[Seconds, dict[str, Any]]:
    """Runs a TFX component's executor in this process.

    Args:
        component: as a pipeline is given it.
        inputs: input name -> artifact.
        folder: where its outputs go.
        beam: Beam's options; by default those that its pipeline gave it.

    Returns:
        What the executor's `Do` took, and output name -> artifact.
    """
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

    cls = component.executor_spec.executor_class
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    settings: dict[str, Any] = {"tmp_dir": str(temporary), "unique_id": "1"}
    if issubclass(cls, BaseBeamExecutor):
        own = component.executor_spec.beam_pipeline_args
        settings["beam_pipeline_args"] = list(beam or own or IN_PROCESS)
    executor = cls(cls.Context(**settings))
    outputs = {}
    for name, channel in component.outputs.items():
        artifact = channel.type()
        artifact.uri = str(folder / name)
        (folder / name).mkdir()
        outputs[name] = artifact
    given = {name: [artifact] for name, artifact in inputs.items()}
    wall, cpu = time.perf_counter(), time.process_time()
    executor.Do(
        given,
        {name: [artifact] for name, artifact in outputs.items()},
        dict(component.exec_properties),
    )
    seconds = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
    return seconds, outputs


class Table:
    """Lines of name, value and, where there is one, goal and verdict."""

    def __init__(self, title: str) -> None:
        print(f"{title}\n{os.cpu_count()} cores, {_load()} at the start\n")
        self._missed: list[str] = []

    def line(self, name: str, value: str) -> None:
        """Prints a figure without a goal."""
        print(f"  {name:<42} {value:>24}", flush=True)

    def goal(self, name: str, value: str, goal: str, met: bool) -> None:
        """Prints a figure, its goal and whether it is met."""
        verdict = "met" if met else "MISSED"
        print(f"  {name:<42} {value:>24}   goal {goal}: {verdict}", flush=True)
        if not met:
            self._missed.append(name)

    def exit(self) -> None:
        """Ends the program: 0 if every goal is met, else 1."""
        print(f"\n{_load()} at the end")
        sys.exit(1 if self._missed else 0)


def _load() -> str:
    one, five, _ = os.getloadavg()
    return f"load average {one:.1f} over 1 minute, {five:.1f} over 5"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="lionctr-benchmark-") as folder:
        yield Path(folder)
