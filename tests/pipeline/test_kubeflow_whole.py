"""Pipelines of each kind, task after task, to a pushed model.

Artifacts and state are on an S3 server (moto). One pipeline joins two logs and
tunes; the next one starts warm from what that pushed, and several pods train.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import PipelineConfig
from pipeline.runners.kubeflow import compiler, ir
from serving.object_store import StoreFiles
from tests.pipeline import google_server, moto_server
from tests.pipeline.kserve_api import KServe
from tests.pipeline.kubeflow_tasks import Cluster
from tests.pipeline.small import (
    IMAGE,
    make_config,
    write_joined_logs,
    write_log,
    write_shop_logs,
)
from tests.pipeline.tfjobs import Kubernetes

BUCKET = "lionctr-whole"
STATE = f"s3://{BUCKET}/state"
TUNE_RATE = {"optimizer.learning_rate": {"log": [1e-3, 1e-2]}}
TUNE = {"trials": 2, **TUNE_RATE}


# Machines that run several tests at once answer late; the answers count.
GATE = {"p99_ms": 60_000}


class Place:
    """Logs, volume and buckets of the pipelines of this module."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.data = home, write_joined_logs(home)
        self.environment = moto_server.variables(url)

    def config(
        self, pods: dict[str, Any] | None = None, **sections: Any
    ) -> PipelineConfig:
        runner = {
            "volumes": {"my-claim": str(self.home)},
            "kubeflow": {
                "state": STATE,
                "defaults": {"env": self.environment},
                **(pods or {}),
            },
            **sections.pop("runner", {}),
        }
        return make_config(
            self.home,
            root=f"s3://{BUCKET}/artifacts",
            data=self.data,
            serving_gate=GATE,
            runner=runner,
            **sections,
        )

    def cluster(
        self,
        name: str,
        config: PipelineConfig,
        outputs: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> Cluster:
        out = self.home / f"{name}.yaml"
        compiler.compile_to(config, IMAGE, out)
        return Cluster(
            out,
            self.home / name,
            outputs,
            parameters,
            environment=self.environment,
        )

    def versions(self) -> list[str]:
        folder = self.home / "serving/Small_ctr"
        return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With an empty bucket."""
    with moto_server.running(BUCKET) as url:
        yield Place(tmp_path_factory.mktemp("whole"), url)


@pytest.fixture(scope="module")
def tuned(place: Place) -> Cluster:
    """The joined, tuned pipeline after all its tasks; KServe has its model."""
    with KServe(place.home) as api:
        pods = {
            "kserve": {"namespace": "ads"},
            "tasks": {"KServe": {"env": {"KUBECONFIG": str(api.config)}}},
        }
        cluster = place.cluster("tuned", place.config(pods, tune=TUNE))
        cluster.run()
        cluster.services = api.services  # type: ignore[attr-defined]
    return cluster


@pytest.mark.slow
def test_a_joined_and_tuned_pipeline_runs_to_a_model_that_is_served(
    place: Place,
    tuned: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tuned.outputs.keys() == tuned.tasks.keys() >= {"Tuner", "KServe"}
    examples = tuned.outputs["ClickLogGen"]["examples"]
    assert examples["uri"].startswith(f"s3://{BUCKET}/artifacts/")
    (version,) = place.versions()
    (service,) = tuned.services.values()  # type: ignore[attr-defined]
    (container,) = service["spec"]["predictor"]["containers"]
    assert f"--pin={version}" in container["args"]
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["runs", "Small_ctr", "--root", STATE, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["status"] == "done" and run["metrics"]["auc"] > 0.6
    assert run["pushed_model"].endswith(f"/{version}")


@pytest.mark.slow
def test_a_warm_started_tfjob_pipeline_runs_to_a_pushed_model(
    place: Place, tuned: Cluster
) -> None:
    (first,) = place.versions()
    train = {"batch_size": 64, "epochs": 1, "jit": False}
    with Kubernetes(place.home) as kubernetes:
        kube = {"KUBECONFIG": str(kubernetes.config)}
        config = place.config(
            {"tasks": {"Trainer": {"env": kube}}},
            train={**train, "warm_start": "latest_blessed"},
            runner={
                "tfjob": {"workers": 2, "folder": str(place.home / "jobs")}
            },
        )
        same = ("StatisticsGen", "SchemaGen", "ExampleValidator", "Transform")
        before = {name: tuned.outputs[name] for name in ("ClickLogGen", *same)}
        cluster = place.cluster("warm", config, before, tuned.parameters)
        cluster.run()
        (job,) = kubernetes.jobs.values()
    assert job.status["conditions"][-1]["type"] == "Succeeded"
    assert cluster.outputs.keys() == cluster.tasks.keys() >= {"WarmStart"}
    assert len(place.versions()) == 2
    cluster._fetch(cluster.outputs["WarmStart"]["base_model"], place.home / "b")
    (base,) = (place.home / "b").rglob("base.json")
    assert json.loads(base.read_text("utf-8"))["model"].endswith(f"/{first}")
    cluster._fetch(cluster.outputs["Trainer"]["model_run"], place.home / "r")
    training = json.loads((place.home / "r/training.json").read_text("utf-8"))
    assert training["warm_start"]["features"]
    changes = cluster.outputs["Evaluator"]["metrics"]["metadata"]
    assert "auc_change" in changes  # against the first version


@pytest.mark.slow
def test_a_pipeline_on_googles_storage_runs_to_a_pushed_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_log(tmp_path / "log.tsv")
    place = f"gs://{BUCKET}"
    with google_server.running(BUCKET) as url:
        environment = {"STORAGE_EMULATOR_HOST": url}
        config = make_config(
            tmp_path,
            root=f"{place}/artifacts",
            push={"to": f"{place}/serving"},
            serving_gate=GATE,
            runner={
                "volumes": {"my-claim": str(tmp_path)},
                "kubeflow": {"defaults": {"env": environment}},
            },
        )
        assert compiler.unreachable(config) == []
        out = tmp_path / "pipeline.yaml"
        compiler.compile_to(config, IMAGE, out)
        cluster = Cluster(out, tmp_path / "run", environment=environment)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        cluster.run()
        assert cluster.outputs.keys() == cluster.tasks.keys()
        model = cluster.outputs["Trainer"]["model"]["uri"]
        assert model.startswith(f"{place}/artifacts/")
        root = f"{place}/artifacts"
        assert cli.main(["runs", "Small_ctr", "--root", root, "--json"]) == 0
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert cli.main(["models", f"{place}/serving/Small_ctr", "verify"]) == 0
        assert "holds" in capsys.readouterr().out
        assert run["pushed_model"].startswith(f"{place}/serving/Small_ctr/")
        assert StoreFiles().below(f"{root}/Small_ctr/analysis_cache")


@pytest.mark.slow
def test_labels_and_events_run_to_a_pushed_model(tmp_path: Path) -> None:
    """Orders of a log of their own, a search by their output, calibrated."""
    loose = {"auc": {"min": 0.1}, "logloss": {"max": 2}}
    config = make_config(
        tmp_path,
        data=write_shop_logs(tmp_path),
        model={"name": "esmm", "hidden": [8], "dropout": 0.0},
        features={
            "numeric": ["price", {"name": "age", "transform": "buckets"}],
            "categorical": ["site", {"name": "device", "serve": "shallow"}],
        },
        tune={"trials": 2, "output": "cvr", **TUNE_RATE},
        evaluate={
            "calibrate": "platt",
            "metrics": {**loose, "normalized_entropy": None},
            "outputs": {
                name: {**loose, "normalized_entropy": None, "calibration": None}
                for name in ("cvr", "ctcvr")
            },
            "too_few": "pass",
        },
        serving_gate=GATE,
    )
    out = tmp_path / "pipeline.yaml"
    compiler.compile_to(config, IMAGE, out)
    cluster = Cluster(out, tmp_path / "run")
    cluster.run()
    assert cluster.outputs.keys() == cluster.tasks.keys() >= {"Tuner"}
    (version,) = (tmp_path / "serving/Small_ctr").iterdir()
    manifest = json.loads(
        (version / "assets.extra/manifest.json").read_text("utf-8")
    )
    assert manifest["config"]["labels"][1]["of"] == "click"
    calibration = manifest["calibration"]
    assert calibration["functions"] and "cvr" in calibration["outputs"]
    metrics = cluster.outputs["Evaluator"]["metrics"]["metadata"]
    assert metrics["cvr.auc"] > 0 and metrics["ctcvr.logloss"] > 0
    page = cluster.folder("Report", "report").read_text("utf-8")
    assert "cvr: metrics" in page and "could not be read" not in page
    verdict = cluster.folder("Evaluator", "verdict").read_text("utf-8")
    assert "| cvr.auc |" in verdict


def wide_config(home: Path, features: int) -> PipelineConfig:
    """The small pipeline with as many features, of four columns each way."""
    rows = (home / "log.tsv").read_text("utf-8").splitlines()
    count = features // 2
    names = [f"{kind}{n}" for kind in ("number", "site") for n in range(count)]
    lines = ["\t".join(["click", *names])]
    for number, row in enumerate(rows[1:]):
        click, price, _, site, _ = row.split("\t")
        numbers = [price] * count
        lines.append("\t".join([click, *numbers, *[site] * count]))
        if number == 60:
            break
    (home / "wide.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    log = {"path": str(home / "wide.tsv"), "format": "tsv", "header": True}
    return make_config(
        home,
        data={
            "impressions": log,
            "label": "click",
            "split": {"by": "hash", "eval": 0.3},
        },
        features={
            "numeric": names[:count],
            "categorical": [
                {"name": name, "encode": "hash", "buckets": 8, "dim": 2}
                for name in names[count:]
            ],
        },
        # Sixty rows have too few clicks for a verdict.
        evaluate={"too_few": "pass"},
        serving_gate=GATE,
    )


@pytest.mark.slow
def test_5000_features_run_to_a_pushed_model_within_kubernetes_limits(
    tmp_path: Path,
) -> None:
    write_log(tmp_path / "log.tsv", 80)
    out = tmp_path / "wide.yaml"
    compiler.compile_to(wide_config(tmp_path, 5000), IMAGE, out)
    assert out.stat().st_size < 1_000_000  # etcd's limit is 1.5 MB
    (document,) = yaml.safe_load_all(out.read_text("utf-8"))
    for name in document["root"]["dag"]["tasks"]:
        # One argument of a process holds 128 KiB.
        assert len(json.dumps(ir.container(document, name))) < 131_072
    cluster = Cluster(out, tmp_path / "run")
    cluster.run()
    assert cluster.outputs.keys() == cluster.tasks.keys()
    (version,) = (tmp_path / "serving/Small_ctr").iterdir()
    manifest = json.loads(
        (version / "assets.extra/manifest.json").read_text("utf-8")
    )
    features = manifest["config"]["features"]
    assert len(features["numeric"]) == len(features["categorical"]) == 2500
    for name in cluster.tasks:
        found = cluster._executor_input(name, tmp_path)
        assert len(json.dumps(json.dumps(found))) < 131_072, name
