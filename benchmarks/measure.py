"""Measure work in fresh processes, executors and single functions."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

IN_PROCESS = ("--runner=FnApiRunner",)
INLINE = "LIONCTR_BENCHMARK_INLINE"  # for smoke tests: one process for all


class Seconds(NamedTuple):
    """Seconds of the clock and of the CPU; other programs slow `cpu` less."""

    wall: float
    cpu: float


class Stopwatch:
    """Seconds since the construction."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> Seconds:
        """Seconds so far."""
        return Seconds(
            time.perf_counter() - self._wall, time.process_time() - self._cpu
        )


@contextmanager
def timed(owner: Any, *names: str) -> Iterator[dict[str, Seconds]]:
    """Times functions of a module, or methods of a class, while it lasts.

    Yields:
        Name -> seconds of its last call.
    """
    took: dict[str, Seconds] = {}
    works = {name: getattr(owner, name) for name in names}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            watch = Stopwatch()
            result = works[name](*arguments)
            took[name] = watch.seconds()
            return result

        return call

    for name in names:
        setattr(owner, name, wrapped(name))
    try:
        yield took
    finally:
        for name, work in works.items():
            setattr(owner, name, work)


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work` in a new Python process; its output goes to a log.

    `work` is a function of a module, its arguments and result are pickled.
    The calling process must stay small: a child's peak memory begins at its
    parent's.
    """
    if os.environ.get(INLINE):
        return work(*arguments)
    # A program that is told to end takes its child and folder with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    log = Path(tempfile.gettempdir()) / f"lionctr-benchmark-{os.getpid()}.log"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(
        target=_quietly, args=(sender, log, work, arguments), daemon=True
    )
    child.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed; log: {log}") from None
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
        Seconds of the executor's `Do`, and output name -> artifact.
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
    watch = Stopwatch()
    executor.Do(
        given,
        {name: [artifact] for name, artifact in outputs.items()},
        dict(component.exec_properties),
    )
    return watch.seconds(), outputs


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="lionctr-benchmark-") as folder:
        yield Path(folder)
