"""`lionctr runs`, `report` and `rejected` of runs on an object store."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli, object_store
from pipeline.runners.kubeflow import run_folder, steps
from pipeline.runners.kubeflow.run_folder import RunFolder
from serving.object_store import open_store
from tests.pipeline import google_server, moto_server
from tests.pipeline.small import make_config

BUCKET = "lionctr-runs"


def rejected_of(state: str) -> str:
    """Where a run's rejected rows are."""
    return f"{state.partition('://')[0]}://{BUCKET}/artifacts/rejected"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with moto_server.running(BUCKET) as address:
        yield address


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """The address of an emulator of Google's storage, with the bucket."""
    with google_server.running(BUCKET) as address:
        yield address


@pytest.fixture(params=["s3", "minio", "gs"])
def state(
    url: str,
    google: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The folder of a pipeline's state, in the bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    for name, value in moto_server.variables(url).items():
        monkeypatch.setenv(name, value)
    return f"{request.param}://{BUCKET}/{request.param}/state"


@pytest.fixture
def folder(state: str) -> RunFolder:
    """Files that the tasks of one run left there."""
    made = RunFolder(f"{state}/Small_ctr/runs", "small-ctr-x7")
    summary = {
        "status": "blessed",
        "name": "Small_ctr",
        "run": made.id,
        "metrics": {"auc": 0.75, "gauc": None},
        "rejected": rejected_of(state),
        "artifacts": {"Trainer": {"model_run": "minio://b/m"}},
    }
    made.write("report.html", "<p>the report</p>")
    made.write("config.yaml", "name: Small_ctr\n")
    made.write_summary(summary)
    store, root = open_store(rejected_of(state))
    row = {"reason": "no label", "file": "a", "where": "line 2", "row": "x"}
    for name, value in (
        ("rejected-0.jsonl", row),
        ("counts.json", {"reasons": {"no label": 1}}),
    ):
        data = json.dumps(value).encode() + b"\n"
        object_store.write(store, f"{root}/{name}", data)
    return made


def listed(state: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["runs", "--root", state, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    return dict(run)


def test_a_run_is_listed_with_what_was_noted_at_its_end(
    state: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run = listed(state, capsys)
    assert (run["run"], run["pipeline"]) == (folder.id, "Small_ctr")
    assert (run["status"], run["metrics"]["auc"]) == ("blessed", 0.75)
    assert run["report"] == f"{state}/Small_ctr/runs/{folder.id}/report.html"
    # Another task of the same run finds the folder by the run's name.
    values = {
        run_folder.RUNS: f"{state}/Small_ctr/runs",
        run_folder.RUN: "small-ctr-x7",
        "other": 1,
    }
    later = run_folder.of(values)
    run_folder.note_end(later, status="done", pushed_model="/models/7")
    assert values == {"other": 1}
    run = listed(state, capsys)
    assert (run["status"], run["pushed_model"]) == ("done", "/models/7")


@pytest.mark.usefixtures("folder")
def test_the_report_and_the_rejected_rows_are_fetched(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "last", "--root", state]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_text("utf-8") == "<p>the report</p>"
    config = tmp_path / "ads.yaml"
    settings = make_config(
        tmp_path,
        root=f"s3://{BUCKET}/artifacts",
        runner={"kubeflow": {"state": state}},
    ).resolved()
    config.write_text(yaml.safe_dump(settings), "utf-8")
    assert cli.main(["report", str(config)]) == 0
    assert "report.html" in capsys.readouterr().out
    for words in (
        ["last", "--root", state],
        [str(config)],
        [rejected_of(state)],
    ):
        assert cli.main(["rejected", *words]) == 0
        assert "a, line 2: no label" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs", "other"], "other: no runs in"),
        (["runs", "Small_ctr", "--keep", "1"], "--keep: received with"),
        (["runs", "Small_ctr", "--html"], "--html: received with"),
        (["report", "gone"], "no finished run"),
        (["rejected", "gone"], "no finished run"),
    ],
)
def test_what_is_not_there_is_one_line(
    state: str,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([*words, "--root", state]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_config_without_state_says_where_its_runs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ads.yaml"
    settings = make_config(tmp_path).resolved()
    config.write_text(yaml.safe_dump(settings), "utf-8")
    for command in ("runs", "report", "rejected"):
        assert cli.main([command, str(config)]) == 2
        error = capsys.readouterr().err
        assert "runner.kubeflow.state says, which is not set" in error


def test_a_store_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in moto_server.variables("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert cli.main(["runs", "--root", "s3://b/x"]) == 2
    error = capsys.readouterr().err
    assert "s3://b/x cannot be read" in error and "AWS_ENDPOINT_URL" in error


def test_the_webhook_is_told_metrics_and_where_the_report_is(
    state: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Answer:
        def close(self) -> None: ...

    def urlopen(request: Any, timeout: float) -> Answer:
        told.append(json.loads(request.data))
        return Answer()

    monkeypatch.setattr(steps.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("LIONCTR_WEBHOOK", "http://chat")
    status = {"state": "SUCCEEDED", "pipelineJobResourceName": "small-ctr-x7"}
    values = {run_folder.RUNS: f"{state}/Small_ctr/runs", "status": status}
    task = json.dumps({"inputs": {"parameterValues": values}})
    assert steps.main(["notify", task]) == 0
    (found,) = told
    report = f"{state}/Small_ctr/runs/{folder.id}/report.html"
    assert found["report"] == report and found["metrics"] == {"auc": 0.75}
    assert found["text"] == f"small-ctr-x7: SUCCEEDED\nauc 0.75\n{report}"


@pytest.mark.parametrize("notified", [False, True])
def test_a_run_that_fails_before_its_report_is_listed(
    state: str,
    notified: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = f"{state}/failed-{notified}"
    runs = f"{root}/Small_ctr/runs"
    folder = RunFolder(runs, "small-ctr-x8")
    run_folder.note_begin(folder, "Small_ctr")
    told: list[Any] = []
    if notified:

        def urlopen(request: Any, timeout: float) -> io.BytesIO:
            told.append(json.loads(request.data))
            return io.BytesIO()

        monkeypatch.setattr(steps.urllib.request, "urlopen", urlopen)
        monkeypatch.setenv("LIONCTR_WEBHOOK", "http://chat")
        status = {
            "state": "FAILED",
            "error": {"message": "Trainer failed"},
            "pipelineJobResourceName": "small-ctr-x8",
        }
        values = {run_folder.RUNS: runs, "status": status}
        task = json.dumps({"inputs": {"parameterValues": values}})
        assert steps.main(["notify", task]) == 0
        assert told[0]["status"] == "FAILED" and "report" not in told[0]
    run = listed(root, capsys)
    assert run["run"] == folder.id
    assert run["status"] == ("failed" if notified else "unfinished")
    why = "Trainer failed" if notified else "Kubeflow's pages show which task"
    for command in ("report", "rejected"):
        assert cli.main([command, "last", "--root", root]) == 2
        assert why in capsys.readouterr().err


def test_logs_on_s3_are_read_with_the_environments_credentials(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`minio://` is KFP's own scheme: Beam has no file system for it."""
    for name, value in moto_server.variables(url).items():
        monkeypatch.setenv(name, value)
    from tests.components.click_log_gen.ingest import convert_log

    log = f"s3://{BUCKET}/logs/{{DATE}}.tsv"
    store, _ = open_store(log)
    versions = []
    data = make_config(tmp_path).data.model_dump(mode="json")
    data["impressions"]["path"] = [log]
    data["spans"] = {"since": "2026-11-01"}
    for day in (1, 2):
        path = f"{BUCKET}/logs/2026-11-0{day}.tsv"
        text = f"click\tprice\n{day % 2}\t{day}.5\n"
        object_store.write(store, path, text.encode())
        versions.append(steps.data_version(json.dumps(data)))
    assert len(set(versions)) == 2
    output = convert_log(
        tmp_path / "out",
        {"path": f"s3://{BUCKET}/logs/*.tsv", "format": "tsv", "header": True},
        {"price": ("float", None)},
    )
    assert sorted(row["price"] for row in output.kept) == [1.5, 2.5]
