"""Lion on parameter servers, in miniature, equals Lion in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_lion_runs_on_the_servers_and_gives_the_weights_of_one_process(
    tmp_path: Path,
) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.studies.parameter_servers"]
    command += ["--rows", "20000", "--steps", "60", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=900)
    found = json.loads(out.read_text())
    servers = {f"/job:ps/replica:0/task:{i}/device:CPU:0" for i in range(2)}
    for shards in found["shards"].values():
        assert set(shards) == servers
    # Two tables on each of two servers.
    assert len(found["lion_ops"]["ResourceSparseApplyLion"]) == 4
    assert set(found["lion_ops"]["ResourceSparseApplyLion"]) == servers
    assert max(found["difference_to_one_process"].values()) < 1e-5
    assert found["moved"] > 0.05  # weights, by the steps compared
    # Rows and gradients of a batch travel, no table.
    assert found["bytes_per_step"] < found["table_bytes"]
    assert found["bytes_per_step"] < 2 * found["bytes_per_step_of_rows"]
    assert found["auc"] > 0.75 and found["logloss"] < 0.6
