"""`lionctr submit`, against no Kubeflow and against a stand-in for its API."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import PipelineConfig
from tests.pipeline.small import IMAGE, make_config


def submit(config: PipelineConfig, host: str, tmp_path: Path) -> int:
    """`lionctr submit --wait`."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()), "utf-8")
    return cli.main(
        ["submit", str(path), "--host", host, "--image", IMAGE, "--wait"]
    )


def test_submitting_without_kfp_says_what_to_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    assert submit(make_config(tmp_path), "http://localhost:1", tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'lion-ctr[kubeflow]'" in error


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:1", "nowhere.invalid", "http://x:port"]
)
def test_an_unreachable_host_is_one_line(
    tmp_path: Path, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert submit(make_config(tmp_path), host, tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot reach Kubeflow Pipelines at {host}" in error


class _Api(BaseHTTPRequestHandler):
    """As much of KFP's API as a submission needs."""

    state = "SUCCEEDED"
    refuses = False
    runs: list[dict[str, Any]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/experiments"):
            self._answer({"experiments": []})
        elif path.endswith("/runs/r1"):
            self._answer({"run_id": "r1", "state": self.state})
        else:
            self._answer({"multi_user": False})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/experiments"):
            self._answer({"experiment_id": "e1", "display_name": "lion-ctr"})
        elif self.refuses:
            self._answer({"error": "bad pipeline"}, 400)
        else:
            self.runs.append(json.loads(body))
            self._answer({"run_id": "r1"})

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running `_Api`."""
    monkeypatch.setattr(_Api, "runs", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_submitting_sends_the_ir_and_waits_for_the_end(
    tmp_path: Path,
    api: str,
    state: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Api, "state", state)
    assert submit(make_config(tmp_path), api, tmp_path) == code
    printed = capfd.readouterr().out
    assert printed == f"{api}/#/runs/details/r1\n{state}\n"
    (run,) = _Api.runs
    assert run["experiment_id"] == "e1"
    assert run["pipeline_spec"]["pipelineInfo"]["name"] == "small-ctr"
    assert run["runtime_config"]["pipeline_root"] == (
        "minio://mlpipeline/v2/artifacts/Small_ctr"
    )


def test_a_refused_submission_is_one_line(
    tmp_path: Path,
    api: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Api, "refuses", True)
    config = make_config(
        tmp_path,
        push={"to": "gs://b/models"},
        runner={"volumes": {"logs": str(tmp_path)}},
    )
    assert submit(config, api, tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "400 Bad Request" in error
