"""A pipeline's training by the pods of a TFJob, which are processes here."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from components.transform.executor import Executor
from models import trainer, worker
from models.errors import InputError
from pipeline.runners.kubeflow import tfjob
from tests.components.transform.runs import run
from tests.pipeline.tfjobs import ROOT, Kubernetes, killing

SPEC = {
    "site": tf.io.VarLenFeature(tf.string),
    "price": tf.io.VarLenFeature(tf.float32),
    "label": tf.io.VarLenFeature(tf.int64),
}
FEATURES = {
    "categorical": [{"name": "site", "dim": 4}],
    "numeric": ["price"],
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Clicks that depend on the site and the price."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        site, price = draw.randrange(60), draw.gauss(0, 1)
        click = draw.random() < 0.1 + 0.5 * (site % 3 == 0) + 0.3 * (price > 0)
        made.append(
            {"site": f"s{site}".encode(), "price": price, "label": int(click)}
        )
    return made


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Arguments that TFX gives a trainer, but for its output folders."""
    folder = tmp_path_factory.mktemp("transform")
    files = {"train": {"data": rows(2010, 1)}, "eval": {"data": rows(300, 2)}}
    run(Executor, folder, files, SPEC, FEATURES)
    return {
        "custom_config": {
            "features": FEATURES,
            "model": {"hidden": [8]},
            "optimizer": {"name": "lion", "learning_rate": 3e-3},
            "train": {"batch_size": 32, "epochs": 3, "checkpoint_steps": 20},
            "negatives": {},
            "checkpoints": None,
        },
        "transform_output": str(folder / "graph"),
        "train_files": [str(folder / "transformed/Split-train/*")],
        "eval_files": [str(folder / "transformed/Split-eval/*")],
        "hyperparameters": None,
    }


def arguments(given: Any, home: Path, **custom: Any) -> Any:
    """Arguments of a run_fn that writes to `home`."""
    return SimpleNamespace(
        **{**given, "custom_config": given["custom_config"] | custom},
        serving_model_dir=str(home / "model"),
        model_run_dir=str(home / "run"),
    )


def shared(home: Path) -> dict[str, Any]:
    """Pipeline of `create_pipeline` for `runner.tfjob`."""
    return {
        "workers": 2,
        "folder": str(home / "volume/jobs"),
        "limits": {"cpu": "1"},
        "image": "registry:5000/lion-ctr:1",
        "volumes": {"my-claim": str(home / "volume")},
    }


