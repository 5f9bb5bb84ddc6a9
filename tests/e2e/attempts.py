"""Runs of `lionctr` by the dozen: TFX is imported once, each run is a fork."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Nothing that starts TensorFlow's threads, as pipeline.config does: a fork
# lacks them, and waits for them.
_IMPORTED = [
    "components.click_log_gen.executor",
    "components.evaluator.executor",
    "components.transform.executor",
    "keras_tuner",
    "models.trainer",
    "tfx.components",
    "tfx.orchestration.local.runner_utils",
    "tfx.orchestration.portable.launcher",
]
CONFIG = """
name: tiny
data:
  impressions: {path: logs/impressions.tsv, format: tsv, header: true}
  label: click
  time: timestamp
  split: {by: time, eval: 0.2}
features:
  numeric: [price]
  categorical: [device, country, {name: user_id, min_count: 2}]
model: {hidden: [8]}
train: {batch_size: 256, epochs: 2, checkpoint_steps: 5}
evaluate:
  metrics: {example_count: {min: 1}, logloss: {max_change: 1}}
serving_gate: off
push: {to: models}
"""


def prepare(folder: Path) -> None:
    """Leaves `tiny.yaml` and its logs in a folder."""
    from pipeline.commands.generate import generate

    generate(4000, folder / "logs", seed=1)
    (folder / "tiny.yaml").write_text(CONFIG)


class Attempts:
    """Starts `lionctr run tiny.yaml` in a folder.

    folder: of the config; its console goes to `console.txt` there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = folder / "console.txt"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED)

    def start(self, *overrides: str) -> Any:
        """A process that runs; its `exitcode` is the command's."""
        words = [w for one in overrides for w in ("--set", one)]
        arguments = ["run", "tiny.yaml", *words]
        process = self._context.Process(
            target=_run, args=[arguments, self.folder, self.console]
        )
        self.console.write_text("")
        process.start()
        return process

    def run(self, *overrides: str) -> tuple[int, str]:
        """The exit code and the console of a run to its end."""
        process = self.start(*overrides)
        process.join(600)
        assert process.exitcode is not None, self.console.read_text()
        return process.exitcode, self.console.read_text()

    def until(self, process: Any, seen: Callable[[], bool]) -> bool:
        """Waits for what a run does; False if it ends before."""
        while process.is_alive():
            if seen():
                return True
            process.join(0.002)
        return False


def _run(arguments: Sequence[str], folder: Path, console: Path) -> None:
    os.chdir(folder)
    target = os.open(console, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    from pipeline import cli

    os._exit(cli.main(list(arguments)))
