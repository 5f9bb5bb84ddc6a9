"""The task Report, and what a run leaves beside the state."""

import re
from pathlib import Path

import pytest

from pipeline.report import gather
from pipeline.runners.kubeflow import run_folder
from pipeline.runners.kubeflow.report import INPUTS
from pipeline.runners.kubeflow.run_folder import RunFolder


def test_the_task_is_given_all_that_the_page_reads() -> None:
    source = Path(gather.__file__).read_text("utf-8")
    wanted = set(re.findall(r'place\(\s*"(\w+)", "(\w+)"', source))
    given = {(node, one) for node, all_ in INPUTS.items() for one in all_}
    assert ("Evaluator", "evaluation") in wanted and wanted <= given


def test_a_second_try_of_a_run_has_the_folder_of_the_first(
    tmp_path: Path,
) -> None:
    first = RunFolder(str(tmp_path), "ads-x7")
    first.write_summary({"status": "blessed"})
    other = RunFolder(str(tmp_path), "x7")
    again = RunFolder(str(tmp_path), "ads-x7")
    assert again.id == first.id != other.id
    assert again.summary() == {"status": "blessed"}
    assert other.summary() == {}


def test_a_backend_that_leaves_the_placeholder_gets_a_folder_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "{{$.pipeline_job_resource_name}}"
    folder = RunFolder(str(tmp_path), name)
    assert folder.id.endswith("-run")
    folder.write_summary({"status": "blessed"})
    monkeypatch.setattr(run_folder, "_TIME", "%Y%m%d-999999")
    assert RunFolder(str(tmp_path), name).summary() == {}  # another run's


def test_a_place_that_cannot_be_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    values = {run_folder.RUNS: "s3://bucket/runs", run_folder.RUN: "x"}
    assert run_folder.of(values) is None
    assert "s3://bucket/runs cannot be read" in caplog.text
