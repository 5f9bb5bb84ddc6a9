"""The study of Lion in TensorFlow on a GPU, on the small scale of a CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.gpu import product, product_parity, product_speed
from optimizers import dispatch
from optimizers.ops import build
from tests import forks

ROOT = Path(__file__).resolve().parents[2]
needs_library = pytest.mark.skipif(
    build.find()[0] is None, reason=f"no op library: {build.find()[1]}"
)


def test_parity_tells_a_wrong_step_from_a_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: Any = ("float32", {"frequency_power": 0.35}, "eager", "python")
    found = product_parity.parity(*given)
    assert found["right"] and min(found["same_bits"]) > 0.9
    apply, steps = dispatch.apply, []

    def forget_one_step(*arguments: Any) -> None:
        steps.append(1)
        if len(steps) != 2:
            apply(*arguments)

    monkeypatch.setattr(dispatch, "apply", forget_one_step)
    assert not product_parity.parity(*given)["right"]


@needs_library
def test_ids_out_of_range_compilations_and_updates_are_found() -> None:
    found = product_parity.out_of_range("eager", "xla")
    assert found["right"] and found["raised"]
    compiled = product_speed.compiling("eager", small=True)
    assert len(compiled["seconds"]) == 12 and compiled["traces"] <= 4
    took = product_speed.update("keras Adam", (100, 8), 30)
    assert {*took} == {"graph", "jit"}
    assert all(one["ms"] > 0 for one in took.values())


def test_a_part_that_fails_is_named_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "argv", ["product", "--cpu", f"--out={tmp_path}"])
    with pytest.raises(SystemExit) as end:
        product.main()
    assert end.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert all(f"{part} (exit code 1)" in last for part in product.PARTS)


@needs_library
@pytest.mark.slow
def test_every_part_of_the_study_runs_on_a_cpu(tmp_path: Path) -> None:
    words = ["benchmarks.studies.gpu.product", "--cpu", f"--out={tmp_path}"]
    shown, errors = tmp_path / "out.txt", tmp_path / "errors.txt"
    process = forks.start(words, ROOT, shown, errors)
    process.join(900)
    assert process.exitcode == 0, shown.read_text()[-3000:]
    for part in product.PARTS:
        found = json.loads((tmp_path / f"{part}.json").read_text())
        assert found and not [one for one in found.values() if "error" in one]
