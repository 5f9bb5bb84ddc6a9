"""Settings of one run of a compiled pipeline: `set`, and `--version`."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.errors import InputError
from pipeline import cli
from pipeline.runners.kubeflow import compiler, inputs, steps
from tests.pipeline.kubeflow_server import Kubeflow
from tests.pipeline.kubeflow_tasks import Cluster
from tests.pipeline.small import IMAGE, make_config, write_log


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config, written."""
    path = tmp_path / "config.yaml"
    text = yaml.safe_dump(make_config(tmp_path).resolved())
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def api(config: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Kubeflow with two versions of the pipeline, and no compiler."""
    with Kubeflow() as server:
        for number in (1, 2):
            spec = {"pipelineInfo": {"name": "small-ctr"}, "number": number}
            monkeypatch.setattr(compiler, "compiled", lambda *_, s=spec: [s])
            assert submit(config, server, "--image", IMAGE, "--upload") == 0

        def compiled(*_: Any) -> None:
            raise AssertionError("compiled anew")

        monkeypatch.setattr(compiler, "compiled", compiled)
        yield server


def submit(config: Path, api: Kubeflow, *more: str) -> int:
    return cli.main(["submit", str(config), "--host", api.host, *more])


@pytest.mark.parametrize(("which", "number"), [("latest", 2), ("first", 1)])
def test_a_version_runs_with_settings_of_its_own(
    config: Path, api: Kubeflow, which: str, number: int
) -> None:
    if which == "first":
        which = api.made["versions"][0]["name"]
    sets = ("--set", "train.epochs=2", "--set", "optimizer.learning_rate=1e-2")
    assert submit(config, api, "--version", which, *sets) == 0
    run = api.made["runs"][-1]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "p1",
        "pipeline_version_id": f"v{number}",
    }
    (text,) = run["runtime_config"]["parameters"].values()
    assert json.loads(text) == {
        "train.epochs": 2,
        "optimizer.learning_rate": 0.01,
    }


def test_a_version_runs_again_and_again_with_settings(
    config: Path, api: Kubeflow
) -> None:
    more = ("--cron", "0 3 * * *", "--set", "train.epochs=2")
    assert submit(config, api, "--version", "latest", *more) == 0
    (run,) = api.made["recurringruns"]
    assert run["pipeline_version_reference"]["pipeline_version_id"] == "v2"
    given = run["runtime_config"]["parameters"]
    assert given == {"set": '{"train.epochs": 2}'}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--version", "v9"), "--version: received 'v9'; accepted: latest, or"),
        ((), "--image: missing"),
        (("--version", "latest", "--upload"), "--version: accepted without"),
        (
            ("--version", "latest", "--set", "evaluate.slices=[]"),
            "--set: received 'evaluate.slices'; accepted: data.impressions.",
        ),
        (
            ("--version", "latest", "--set", "model.name=dcn_v2"),
            "--set: received 'model.name'",
        ),
        (
            ("--version", "latest", "--set", "train.epochs=many"),
            "train.epochs: received 'many'",
        ),
    ],
)
def test_what_cannot_be_set_is_refused(
    config: Path,
    api: Kubeflow,
    given: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = len(api.made["runs"])
    assert submit(config, api, *given) == 2
    assert message in capsys.readouterr().err
    assert len(api.made["runs"]) == before


def test_a_pipeline_that_kubeflow_does_not_keep_is_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Kubeflow() as empty:
        assert submit(config, empty, "--version", "latest") == 2
    error = capsys.readouterr().err
    assert "--version: Kubeflow keeps no pipeline 'small-ctr'" in error


@pytest.mark.ci
def test_a_setting_reaches_the_tasks_that_it_concerns_alone(
    tmp_path: Path,
) -> None:
    out = tmp_path / "p.yaml"
    write_log(tmp_path / "log.tsv", 20)
    write_log(tmp_path / "other.tsv", 30)
    compiler.compile_to(
        make_config(
            tmp_path,
            train={"batch_size": 64, "warm_start": "latest_blessed"},
            tune={"trials": 2, "model.hidden": {"choice": [[4], [8]]}},
        ),
        IMAGE,
        out,
    )
    found: dict[str, Any] = {}
    for name, changes in {
        "none": {},
        "rate": {"optimizer.learning_rate": 0.5, "train.epochs": 2},
        "log": {"data.impressions.path": [str(tmp_path / "other.tsv")]},
    }.items():
        cluster = Cluster(
            out, tmp_path / "run", arguments={"set": json.dumps(changes)}
        )
        cluster.run("Versions")
        found[name] = cluster.parameters["Versions"]
        for task in ("ClickLogGen", "Trainer", "Tuner", "WarmStart"):
            made = cluster.tasks[task].get("inputs", {}).pop("artifacts", None)
            given = cluster._executor_input(task, tmp_path)
            found[name, task] = inputs.restored(given, tmp_path)["inputs"][
                "parameterValues"
            ]
            assert made or task in ("ClickLogGen", "WarmStart")
    for task in ("Trainer", "Tuner"):
        custom = json.loads(found["rate", task]["custom_config"])
        assert custom["optimizer"]["learning_rate"] == 0.5
        assert custom["train"]["epochs"] == 2
        assert custom["train"]["batch_size"] == 64
    training = json.loads(found["rate", "WarmStart"]["training"])
    assert training["train"]["epochs"] == 2
    # KFP's cache answers ingest as long as its parameters are the same.
    assert found["rate", "ClickLogGen"] == found["none", "ClickLogGen"]
    assert found["rate"]["data"] == found["none"]["data"]
    assert found["log"]["data"] != found["none"]["data"]
    path = json.loads(found["log", "ClickLogGen"]["data"])["impressions"]
    assert path["path"] == [str(tmp_path / "other.tsv")]
    for values in found.values():
        assert not any(name.startswith("lionctr") for name in values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 2", "set: received 'epochs: 2'; accepted: JSON"),
        ("[1]", "set: received '[1]'; accepted: JSON"),
        ('{"push.to": "x"}', "set: received 'push.to'; accepted: data.impr"),
    ],
)
def test_a_wrong_setting_on_kfps_page_is_one_line(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"data": "{}", "set": text}
    task = {"inputs": {"parameterValues": values}, "outputs": {}}
    assert steps.main(["versions", json.dumps(task)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_a_setting_of_a_missing_element_is_refused(tmp_path: Path) -> None:
    custom = {"model": {"hidden": [8]}}
    values = {
        "custom_config": json.dumps(custom),
        "lionctr_set_training": '{"model.hidden.4": 2}',
    }
    with pytest.raises(InputError, match=r"set: model\.hidden\.4: received"):
        inputs.restored({"inputs": {"parameterValues": values}}, tmp_path)
