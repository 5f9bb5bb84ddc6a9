"""The shipped configs on real click logs, and runs that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DATA = Path("../shared/data")
LIONCTR = [sys.executable, "-m", "pipeline.cli"]


def arguments(config: str, folder: Path) -> list[str]:
    """A `run` whose outputs stay in `folder`."""
    return (
        [*LIONCTR, "run", f"configs/{config}.yaml", "--json"]
        + ["--set", f"root={folder}/runs"]
        + ["--set", f"push.to={folder}/models"]
    )


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="needs the real click logs")
@pytest.mark.parametrize(
    ("config", "rows", "bounds"),
    [
        # rows of the file; then bounds that a constant does not reach
        ("criteo", 10_000, {"auc": (0.70, 1), "logloss": (0, 0.52)}),
        ("movielens", 100_000, {"auc": (0.65, 1), "logloss": (0, 0.66)}),
        # 6 clicks among the 2,000 rows of eval: only sanity can be asked
        ("open_bandit", 10_000, {"logloss": (0, 0.05)}),
    ],
)
def test_a_config_runs_to_its_end_on_real_logs(
    tmp_path: Path,
    config: str,
    rows: int,
    bounds: dict[str, tuple[float, float]],
) -> None:
    result = subprocess.run(
        arguments(config, tmp_path), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    assert summary["rows"]["read"] == summary["rows"]["kept"] == rows
    for metric, (low, high) in bounds.items():
        assert low < summary["metrics"][metric] < high
    assert summary["metrics"]["calibration"] == pytest.approx(1, abs=0.5)
    assert (Path(summary["pushed_model"]) / "saved_model.pb").exists()


@pytest.mark.slow
def test_a_run_killed_at_any_point_finishes_later_and_pushes_once(
    tmp_path: Path,
) -> None:
    subprocess.run(
        [*LIONCTR, "generate", "--rows", "5000", "--out", str(tmp_path)],
        check=True,
    )
    command = arguments("demo", tmp_path) + [
        "--set",
        f"data.impressions.path={tmp_path}/impressions.tsv",
        "--set",
        "evaluate.metrics={logloss: {max: 1}}",
    ]
    rng = random.Random(1)
    for _ in range(6):
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(12, 50))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    names = [p.name for p in (tmp_path / "models/demo").iterdir()]
    assert [Path(json.loads(result.stdout)["pushed_model"]).name] == [
        name for name in names if name.isdigit()
    ]
