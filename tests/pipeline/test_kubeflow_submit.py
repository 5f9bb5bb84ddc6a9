"""`lionctr submit`, against no Kubeflow and against a stand-in for its API."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import PipelineConfig
from pipeline.runners.kubeflow import compiler
from pipeline.runners.kubeflow import submit as kubeflow_submit
from tests.pipeline.kubeflow_server import Kubeflow, status
from tests.pipeline.small import IMAGE, make_config


def submit(
    config: PipelineConfig, host: str, tmp_path: Path, *more: str
) -> int:
    """`lionctr submit`, with --wait unless `more` is given."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()), "utf-8")
    given = more or ("--wait",)
    return cli.main(
        ["submit", str(path), "--host", host, "--image", IMAGE, *given]
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler: it takes seconds, and other tests look at its work."""
    spec = {"pipelineInfo": {"name": "small-ctr"}}
    monkeypatch.setattr(compiler, "compiled", lambda *_: [spec])
    monkeypatch.setattr(kubeflow_submit, "_POLL", 0.01)
    monkeypatch.delenv("KFP_TOKEN", raising=False)


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


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_submitting_sends_the_ir_and_waits_for_the_end(
    tmp_path: Path, state: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow(states=[state]) as api:
        assert submit(make_config(tmp_path), api.host, tmp_path) == code
    printed = capfd.readouterr().out
    assert printed == f"{api.host}/#/runs/details/r1\n{state}\n"
    (run,) = api.made["runs"]
    assert run["experiment_id"] == "e1"
    assert run["pipeline_spec"]["pipelineInfo"]["name"] == "small-ctr"
    assert run["runtime_config"]["pipeline_root"] == (
        "minio://mlpipeline/v2/artifacts/Small_ctr"
    )


def test_volumes_are_sent_beside_the_spec(tmp_path: Path) -> None:
    config = make_config(tmp_path, runner={"volumes": {"logs": str(tmp_path)}})
    with Kubeflow() as api:
        assert submit(config, api.host, tmp_path) == 0
    sent = api.made["runs"][0]["pipeline_spec"]
    assert sent["pipeline_spec"]["pipelineInfo"]["name"] == "small-ctr"
    assert "kubernetes" in sent["platform_spec"]["platforms"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        ("page", "a web page 'Log in to Your Account' instead of JSON"),
        ("redirect", "302 to '/dex/auth'"),
        ("unauthorized", "401 Unauthorized: Jwt verification fails"),
    ],
)
@pytest.mark.parametrize("given", [(), ("--token", "old")])
def test_a_login_in_the_way_is_no_success(
    tmp_path: Path,
    guard: str,
    given: tuple[str, ...],
    expected: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Kubeflow("secret", guard) as api:
        code = submit(
            make_config(tmp_path), api.host, tmp_path, "--wait", *given
        )
    assert code == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert expected in printed.err and "KFP_TOKEN" in printed.err
    assert "old" not in printed.err
    assert api.made == {}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "how", ["--token", "--token-file", "KFP_TOKEN", "cookie", "cookie file"]
)
def test_each_way_to_authenticate_lets_us_in(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("secret\n", "utf-8")
    cookie = "oauth2_proxy_kubeflow=secret"
    (tmp_path / "cookies").write_text(f"{cookie}\n", "utf-8")
    given = {
        "--token": ("--token", "secret"),
        "--token-file": ("--token-file", str(tmp_path / "token")),
        "KFP_TOKEN": ("--wait",),
        "cookie": ("--cookies", cookie),
        "cookie file": ("--cookies", str(tmp_path / "cookies")),
    }[how]
    if how == "KFP_TOKEN":
        monkeypatch.setenv("KFP_TOKEN", "secret")
    with Kubeflow("secret") as api:
        assert submit(make_config(tmp_path), api.host, tmp_path, *given) == 0
    assert len(api.made["runs"]) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_the_servers_certificate_must_be_one_that_is_known(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *(
                "-subj",
                "/CN=kubeflow",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ),
        ],
        check=True,
        capture_output=True,
    )
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text(), "utf-8")
    config = make_config(tmp_path)
    with Kubeflow(certificate=both) as api:
        assert submit(config, api.host, tmp_path) == 1
        error = capfd.readouterr().err
        given = ("--ca-file", str(certificate))
        assert submit(config, api.host, tmp_path, *given) == 0
    assert "certificate verify failed" in error and "--ca-file" in error
    assert len(api.made["runs"]) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--token-file", "none"), "--token-file: cannot read 'none': No such"),
        (("--cookies", "none"), "--cookies: cannot read 'none': No such"),
        (("--ca-file", "none.pem"), "--ca-file: no file 'none.pem'"),
        (("--timeout", "5m"), "--timeout: accepted with --wait only"),
        (("--wait", "--timeout", "soon"), "--timeout: received 'soon'"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_sent(
    tmp_path: Path,
    given: tuple[str, ...],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Kubeflow() as api:
        assert submit(make_config(tmp_path), api.host, tmp_path, *given) == 2
    assert message in capfd.readouterr().err
    assert api.requests == []


@pytest.mark.usefixtures("quick")
def test_the_namespace_and_the_service_account_are_sent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path)
    with Kubeflow(multi_user=True) as api:
        assert submit(config, api.host, tmp_path, "--wait") == 2
        assert "--namespace: missing" in capfd.readouterr().err
        given = ("--namespace", "ads", "--service-account", "trainer")
        assert submit(config, api.host, tmp_path, *given) == 0
    assert api.made["experiments"][0]["namespace"] == "ads"
    assert api.made["runs"][0]["service_account"] == "trainer"
    listed = [r for r in api.requests if r[:2] == ("GET", EXPERIMENTS)]
    assert [query["namespace"] for *_, query in listed] == ["ads"]


EXPERIMENTS = "/apis/v2beta1/experiments"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "refusal",
    [
        status(3, "Failed to create a run: namespace cannot be empty", 400)[1],
        {"error": "Failed to create a run: namespace cannot be empty"},
    ],
)
def test_a_refused_submission_is_one_line_in_the_servers_words(
    tmp_path: Path, refusal: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow() as api:
        api.refusal = refusal
        assert submit(make_config(tmp_path), api.host, tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "400 Bad Request: Failed to create a run: namespace" in error
    assert "--namespace says which" in error


@pytest.mark.usefixtures("quick")
def test_an_answer_without_a_run_is_no_success(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        Kubeflow, "post_runs", lambda *_: (200, {}), raising=False
    )
    with Kubeflow() as api:
        assert submit(make_config(tmp_path), api.host, tmp_path) == 1
    printed = capfd.readouterr()
    assert "the answer has no run_id" in printed.err
    assert printed.out == ""


@pytest.mark.usefixtures("quick")
def test_waiting_goes_on_while_the_api_is_away(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow(states=["RUNNING", 503, 503, "RUNNING", "SUCCEEDED"]) as api:
        assert submit(make_config(tmp_path), api.host, tmp_path) == 0
    printed = capfd.readouterr()
    assert printed.out.endswith("SUCCEEDED\n")
    assert printed.err.count("503 Service Unavailable") == 1


@pytest.mark.usefixtures("quick")
def test_an_api_that_stays_away_ends_the_waiting_not_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kubeflow_submit, "_PATIENCE", 0.05)
    with Kubeflow(states=["RUNNING", 503]) as api:
        assert submit(make_config(tmp_path), api.host, tmp_path) == 1
    assert f"The run goes on: {api.host}/#/runs/details/r1" in (
        capfd.readouterr().err
    )


@pytest.mark.usefixtures("quick")
def test_the_timeout_ends_the_waiting_not_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ("--wait", "--timeout", "0.2s")
    with Kubeflow(states=["RUNNING"]) as api:
        assert submit(make_config(tmp_path), api.host, tmp_path, *more) == 1
    assert "the run is RUNNING after 0 s and goes on" in capfd.readouterr().err


def node(name: str, state: str, pods: list[str], **more: Any) -> dict[str, Any]:
    """A task as the API tells it of an Argo workflow's node."""
    children = [{"pod_name": pod} for pod in pods]
    return {
        "task_id": f"id of {name}",
        "display_name": name,
        "state": state,
        "child_tasks": children,
        **more,
    }


LOG = """\
I1127 09:00:00.000000       1 launcher_v2.go:151] publish success.
time="2026-11-27T09:00:00Z" level=info msg="capturing logs"
loading TFX
data.impressions.path: no file matches 'gs://b/log'
F1127 09:00:01.000000       1 main.go:58] failed to execute component: exit 2
"""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("error", "why"),
    [
        ({}, "data.impressions.path: no file matches 'gs://b/log'"),
        ({"error": {"message": "OOMKilled (exit code 137)"}}, "OOMKilled"),
    ],
)
def test_a_failed_run_names_the_task_and_why(
    tmp_path: Path,
    error: dict[str, Any],
    why: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tasks = [
        node("small-ctr-x", "FAILED", ["small-ctr-x-1"]),
        node("root", "FAILED", ["ingest"], pod_name="small-ctr-x-1"),
        node("ClickLogGen", "FAILED", ["executor"], pod_name="ingest"),
        node("executor", "FAILED", ["pod-7"], pod_name="executor"),
        node("executor(0)", "FAILED", [], pod_name="pod-7", **error),
        node("root-driver", "SUCCEEDED", []),
    ]
    with Kubeflow(
        states=["FAILED"], details={"task_details": tasks}, logs={"pod-7": LOG}
    ) as api:
        assert submit(make_config(tmp_path), api.host, tmp_path) == 1
    printed = capfd.readouterr()
    assert printed.out.endswith("FAILED\n")
    lines = [
        line
        for line in printed.err.splitlines()
        if not line.startswith("note: ")
    ]
    assert lines[0].startswith("ClickLogGen failed: ")
    assert why in printed.err and "launcher" not in printed.err
    assert lines[-1] == "  kubectl -n kubeflow logs pod-7 -c main"
