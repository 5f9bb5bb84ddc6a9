"""Runs of `lionctr` by the dozen: TFX is imported once, each run is a fork."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import forks

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

    def start(self, *overrides: str) -> Any:
        """A process that runs; its `exitcode` is the command's."""
        words = [w for one in overrides for w in ("--set", one)]
        words = ["pipeline.cli", "run", "tiny.yaml", *words]
        return forks.start(words, self.folder, self.console)

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


def lionctr(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = forks.start(["pipeline.cli", *words], Path.cwd(), out, err)
        process.join(600)
        assert process.exitcode is not None, err.read_text("utf-8")
        return process.exitcode, out.read_text("utf-8"), err.read_text("utf-8")