def use(kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "KUBE_CONFIG_DEFAULT_LOCATION"
    for module in ("kubernetes.config", "kubernetes.config.kube_config"):
        monkeypatch.setattr(f"{module}.{place}", str(kubernetes.config))
    monkeypatch.setattr(tfjob, "_SECONDS", 0.2)


def weights(model: Path) -> dict[str, Any]:
    reader = tf.train.load_checkpoint(str(model / "variables/variables"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "VARIABLE_VALUE" in name
    }


@pytest.mark.parametrize(
    ("pod", "number"),
    [
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.ci),
        pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_pod_is_killed_and_the_model_is_that_of_one_process(
    given: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pod: int,
    number: int,
) -> None:
    jobs = tmp_path / "volume/jobs"
    kill = killing(
        pod, lambda: any(jobs.glob("*/checkpoints/*/step-*40")), number
    )
    with Kubernetes(tmp_path, kill) as kubernetes:
        use(kubernetes, monkeypatch)
        tfjob.run_fn(arguments(given, tmp_path, tfjob=shared(tmp_path)))
        (job,) = kubernetes.jobs.values()
    log = (tmp_path / "worker-0.txt").read_text()
    assert (pod, 128 + number) in {
        (index, code) for index, code, _ in job.exits
    }
    code, noticed = next((c, when) for i, c, when in job.exits if i != pod)
    assert code >= 128 and noticed - kill.killed[0] < 60
    assert "going on from the checkpoint of step" in log
    assert not list(jobs.iterdir())
    described = yaml.safe_load((tmp_path / "run/training.json").read_text())
    assert described["resumed_at_step"] >= 40 and described["steps"] == 189

    alone = tmp_path / "alone"
    trainer.run_fn(arguments(given, alone))
    expected, found = weights(alone / "model"), weights(tmp_path / "model")
    assert expected.keys() == found.keys() and len(found) > 5
    for name, values in expected.items():
        np.testing.assert_allclose(
            found[name], values, rtol=1e-5, atol=1e-5, err_msg=name
        )
    sites = tf.constant([f"s{i}" for i in range(50)])
    asked = {"site": sites, "price": tf.linspace(-2.0, 2.0, 50)}
    one, two = (
        tf.saved_model.load(str(home / "model")).signatures["serving_default"](
            **asked
        )["ctr"]
        for home in (alone, tmp_path)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.ptp(one.numpy()) > 0.3  # it has learned something


@pytest.mark.slow
def test_a_wrong_input_ends_the_job_at_once(
    given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"name": "wide_deep", "hidden": [8]}
    custom = {"model": wrong, "tfjob": shared(tmp_path)}
    custom["train"] = {"callbacks": [{"name": "nowhere:Callback"}]}
    with Kubernetes(tmp_path) as kubernetes:
        use(kubernetes, monkeypatch)
        with pytest.raises(InputError, match="exited with 2"):
            tfjob.run_fn(arguments(given, tmp_path, **custom))
    log = (tmp_path / "worker-0.txt").read_text()
    assert "train.callbacks.0: received 'nowhere:Callback'" in log


@pytest.mark.ci
def test_a_worker_says_what_it_is_not_given(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text('{"custom_config": {}, "model_run_dir": "x"}')
    # A process as a container has it: the pods above are forks.
    ended = subprocess.run(
        [sys.executable, "-m", "models.worker", str(job)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "missing: transform_output, train_files" in ended.stderr


def test_the_manifest_for_hands_is_the_pipelines() -> None:
    text = (ROOT / "deploy/tfjob.yaml").read_text("utf-8")
    job, role = yaml.safe_load_all(text)
    assert job == tfjob.manifest(
        "lion-ctr-ads",
        "registry.example/lion-ctr:1",
        2,
        "/mnt/pvc/ads/job.json",
        {"my-claim": "/mnt/pvc"},
        {"cpu": "4", "memory": "16Gi"},
    )
    (rule,) = role["rules"]
    assert rule["resources"] == [tfjob.PLURAL]
    assert rule["apiGroups"] == [tfjob.GROUP]


def test_a_pod_of_a_jobset_knows_its_peers() -> None:
    environment = {"LIONCTR_WORKERS": "3"}
    text = worker.tf_config(environment, "lion-ctr-ads-node-0-2")
    assert text is not None
    config = yaml.safe_load(text)
    assert config["cluster"]["worker"] == [
        f"lion-ctr-ads-node-0-{index}.lion-ctr-ads:2222" for index in range(3)
    ]
    assert config["task"] == {"type": "worker", "index": 2}
    assert worker.tf_config({}, "lion-ctr-ads-node-0-2") is None


@pytest.mark.parametrize(
    ("workers", "host"),
    [("two", "a-node-0-1"), ("2", "laptop"), ("2", "a-node-0-2")],
)
def test_a_pod_that_cannot_know_its_peers_says_why(
    workers: str, host: str
) -> None:
    with pytest.raises(InputError, match="LIONCTR_WORKERS: received"):
        worker.tf_config({"LIONCTR_WORKERS": workers}, host)


def test_the_trainjob_for_hands_gives_what_the_worker_reads() -> None:
    text = (ROOT / "deploy/trainjob.yaml").read_text("utf-8")
    runtime, job = yaml.safe_load_all(text)
    trainer_ = job["spec"]["trainer"]
    given = {item["name"]: item["value"] for item in trainer_["env"]}
    assert given["LIONCTR_WORKERS"] == str(trainer_["numNodes"])
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    rules = replicated["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [1, 2]
    assert worker.PEER_LOST not in rules[0]["onExitCodes"]["values"]
    host = f"{job['metadata']['name']}-{replicated['name']}-0-1"
    assert worker.tf_config(given, host) is not None
