"""Runs of this machine whose logs, cache and models are on an S3 server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.object_store import StoreFiles
from tests.e2e.attempts import prepare
from tests.pipeline import moto_server

BUCKET = "lionctr-e2e"
PLACES = {
    "data.impressions.path": f"s3://{BUCKET}/logs/impressions.tsv",
    "transform.cache": f"s3://{BUCKET}/cache",
    "push.to": f"s3://{BUCKET}/serving",
    "train.warm_start": "latest_blessed",
    "features.categorical.user_id.admission": "7",
}


def lionctr(*words: str) -> str:
    """Standard output of a command that ends with 0."""
    command = [sys.executable, "-m", "pipeline.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(url: str, row: dict[str, Any]) -> float:
    """The click-through rate that a server gives a row."""
    body = json.dumps({"instances": [row]}).encode()
    with urllib.request.urlopen(f"{url}:predict", body, timeout=60) as answer:
        return float(json.load(answer)["predictions"][0])


@pytest.mark.slow
def test_a_model_is_pushed_warmed_up_scored_and_served_from_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    log = tmp_path / "logs/impressions.tsv"
    settings = [w for k, v in PLACES.items() for w in ("--set", f"{k}={v}")]
    with moto_server.running(BUCKET) as url:
        for name, value in moto_server.variables(url).items():
            monkeypatch.setenv(name, value)
        with StoreFiles().open(PLACES["data.impressions.path"], "wb") as file:
            file.write(log.read_bytes())
        run = ["run", "tiny.yaml", "--json", *settings]
        first = json.loads(lionctr(*run, "--set", "root=one"))
        assert first["pushed_model"].startswith(PLACES["push.to"])
        cached = StoreFiles().below(PLACES["transform.cache"])
        assert cached
        model = f"{PLACES['push.to']}/tiny"
        columns = "price,device,country,user_id"
        out = ["--out", "scores", "--columns", columns]
        lionctr("predict", model, str(log), *out)
        (part,) = (tmp_path / "scores").glob("*.parquet")
        scores = pq.read_table(part).slice(0, 1).to_pylist()[0]
        expected = scores.pop("ctr")
        row = {**scores, "price": float(scores["price"] or "nan")}
        ports = ["--port", "0", "--grpc-port", "0"]
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "serve", model, *ports],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            (address,) = re.findall(r"at (http\S+),", line)
            assert ask(address, row) == pytest.approx(expected, abs=1e-7)
        finally:
            server.terminate()
            server.wait(60)
        # Another machine: of the first one it has what is on the store.
        seed = ["--set", "root=two", "--set", "train.seed=7"]
        second = json.loads(lionctr(*run, *seed))
        assert second["warm_start"]["features"]
        # The counts come from the store, and the same rows count once.
        one, two = (run["admission"]["user_id"] for run in (first, second))
        assert one["new"] == one["admitted"] > 0
        assert two == {**one, "new": 0}
        assert second["pushed_model"] > first["pushed_model"]
        assert StoreFiles().below(PLACES["transform.cache"]).keys() == (
            cached.keys()
        )
        listed = json.loads(lionctr("models", model, "--json"))
        assert second["pushed_model"] == f"{model}/{listed['served']}"
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".yaml", ".txt"):
            assert secret not in path.read_text("utf-8"), path
