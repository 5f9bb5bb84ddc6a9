"""Every benchmark of `make bench` runs at a tiny size and leaves figures."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.perf import __main__ as runner
from benchmarks.perf import table
from tests import forks

ROOT = Path(__file__).resolve().parents[2]
SLOW = pytest.mark.slow  # they train a model first


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ("ingest", "join", "histories", "statistics"), marks=pytest.mark.ci
        ),
        pytest.param(("step", "memory", "lion_kernels"), marks=pytest.mark.ci),
        pytest.param(("transform", "admission", "evaluate"), marks=SLOW),
        pytest.param(("serve",), marks=SLOW),
        pytest.param(("predict",), marks=SLOW),
        pytest.param(("whole_run",), marks=SLOW),
        pytest.param(("versions",), marks=SLOW),
    ],
    ids="-".join,
)
def test_a_smoke_run_leaves_figures(names: tuple[str, ...], tmp_path) -> None:
    out = tmp_path / "bench.json"
    words = ["benchmarks.perf", *names, "--smoke", "--json", str(out)]
    shown, errors = tmp_path / "out.txt", tmp_path / "errors.txt"
    process = forks.start(words, ROOT, shown, errors)
    process.join(600)
    assert process.exitcode == 0, errors.read_text()[-3000:]
    document = json.loads(out.read_text())
    assert document["commit"] and document["machine"] and document["date"]
    assert set(document["benchmarks"]) == set(names)
    for one in document["benchmarks"].values():
        assert one["figures"]
        for figure in one["figures"]:
            values = {k: v for k, v in figure.items() if k in table._SHOWN}
            assert values and all(map(math.isfinite, values.values()))
            assert figure["name"] in shown.read_text()


def test_every_benchmark_is_known_to_the_runner_and_has_a_tiny_size() -> None:
    for name in runner.NAMES:
        module = importlib.import_module(f"benchmarks.perf.{name}")
        options = inspect.signature(module.run).parameters
        assert set(module.SMOKE) <= set(options)
    files = (ROOT / "benchmarks/perf").glob("*.py")
    runs = {f.stem for f in files if "\ndef run(" in f.read_text("utf-8")}
    assert runs == set(runner.NAMES)


def test_a_missed_goal_fails_the_runner_and_a_smoke_run_ignores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(rows: int = 1) -> table.Table:
        found = table.Table("A benchmark")
        found.goal("speed", rows_per_s=rows, at_least=10)
        found.goal("memory", mib=rows, at_most=100)
        return found

    module = importlib.import_module("benchmarks.perf.join")
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "SMOKE", {})
    for arguments, code in (
        ([], 1),
        (["--smoke"], 0),
        (["--set", "join.rows=20"], 0),
        (["--set", "join.rows=200"], 1),
        (["--set", "join.size=200"], "join.size: accepted: rows"),
        (["--set", "rows=200"], 2),
    ):
        monkeypatch.setenv(runner.INLINE, "")
        monkeypatch.setattr(sys, "argv", ["perf", "join", *arguments])
        with pytest.raises(SystemExit) as ended:
            runner.main()
        assert ended.value.code == code


def test_a_failing_benchmark_is_a_line_of_the_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run() -> table.Table:
        raise OSError("no room")

    module = importlib.import_module("benchmarks.perf.join")
    monkeypatch.setattr(module, "run", run)
    out = tmp_path / "bench.json"
    monkeypatch.setattr(sys, "argv", ["perf", "join", "--json", str(out)])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 1
    found = json.loads(out.read_text())["benchmarks"]["join"]
    assert found["error"] == "OSError: no room"
