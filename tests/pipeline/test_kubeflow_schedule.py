"""Recurring runs and uploaded versions, against a stand-in for KFP's API."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.runners.kubeflow import compiler, inputs, steps
from tests.pipeline.kubeflow_server import Kubeflow
from tests.pipeline.kubeflow_tasks import Cluster
from tests.pipeline.small import IMAGE, make_config


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand-in for the compiler, which takes seconds and has its own tests."""
    spec = {"pipelineInfo": {"name": "small-ctr"}}
    monkeypatch.setattr(compiler, "compiled", lambda *_: [spec])
    return spec


def submit(tmp_path: Path, host: str, *more: str, **sections: Any) -> int:
    path = tmp_path / "config.yaml"
    config = make_config(tmp_path, **sections)
    path.write_text(yaml.safe_dump(config.resolved()), "utf-8")
    return cli.main(
        ["submit", str(path), "--host", host, "--image", IMAGE, *more]
    )


def schedule(host: str, *words: str) -> int:
    return cli.main(["schedule", *words, "--host", host])


@pytest.mark.usefixtures("spec")
def test_a_recurring_run_is_of_an_uploaded_version(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow() as api:
        given = ("--cron", "0 3 * * *", "--service-account", "trainer")
        assert submit(tmp_path, api.host, *given) == 0
    printed = capfd.readouterr().out
    assert printed == f"{api.host}/#/recurringrun/details/rr1\n"
    (run,) = api.made["recurringruns"]
    assert run["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "p1",
        "pipeline_version_id": "v1",
    }
    assert (run["mode"], run["max_concurrency"]) == ("ENABLE", "1")
    assert run["service_account"] == "trainer"
    assert run["display_name"] == "Small_ctr"
    assert "runs" not in api.made


def test_a_version_is_named_by_its_content_and_uploaded_once(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    with Kubeflow() as api:
        for number in range(3):
            if number == 2:
                spec["sdkVersion"] = "another"
            assert submit(tmp_path, api.host, "--upload") == 0
    assert [p["name"] for p in api.made["pipelines"]] == ["small-ctr"]
    first, second = api.made["versions"]
    assert first["name"] != second["name"]
    assert b"pipelineInfo" in first["content"]
    used = [r["pipeline_version_reference"] for r in api.made["runs"]]
    assert [u["pipeline_version_id"] for u in used] == ["v1", "v1", "v2"]


@pytest.mark.usefixtures("spec")
def test_recurring_runs_are_listed_paused_resumed_and_deleted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow() as api:
        for name in ("one", "two"):
            given = ("--cron", "0 0 3 * * *")
            assert submit(tmp_path, api.host, *given, name=name) == 0
        capfd.readouterr()
        assert schedule(api.host, "list") == 0
        assert capfd.readouterr().out.splitlines() == [
            "rr1\tENABLED\t0 0 3 * * *\tone",
            "rr2\tENABLED\t0 0 3 * * *\ttwo",
        ]
        assert schedule(api.host, "pause", "two") == 0
        assert api.made["recurringruns"][1]["status"] == "DISABLED"
        assert schedule(api.host, "resume", "rr2") == 0
        assert api.made["recurringruns"][1]["status"] == "ENABLED"
        assert schedule(api.host, "delete", "one") == 0
        assert [r["display_name"] for r in api.made["recurringruns"]] == ["two"]
        assert schedule(api.host, "delete", "three") == 2
        error = capfd.readouterr().err
    assert "received 'three'; accepted: the id, or the name" in error
    assert "rr2 (two)" in error


@pytest.mark.usefixtures("spec")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--cron", "daily"), "--cron: received 'daily'; accepted: minute"),
        (("--cron", "0 3 * *"), "--cron: received '0 3 * *'"),
        (("--cron", "0 3 * * *", "--wait"), "--cron: accepted without --wait"),
        (("--until", "2026-11-27"), "--until: accepted with data.spans only"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path,
    given: tuple[str, ...],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Kubeflow() as api:
        assert submit(tmp_path, api.host, *given) == 2
    assert message in capfd.readouterr().err
    assert api.requests == []


def spans(tmp_path: Path) -> dict[str, Any]:
    """The section `data` of logs of three days, of which one is read."""
    for day in (1, 2, 3):
        text = f"click\tprice\tage\tsite\tdevice\n1\t{day}\t1\ts\td\n"
        (tmp_path / f"2026-11-0{day}.tsv").write_text(text, "utf-8")
    data = make_config(tmp_path).data.model_dump(mode="json")
    data["impressions"]["path"] = [str(tmp_path / "{YYYY}-{MM}-{DD}.tsv")]
    return data | {"spans": {"last": 1}}


@pytest.mark.usefixtures("spec")
def test_the_last_span_is_a_parameter_of_a_run(tmp_path: Path) -> None:
    data = spans(tmp_path)
    with Kubeflow() as api:
        given = ("--until", "2026-11-02")
        assert submit(tmp_path, api.host, *given, data=data) == 0
    (run,) = api.made["runs"]
    assert run["runtime_config"]["parameters"] == {"until": "2026-11-02"}


@pytest.mark.parametrize("notify", [None, {"webhook": "chat"}])
def test_the_last_span_is_taken_when_the_tasks_run(
    tmp_path: Path, notify: dict[str, str] | None
) -> None:
    out = tmp_path / "p.yaml"
    runner = {"kubeflow": {"notify": notify}}
    config = make_config(tmp_path, data=spans(tmp_path), runner=runner)
    compiler.compile_to(config, IMAGE, out)
    found = {}
    for until in ("", "2026-11-02", "2026-11-03"):
        cluster = Cluster(out, tmp_path / "run", arguments={"until": until})
        cluster.run("Versions")
        found[until] = cluster.parameters["Versions"]["data"]
        given = cluster._executor_input("ClickLogGen", tmp_path)
        task = inputs.restored(given, tmp_path)
        values = task["inputs"]["parameterValues"]
        until_of_data = json.loads(values["data"])["spans"]["until"]
        assert until_of_data == (until or None)
        assert "until" not in values and "columns" in values
    assert found[""] == found["2026-11-03"] != found["2026-11-02"]


def test_a_wrong_span_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = {
        "inputs": {
            "parameterValues": {
                "data": json.dumps(spans(tmp_path)),
                "until": "tomorrow",
            }
        },
        "outputs": {"parameters": {"data": {"outputFile": "unused"}}},
    }
    assert steps.main(["versions", json.dumps(task)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("until: ") and error.count("\n") == 1
