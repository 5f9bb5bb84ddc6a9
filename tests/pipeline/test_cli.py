"""The `lionctr` command: fast help, exit codes, messages without tracebacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models import errors
from pipeline.cli import main
from pipeline.commands.generate import GenerateError
from pipeline.config import ConfigError
from serving import ServingError


def lionctr(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'numpy', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_checking_a_config_imports_no_tensorflow() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.config import load\n"
        "load(Path('configs/demo.yaml'))\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "command",
    [
        "generate",
        "run",
        "check",
        "compare",
        "compile",
        "submit",
        "schedule",
        "serve",
        "doctor",
    ],
)
def test_every_command_has_help(command: str) -> None:
    result = lionctr(command, "--help")
    assert result.returncode == 0
    assert f"lionctr {command}" in result.stdout or command in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "configs/demo.yaml", "--set", "train.epoch=1"), "'epochs'"),
        (
            ("compare", "configs/demo.yaml", "--optimizers", "lion,lino"),
            "--optimizers: received 'lino'; accepted: some of adafactor",
        ),
        (
            ("compare", "configs/demo.yaml", "--models", "dlrm,dcn"),
            "--models: received 'dcn'; accepted: all, or some of wide_deep",
        ),
        (
            ("compare", "configs/demo.yaml", "--seeds", "0"),
            "--seeds: received 0",
        ),
        (
            ("run", "configs/demo.yaml", "--set", "tune.trials=3"),
            "tune.parameters",
        ),
        (("generate", "--rows", "0", "--out", "x"), "0"),
        (("serve", "no/such/folder"), "no/such/folder"),
    ],
)
def test_wrong_input_exits_2_with_a_message_and_no_traceback(
    words: tuple[str, ...], message: str
) -> None:
    result = lionctr(*words)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_path_that_matches_nothing_fails_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    result = lionctr(
        "run",
        "configs/demo.yaml",
        "--set",
        f"data.impressions.path={tmp_path}/none*.tsv",
        "--set",
        f"root={tmp_path}/runs",
    )
    assert result.returncode == 2
    assert "no file matches" in result.stderr
    assert time.monotonic() - began < 30
    (summary,) = tmp_path.rglob("summary.json")
    assert '"input_error"' in summary.read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    result = lionctr(
        "run", "configs/demo.yaml", "--set", f"root={tmp_path}/runs"
    )
    assert result.returncode == 2
    assert str(tmp_path / "runs") in result.stderr
    assert "Traceback" not in result.stderr


def test_results_that_cannot_be_written_name_their_option(
    tmp_path: Path,
) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    result = lionctr(
        "compare", "configs/demo.yaml", "--out", str(tmp_path / "out")
    )
    assert result.returncode == 2
    assert f"lionctr: --out: cannot write to {tmp_path}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.ci
def test_doctor_finds_this_environment_sound() -> None:
    result = lionctr("doctor")
    assert result.returncode == 0, result.stdout
    assert "I0000" not in result.stderr  # of the start of TensorFlow
    for word in (
        "tfx 1.21",
        "glibc",
        "Lion kernel",
        "reader of examples",
        "Keras",
        "free",
    ):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x"), 2),
        (ConfigError("x"), 2),
        (GenerateError("x"), 2),
        (ServingError("x"), 2),
        (errors.RefusedError("x"), 1),
        (errors.UserError("x"), 1),
        (OSError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_says_how_the_command_ends(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> int:
        raise error

    monkeypatch.setattr("pipeline.commands.doctor.main", fails)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == "lionctr: x\n"


def test_home_in_arguments_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--rows", "10", "--out=~/logs"]) == 0
    assert (tmp_path / "logs" / "impressions.tsv").exists()
    assert not (tmp_path / "~").exists()
    with pytest.raises(SystemExit) as ended:
        main(["rejected", "last", "--root=~nobody-here/x"])
    assert ended.value.code == 2


def answer(words: tuple[str, ...], out: int, err: int) -> tuple[int, str]:
    """Exit code and what standard error says, with `out` to write to."""
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        stdout=out,
        stderr=err,
        text=True,
        check=False,
        timeout=120,
    )
    return result.returncode, result.stderr or ""


@contextmanager
def gone() -> Iterator[int]:
    """A pipe whose reader has gone, as of `| head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def full() -> Iterator[int]:
    """A file on a full disk."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Command -> arguments with which it is done and prints something."""
    home = tmp_path_factory.mktemp("answers")
    (home / "ads.csv").write_text("click,site\n1,a\n0,b\n")
    (home / "ads.yaml").write_text(
        f"name: ads\nroot: {home}/runs\n"
        f"data: {{impressions: {{path: {home}/ads.csv, format: csv,"
        " header: true}, label: click}\nfeatures: {categorical: [site]}\n"
        f"push: {{to: {home}/models}}\n"
    )
    run = home / "runs/ads/runs/20260101-000000"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: ads\n")
    (run / "summary.json").write_text(
        f'{{"status": "done", "rejected": "{home}/rejected", "name": "ads"}}'
    )
    (home / "rejected").mkdir()
    (home / "rejected/counts.json").write_text('{"reasons": {"why": 3}}')
    (home / "models/ads/1").mkdir(parents=True)
    (home / "models/ads/1/saved_model.pb").write_bytes(b"")
    return {
        "generate": f"--rows 20 --out {home}/logs",
        "check": f"{home}/ads.yaml",
        "config": "--schema",
        "rejected": f"{run}",
        "report": f"{run}",
        "runs": f"ads --root {home}/runs",
        "models": f"ads --to {home}/models",
        # Commands that take longer, or need a cluster, print their own help.
        **dict.fromkeys(("run", "compare", "compile", "submit"), "--help"),
        **dict.fromkeys(("schedule", "serve", "doctor"), "--help"),
        "predict": "--help",
        "--help": "",
    }


def test_the_answers_are_those_of_all_commands(answers: dict[str, str]) -> None:
    text = lionctr("--help").stdout
    commands = set(re.findall(r"^    (\w+)  ", text, re.MULTILINE))
    assert commands == answers.keys() - {"--help"}


@pytest.mark.parametrize(
    "command",
    [
        "generate", "config", "rejected", "runs", "models", "run", "--help",
        # They print their help, as `run` does.
        *(
            pytest.param(name, marks=pytest.mark.ci)
            for name in (
                "check", "report", "doctor", "compare", "compile", "submit",
                "schedule", "serve", "predict",
            )
        ),
    ],
)  # fmt: skip
def test_output_that_cannot_be_written_ends_a_command_as_unix_tools_end(
    answers: dict[str, str], command: str
) -> None:
    words = (command, *answers[command].split())
    with gone() as pipe, full() as disk:
        assert answer(words, pipe, subprocess.PIPE) == (141, "")
        assert answer(words, disk, subprocess.PIPE) == (
            1,
            (
                "lionctr: cannot write to standard output: No space left on"
                " device\n"
            ),
        )
        assert answer(words, subprocess.DEVNULL, disk)[0] == 0


def test_a_message_that_cannot_be_written_keeps_its_exit_code() -> None:
    for words in (("run",), ("run", "nowhere.yaml")):
        with full() as disk, gone() as pipe:
            assert answer(words, subprocess.DEVNULL, disk)[0] == 2
            assert answer(words, disk, pipe)[0] == 2


def test_what_an_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "check", f"{tmp_path}/ы.yaml"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 2
    assert b"/\\u044b.yaml: cannot be read" in result.stderr
