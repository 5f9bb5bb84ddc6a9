"""Adapter between KFP's launcher and TFX's executors."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import InputError, RefusedError
from pipeline.runners.kubeflow import task as kubeflow_task

INPUTS = {
    "artifacts": {
        "model": {"artifactType": {"instanceSchema": "title: tfx.Model"}}
    }
}


def make_task(scheme: str, output_file: str = "") -> dict[str, Any]:
    """An ExecutorInput as the open source driver makes it."""
    return {
        "inputs": {
            "parameterValues": {"pushed_to": "gs://b/models"},
            "artifacts": {
                "model": {
                    "artifacts": [
                        {
                            "name": "7",
                            "uri": f"{scheme}b/Trainer/model",
                            "type": {"instanceSchema": ""},
                        }
                    ]
                }
            },
        },
        "outputs": {
            "artifacts": {
                "baseline": {
                    "artifacts": [{"uri": f"{scheme}b/Baseline/baseline"}]
                }
            },
            "outputFile": output_file,
        },
    }


def uris(task: dict[str, Any]) -> list[str]:
    """The input's URI, the output's URI."""
    return [
        task["inputs"]["artifacts"]["model"]["artifacts"][0]["uri"],
        task["outputs"]["artifacts"]["baseline"]["artifacts"][0]["uri"],
    ]


def test_input_artifacts_get_their_declared_type() -> None:
    task = make_task("minio://")
    typed = kubeflow_task.typed(task, INPUTS)
    (model,) = typed["inputs"]["artifacts"]["model"]["artifacts"]
    assert model["type"] == {"instanceSchema": "title: tfx.Model"}
    assert task == make_task("minio://")


def test_a_task_without_inputs_stays_as_it_is() -> None:
    task = {"inputs": {}, "outputs": {}}
    assert kubeflow_task.typed(task, {"parameters": {}}) == task


@pytest.mark.parametrize(
    ("scheme", "folder"),
    [("minio://", "minio"), ("s3://", "s3"), ("gs://", "gcs")],
)
def test_the_launchers_copies_are_used(
    tmp_path: Path, scheme: str, folder: str
) -> None:
    (tmp_path / folder / "b" / "Baseline").mkdir(parents=True)
    copies = tmp_path / folder / "b"
    expected = [
        str(copies / "Trainer/model"),
        str(copies / "Baseline/baseline"),
    ]
    task = kubeflow_task.local(make_task(scheme), tmp_path)
    assert uris(task) == expected
    assert Path(expected[1]).is_dir()
    assert task["inputs"]["parameterValues"] == {"pushed_to": "gs://b/models"}


@pytest.mark.parametrize("scheme", ["gs://", "/mnt/pvc/"])
def test_without_a_launchers_copies_uris_stay(
    tmp_path: Path, scheme: str
) -> None:
    task = make_task(scheme)
    assert uris(kubeflow_task.local(task, tmp_path)) == uris(task)


LOGS = {"uri": "minio://b/Baseline/executor-logs"}


@pytest.mark.parametrize("names", [None, ["baseline"]])
def test_a_log_that_the_launcher_has_open_is_left_alone(
    tmp_path: Path, names: list[str] | None
) -> None:
    log = tmp_path / "minio/b/Baseline/executor-logs"
    log.parent.mkdir(parents=True)
    log.write_text("started\n", "utf-8")
    task = make_task("minio://")
    given = {**LOGS, "type": {"schemaTitle": "system.Artifact"}}
    task["outputs"]["artifacts"]["executor-logs"] = {"artifacts": [given]}
    made = kubeflow_task.local(task, tmp_path)
    assert made["outputs"]["artifacts"]["executor-logs"]["artifacts"] == [given]
    assert log.read_text("utf-8") == "started\n"
    own = kubeflow_task.declared(made, names)["outputs"]["artifacts"]
    assert own.keys() == {"baseline"}
    assert Path(own["baseline"]["artifacts"][0]["uri"]).is_dir()


def test_an_output_that_the_component_does_not_declare_is_not_tfxs() -> None:
    task = make_task("minio://")
    task["outputs"]["artifacts"]["more"] = {"artifacts": [LOGS]}
    outputs = kubeflow_task.declared(task, ["baseline"])["outputs"]
    assert outputs["artifacts"].keys() == {"baseline"}


def test_the_report_has_kfps_uris_and_no_empty_metadata(
    tmp_path: Path,
) -> None:
    path = tmp_path / "output_metadata.json"
    artifact = {"uri": "/minio/b", "metadata": {"none": None, "version": 3.0}}
    report = {"artifacts": {"baseline": {"artifacts": [artifact]}}}
    path.write_text(json.dumps(report), "utf-8")
    kubeflow_task.finish(make_task("minio://", str(path))["outputs"])
    report = json.loads(path.read_text("utf-8"))
    assert report["artifacts"]["baseline"]["artifacts"] == [
        {"uri": "minio://b/Baseline/baseline", "metadata": {"version": 3.0}}
    ]


def run_main(tmp_path: Path, *beam: str) -> int:
    """`main` on a task whose folders a launcher has made."""
    path = tmp_path / "output_metadata.json"
    path.write_text("{}", "utf-8")
    (tmp_path / "gcs" / "b" / "Baseline").mkdir(parents=True)
    task = json.dumps(make_task("gs://", str(path)))
    return kubeflow_task.main(
        [
            "--executor_class_path=a.B",
            f"--json_serialized_invocation_args={task}",
            f"--json_serialized_inputs_spec_args={json.dumps(INPUTS)}",
            *beam,
        ]
    )


@pytest.fixture
def executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """ExecutorInputs that reached TFX, which does nothing here."""
    from tfx.orchestration.kubeflow.v2.container import (
        kubeflow_v2_run_executor as tfx,
    )

    seen: list[dict[str, Any]] = []
    monkeypatch.setenv("LIONCTR_COPIES", str(tmp_path))
    monkeypatch.setattr(
        tfx,
        "main",
        lambda parsed: seen.append(
            json.loads(parsed[0].json_serialized_invocation_args)
        ),
    )
    return seen


@pytest.mark.parametrize(
    ("beam", "is_local"),
    [
        (["--runner=FnApiRunner", "--direct_num_workers=2"], True),
        ([], True),
        (["--runner=DataflowRunner", "--project=p"], False),
        (["--runner", "FlinkRunner"], False),
    ],
)
def test_distributed_workers_get_uris_that_they_can_open(
    tmp_path: Path,
    executed: list[dict[str, Any]],
    beam: list[str],
    is_local: bool,
) -> None:
    assert run_main(tmp_path, *beam) == 0
    (task,) = executed
    assert [uri.startswith(str(tmp_path)) for uri in uris(task)] == [
        is_local,
        is_local,
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(RefusedError("refused"), 1), (InputError("wrong"), 2)]
)
def test_what_the_user_must_mend_is_said_without_a_traceback(
    tmp_path: Path,
    executed: list[dict[str, Any]],
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from tfx.orchestration.kubeflow.v2.container import (
        kubeflow_v2_run_executor as tfx,
    )

    def fail(parsed: Any) -> None:
        raise error

    monkeypatch.setattr(tfx, "main", fail)
    assert run_main(tmp_path) == code
    assert capfd.readouterr().err.endswith(f"{error}\n")


def test_a_task_that_is_tried_again_finds_empty_folders(
    tmp_path: Path,
) -> None:
    model, logs = tmp_path / "Trainer" / "model", tmp_path / "executor-logs"
    (model / "Format-Serving").mkdir(parents=True)
    (model / "Format-Serving" / "saved_model.pb").write_bytes(b"half")
    logs.write_text("KFP's launcher has this open")
    outputs = {
        "artifacts": {
            path.name: {"artifacts": [{"uri": str(path)}]}
            for path in (model, logs, tmp_path / "new")
        }
    }
    kubeflow_task.empty(outputs)
    assert list(model.iterdir()) == []
    assert logs.exists()
    assert not (tmp_path / "new").exists()
