"""Lines never decide over a run, wherever they go."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import console

RUN = """
import logging, os, sys
from pathlib import Path
from pipeline.console import Console, quiet

if len(sys.argv) > 3:
    os.set_blocking(int(sys.argv[3]), False)
with quiet(Path(sys.argv[1])) as (out, err):
    console = Console(err)
    with console.running("ClickLogGen"):
        handler = logging.StreamHandler()
        handler.emit(logging.makeLogRecord({"msg": "x" * 100_000}))
        for stream in (sys.stdout, sys.stderr):
            print("logged" * 1000, file=stream, flush=True)
            stream.buffer.write(b"bytes")
        os.system("echo native >&2")
        console.line("a line")
    out.write("{}\\n")
Path(sys.argv[2]).write_text("done")
"""


def run(
    tmp_path: Path, log: str = "", shell: str = "", *more: str
) -> tuple[int, str]:
    """Exit code and what was printed; the code must come to its end."""
    done = tmp_path / "done"
    log = log or str(tmp_path / "log.txt")
    result = subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh"]
        + [sys.executable, "-c", RUN, log, str(done), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.read_text() == "done", result.stderr
    return result.returncode, result.stdout + result.stderr


def test_what_is_printed_goes_to_the_log(tmp_path: Path) -> None:
    assert run(tmp_path) == (0, "{}\na line\n")
    log = (tmp_path / "log.txt").read_text()
    assert log.count("logged") == 2000
    assert "native" in log


@pytest.mark.parametrize("log", ["/dev/full", "/no/such/folder/log.txt"])
def test_a_log_that_takes_nothing_is_done_without(
    tmp_path: Path, log: str
) -> None:
    assert run(tmp_path, log) == (0, "{}\na line\n")


@pytest.mark.parametrize(
    "shell",
    [
        ">/dev/full",
        "2>/dev/full",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "| true",
        "2>&1 | head -0",
    ],
)
def test_streams_that_are_broken_or_closed_do_not_end_a_run(
    tmp_path: Path, shell: str
) -> None:
    code, _ = run(tmp_path, "", shell)
    assert code == 0
    assert "logged" in (tmp_path / "log.txt").read_text()


def test_a_terminal_that_is_gone_does_not_end_a_run(tmp_path: Path) -> None:
    parent, child = os.openpty()
    done = tmp_path / "done"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "log"), str(done)],
        stdout=child,
        stderr=child,
    )
    os.close(child)
    os.close(parent)  # what writes to it now gets EIO
    assert process.wait(60) == 0
    assert done.exists()


FILES = """
import os, sys
from pipeline.console import standard_streams
standard_streams()
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2
    print("a line")
    print("a line", file=sys.stderr)
    file.write("kept")
"""


def test_a_file_does_not_take_the_place_of_a_closed_stream(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh"]
        + [sys.executable, "-c", FILES, str(path)],
        check=True,
    )
    assert path.read_text() == "kept"


def test_what_stays_is_said_once() -> None:
    """A comparison trains fifty times: one line is enough for all."""
    out = io.StringIO()
    with console.notes(console.Console(out)):
        logger = logging.getLogger("lionctr.training")
        for text in ("jit: off", "penalty 30", "jit: off"):
            logger.info(text, extra={"keep": True})
    assert out.getvalue() == "    jit: off\n    penalty 30\n"
