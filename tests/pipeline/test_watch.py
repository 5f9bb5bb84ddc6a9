"""Runs end when they are told to, and when nobody works for them any more."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forks

STOPPED = """
import signal, sys, time
from pipeline.runners.watch import watch

class Careless:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)  # what is raised here is lost

with watch() as watched:
    try:
        with watched.working():
            if sys.argv[1] == "careless":
                Careless()
            else:
                print("ready", flush=True)
            time.sleep(60)
    except SystemExit as error:
        print("stopped", error.code, flush=True)
    signal.raise_signal(signal.SIGTERM)  # the summary is being written
    print("ended")
"""


@pytest.mark.parametrize("where", ["careful", "careless"])
def test_sigterm_ends_the_work_and_leaves_time_for_a_summary(
    where: str,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)  # a lost terminal
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=50)
    assert out.split("\n") == ["stopped 143", "ended", ""]
    assert process.returncode == 0


DEAD = """
import sys
import apache_beam as beam
from apache_beam.runners.worker import sdk_worker
from models.errors import FailedError
from pipeline.runners import watch
from pipeline.beam import arguments, threads

def no_answer(self, request):
    raise OSError(28, "No space left on device")

def work(number):
    import time
    time.sleep(2)
    return number

watch._SECONDS, watch._PATIENCE = 0.5, 3
if sys.argv[1] == "dead":
    sdk_worker.SdkWorker.do_instruction = no_answer
    # As when the traceback cannot be written.
    sdk_worker.traceback.format_exc = None
try:
    with watch.watch() as watched, watched.working():
        options = arguments([]) + threads([]) * (sys.argv[2] == "threads")
        with beam.Pipeline(argv=options) as pipeline:
            _ = (
                pipeline
                | beam.Create([1, 2])
                | beam.Reshuffle()
                | beam.Map(work)
            )
    print("done")
except FailedError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("worker", "how", "told"),
    [
        ("dead", "threads", "A worker of Beam died without an answer"),
        ("alive", "threads", "done"),
        ("alive", "alone", "done"),
    ],
)
def test_a_worker_that_died_ends_the_run(
    tmp_path: Path, worker: str, how: str, told: str
) -> None:
    (tmp_path / "two_rows.py").write_text(DEAD)
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    process = forks.start(["two_rows", worker, how], tmp_path, out, err)
    process.join(120)
    assert out.read_text().startswith(told), err.read_text()[-3000:]
    assert process.exitcode == 0
