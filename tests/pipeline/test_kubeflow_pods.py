"""`runner.kubeflow`: what is asked of the cluster, and what is refused."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import tfx  # noqa: F401 (not among the quick tests)
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

from pipeline.config import ConfigError, RunnerConfig, load
from pipeline.kubeflow_config import TASKS, KubeflowConfig
from pipeline.runners.kubeflow import compiler, steps
from pipeline.runners.kubeflow.inputs import WEBHOOK
from tests.pipeline.small import IMAGE, make_config

DEFAULTS = {
    "requests": {"cpu": 1, "memory": "2Gi"},
    "limits": {"cpu": "1500m", "memory": "8Gi"},
    "node_selector": {"pool": "cpu"},
    "env": {"TZ": "UTC", "LEVEL": 3},
    "secrets": [
        {"name": "s3", "env": {"AWS_ACCESS_KEY_ID": "accesskey"}},
        {"name": "gcp", "mount": "/secrets/gcp"},
    ],
    "image_pull_secrets": ["registry"],
    "image_pull_policy": "Always",
    "retries": 2,
    "timeout": 7200,
    "labels": {"team": "ads"},
}
TRAINER = {
    "limits": {"cpu": 8},
    "accelerator": {"count": 2},
    "node_selector": {"pool": "gpu", "zone": "a"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ],
    "env": {"LEVEL": "4"},
    "retries": {"count": 5, "delay": 30, "max_delay": 600},
    "annotations": {"sidecar.istio.io/inject": "false"},
}


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled pipeline, as KFP's own SDK reads it."""
    home = tmp_path_factory.mktemp("pods")
    section = {
        "defaults": DEFAULTS,
        "tasks": {"Trainer": TRAINER},
        "notify": {"webhook": "chat"},
        "kserve": {"storage_uri": "pvc://my-claim/serving/Small_ctr"},
    }
    volumes = {"my-claim": "/mnt/pvc"}
    train = {"batch_size": 64, "warm_start": "latest_blessed"}
    config = make_config(
        home,
        runner={"kubeflow": section, "volumes": volumes},
        train=train,
        tune={"trials": 2, "optimizer.learning_rate": {"log": [1e-4, 1e-2]}},
    )
    compiler.compile_to(config, IMAGE, home / "p.yaml")
    return components.load_component_from_file(str(home / "p.yaml"))


def pod_of(component: Any, task: str) -> kubernetes.KubernetesExecutorConfig:
    """A task's Kubernetes part, as KFP's driver parses it."""
    platform = json_format.MessageToDict(component.platform_spec)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]
    return json_format.ParseDict(
        executors["executors"][f"{task}_executor"],
        kubernetes.KubernetesExecutorConfig(),
    )


def container_of(component: Any, task: str) -> Any:
    executors = component.pipeline_spec.deployment_spec["executors"]
    return json_format.MessageToDict(executors[f"{task}_executor"])["container"]


def tasks_of(component: Any) -> dict[str, Any]:
    """The tasks of the pipeline, and the one after it."""
    spec = component.pipeline_spec
    whole = spec.components["Pipeline"].dag.tasks
    return {**whole, "Notify": spec.root.dag.tasks["Notify"]}


def test_every_task_of_a_pipeline_may_be_named(component: Any) -> None:
    assert tasks_of(component).keys() == set(TASKS)


def test_a_task_tells_of_the_end_whatever_became_of_the_others(
    component: Any,
) -> None:
    root = component.pipeline_spec.root.dag.tasks
    assert root.keys() == {"Pipeline", "Notify"}
    notify = root["Notify"]
    assert list(notify.dependent_tasks) == ["Pipeline"]
    assert notify.trigger_policy.strategy == (
        notify.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
    )
    status = notify.inputs.parameters["status"].task_final_status
    assert status.producer_task == "Pipeline"
    *_, webhook = pod_of(component, "Notify").secret_as_env
    assert webhook.secret_name == "chat"
    (variable,) = webhook.key_to_env
    assert (variable.secret_key, variable.env_var) == ("url", WEBHOOK)


