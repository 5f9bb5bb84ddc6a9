"""Processes that have TFX imported: forks of one that has."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
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


def start(
    words: Sequence[str],
    folder: Path,
    out: Path,
    err: Path | None = None,
    environment: Mapping[str, str] | None = None,
    logs: bool = True,
) -> Any:
    """Starts `python -m WORDS`; `exitcode` of the process is the command's.

    Args:
        words: module and arguments.
        folder: the current one of the process.
        out: file of the standard output; or a named pipe that is there.
        err: of the standard error; None: the same.
        environment: of the process; None: this one's.
        logs: False leaves no handler of an import: the module sets its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    err = err or out
    for path in (out, err):
        if not path.is_fifo():
            path.write_text("")
    arguments = [list(words), folder, out, err, environment, logs]
    process = context.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(
    words: list[str],
    folder: Path,
    out: Path,
    err: Path,
    environment: Mapping[str, str] | None,
    logs: bool,
) -> None:
    gc.freeze()  # collections need not look at what is imported
    if not logs:
        logging.root.handlers.clear()
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))