@pytest.mark.parametrize("fails", [False, True])
def test_the_webhook_is_told_how_the_run_ended(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fails: bool,
) -> None:
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            told.append(json.loads(self.rfile.read(size)))
            self.send_response(500 if fails else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    monkeypatch.setattr(steps.time, "sleep", lambda seconds: None)
    status = {
        "state": "FAILED",
        "pipelineJobResourceName": "small-ctr-x7",
        "error": {"message": "Trainer failed"},
    }
    task = json.dumps({"inputs": {"parameterValues": {"status": status}}})
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(
            target=server.serve_forever, args=(0.02,), daemon=True
        ).start()
        url = f"http://127.0.0.1:{server.server_port}/secret-path"
        monkeypatch.setenv(WEBHOOK, url)
        code = steps.main(["notify", task])
        server.shutdown()
    assert code == (2 if fails else 0)
    assert len(told) == (3 if fails else 1)
    assert told[0] == {
        "text": "small-ctr-x7: FAILED: Trainer failed",
        "run": "small-ctr-x7",
        "status": "FAILED",
        "error": "Trainer failed",
    }
    assert "secret-path" not in capfd.readouterr().err


def test_the_defaults_are_each_tasks(component: Any) -> None:
    for task in TASKS:
        if task == "Trainer":
            continue
        pod = pod_of(component, task)
        assert dict(pod.node_selector.labels) == {"pool": "cpu"}
        variables, *_ = pod.secret_as_env
        assert variables.secret_name == "s3"
        (variable,) = variables.key_to_env
        assert variable.env_var == "AWS_ACCESS_KEY_ID"
        assert variable.secret_key == "accesskey"
        (files,) = pod.secret_as_volume
        assert (files.secret_name, files.mount_path) == ("gcp", "/secrets/gcp")
        assert [s.secret_name for s in pod.image_pull_secret] == ["registry"]
        assert pod.image_pull_policy == "Always"
        assert pod.active_deadline_seconds == 7200
        assert dict(pod.pod_metadata.labels) == {"team": "ads"}
        assert [mount.mount_path for mount in pod.pvc_mount] == ["/mnt/pvc"]
        container = container_of(component, task)
        assert container["resources"] == {
            "resourceCpuRequest": "1",
            "cpuRequest": 1.0,
            "resourceCpuLimit": "1500m",
            "cpuLimit": 1.5,
            "resourceMemoryRequest": "2Gi",
            "memoryRequest": 2**31 / 1e9,
            "resourceMemoryLimit": "8Gi",
            "memoryLimit": 2**33 / 1e9,
        }
        assert {"name": "LEVEL", "value": "3"} in container["env"]
        retries = tasks_of(component)[task].retry_policy
        assert retries.max_retry_count == 2


def test_a_tasks_own_settings_go_before_the_defaults(component: Any) -> None:
    pod = pod_of(component, "Trainer")
    assert dict(pod.node_selector.labels) == {"pool": "gpu", "zone": "a"}
    (toleration,) = pod.tolerations
    assert (toleration.key, toleration.operator, toleration.effect) == (
        "nvidia.com/gpu",
        "Exists",
        "NoSchedule",
    )
    annotations = dict(pod.pod_metadata.annotations)
    assert annotations == {"sidecar.istio.io/inject": "false"}
    assert dict(pod.pod_metadata.labels) == {"team": "ads"}
    container = container_of(component, "Trainer")
    assert {e["name"]: e["value"] for e in container["env"]} == {
        "TZ": "UTC",
        "LEVEL": "4",
    }
    resources = container["resources"]
    assert resources["resourceCpuLimit"] == "8"
    assert resources["resourceMemoryLimit"] == "8Gi"
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    retries = tasks_of(component)["Trainer"].retry_policy
    assert retries.max_retry_count == 5
    assert retries.backoff_duration.seconds == 30
    assert retries.backoff_factor == 2
    assert retries.backoff_max_duration.seconds == 600


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"tasks": {"Trainr": {}}},
            "unknown task 'Trainr' (did you mean 'Trainer'?). Accepted: Base",
        ),
        (
            {"defaults": {"request": {"cpu": 1}}},
            (
                "runner.kubeflow.defaults.request: unknown key (did you mean"
                " 'requests'?)"
            ),
        ),
        (
            {"defaults": {"limits": {"memory": "8 GB"}}},
            "runner.kubeflow.defaults.limits.memory: received '8 GB'",
        ),
        (
            {"defaults": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}},
            "requests.cpu 2 is above limits.cpu 500m",
        ),
        (
            {
                "defaults": {"limits": {"memory": "1Gi"}},
                "tasks": {"Trainer": {"requests": {"memory": "2Gi"}}},
            },
            "tasks.Trainer, with defaults: requests.memory 2Gi is above",
        ),
        (
            {"defaults": {"secrets": [{"name": "s3"}]}},
            "give `env` ({VARIABLE: key}) or `mount` (/path)",
        ),
        (
            {"defaults": {"tolerations": [{"operator": "Equal"}]}},
            "`key` is required with operator Equal",
        ),
        (
            {"state": "/mnt/pvc/state"},
            (
                "kubeflow.state: received '/mnt/pvc/state'; accepted: a folder"
                " on a volume of runner.volumes, gs://, s3://, minio://"
            ),
        ),
    ],
)
def test_a_wrong_pod_is_refused(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    values = make_config(tmp_path).resolved()
    values["runner"] = {"kubeflow": section}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    with pytest.raises(ConfigError) as failure:
        load(path)
    assert message in str(failure.value)


def test_a_gpu_on_an_image_without_cuda_is_told(tmp_path: Path) -> None:
    section = {"tasks": {"Trainer": {"accelerator": {}}}}
    config = make_config(tmp_path, runner={"kubeflow": section})
    (line,) = [
        line
        for line in compiler.advice(config, IMAGE)
        if line.startswith("runner.kubeflow:")
    ]
    assert "Trainer asks for a GPU" in line and repr(IMAGE) in line
    lines = compiler.advice(config, "registry/lion-ctr:0.1-gpu")
    assert not any("GPU" in line for line in lines)


@pytest.mark.parametrize(
    ("root", "runner", "folder"),
    [
        ("gs://b/x", {}, "gs://b/x/Small_ctr"),
        ("minio://b/x", {}, None),
        (
            "minio://b/x",
            {"kubeflow": {"state": "s3://state/x"}},
            "s3://state/x/Small_ctr",
        ),
        (
            "minio://b/x",
            {
                "volumes": {"claim": "/mnt/pvc"},
                "kubeflow": {"state": "/mnt/pvc/state/"},
            },
            "/mnt/pvc/state/Small_ctr",
        ),
    ],
)
def test_what_outlives_a_task_is_where_tensorflow_reads(
    tmp_path: Path, root: str, runner: dict[str, Any], folder: str | None
) -> None:
    config = make_config(
        tmp_path,
        root=root,
        runner=runner,
        tune={"trials": 2, "optimizer.learning_rate": {"log": [1e-4, 1e-2]}},
    )
    spec = compiler.compiled(config, IMAGE)[0]
    tasks = spec["root"]["dag"]["tasks"]
    for task, name in [
        ("Trainer", "checkpoints"),
        ("Tuner", "checkpoints"),
        ("Tuner", "trials"),
        ("Transform", "analysis_cache"),
    ]:
        given = tasks[task]["inputs"]["parameters"]["custom_config"]
        custom = yaml.safe_load(given["runtimeValue"]["constant"])
        assert custom[name] == (folder and f"{folder}/{name}")
    told = compiler.advice(config, IMAGE)
    assert bool(told) == (folder is None)


def test_a_number_is_a_count_of_retries() -> None:
    config = KubeflowConfig.model_validate({"defaults": {"retries": 3}})
    pod = config.pod("Trainer")
    assert pod.retries is not None and pod.retries.count == 3


def test_the_manuals_yaml_is_accepted() -> None:
    manual = Path(__file__).resolve().parents[2] / "docs" / "kubeflow.md"
    blocks = re.findall(
        r"```yaml\n(.*?)```", manual.read_text("utf-8"), re.DOTALL
    )
    assert len(blocks) == 5
    for block in blocks:
        RunnerConfig.model_validate(yaml.safe_load(block)["runner"])
