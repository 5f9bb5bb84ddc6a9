"""Compiling for Kubeflow, running what was compiled, submitting it."""

import json
import random
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli, kubeflow
from pipeline.config import ConfigError, PipelineConfig
from tests.pipeline.kubeflow_tasks import Cluster, TaskFailedError

IMAGE = "registry:5000/team/lion-ctr:0.1"


def make_config(home: Path, **sections: Any) -> PipelineConfig:
    """A tiny pipeline over `home/log.tsv`, pushing to `home/serving`."""
    values: dict[str, Any] = {
        "name": "Small_ctr",
        "root": "minio://mlpipeline/v2/artifacts",
        "data": {
            "impressions": {
                "path": str(home / "log.tsv"),
                "format": "tsv",
                "header": True,
            },
            "label": "click",
            "split": {"by": "hash", "eval": 0.2},
        },
        "features": {
            "numeric": ["price", "age"],
            "categorical": [
                "site",
                {"name": "device", "encode": "hash", "buckets": 16},
            ],
            "crosses": [{"of": ["site", "device"], "buckets": 50}],
        },
        "model": {"hidden": [8]},
        "optimizer": {"name": "lion", "learning_rate": 3e-3},
        "train": {"batch_size": 64, "epochs": 3, "jit": False},
        "evaluate": {"metrics": {"auc": {"min": 0.6}}, "slices": [["device"]]},
        "push": {"to": str(home / "serving")},
    }
    return PipelineConfig.model_validate(values | sections)


def write_log(path: Path, rows: int = 2000) -> None:
    """Clicks that depend on the site and the device."""
    draw = random.Random(1)
    lines = ["click\tprice\tage\tsite\tdevice"]
    for _ in range(rows):
        site, device = draw.randrange(10), draw.choice(["phone", "desk", "tv"])
        click = draw.random() < 0.05 + 0.5 * (site < 3) + 0.3 * (device == "tv")
        price = f"{draw.random() * 10:.3f}" if draw.random() < 0.95 else ""
        age = draw.randrange(60)
        lines.append(f"{int(click)}\t{price}\t{age}\tsite{site}\t{device}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


def compiled(config: PipelineConfig, out: Path) -> list[Any]:
    """The documents of the IR."""
    kubeflow.compile_to(config, IMAGE, out)
    return list(yaml.safe_load_all(out.read_text("utf-8")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, as a volume of the cluster would have it."""
    folder = tmp_path_factory.mktemp("kubeflow")
    write_log(folder / "log.tsv")
    return folder


@pytest.fixture(scope="module")
def ir(home: Path) -> Path:
    """The small pipeline, compiled."""
    kubeflow.compile_to(make_config(home), IMAGE, home / "pipeline.yaml")
    return home / "pipeline.yaml"


@pytest.fixture(scope="module")
def spec(ir: Path) -> dict[str, Any]:
    """The IR's first document."""
    document: dict[str, Any] = yaml.safe_load(ir.read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def finished(ir: Path, home: Path) -> Cluster:
    """The small pipeline after all its tasks."""
    cluster = Cluster(ir, home / "run")
    cluster.run()
    return cluster


def test_the_same_config_gives_the_same_bytes(
    ir: Path, home: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.yaml"
    kubeflow.compile_to(make_config(home), IMAGE, again)
    assert again.read_bytes() == ir.read_bytes()


def test_every_task_is_a_container_of_our_image(spec: dict[str, Any]) -> None:
    # KFP's open source backend has no resolvers.
    executors = spec["deploymentSpec"]["executors"]
    assert len(executors) == len(spec["root"]["dag"]["tasks"]) == 9
    for executor in executors.values():
        assert executor.keys() == {"container"}
        assert executor["container"]["image"] == IMAGE
        assert executor["container"]["command"][:2] == ["python", "-m"]


def test_argo_sees_no_placeholder_but_the_executor_input(ir: Path) -> None:
    assert set(re.findall(r"\{\{.*?\}\}", ir.read_text("utf-8"))) == {"{{$}}"}


def test_tasks_that_look_outside_are_never_cached(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    cached = {n for n, t in tasks.items() if t["cachingOptions"]["enableCache"]}
    assert tasks.keys() - cached == {"ClickLogGen", "Baseline", "Pusher"}


def test_a_curated_schema_is_a_container_task_that_is_never_cached(
    home: Path, tmp_path: Path
) -> None:
    config = make_config(home)
    data = config.data.model_copy(update={"curated_schema": "gs://b/s.pbtxt"})
    (document,) = compiled(make_config(home, data=data), tmp_path / "p.yaml")
    task = document["root"]["dag"]["tasks"]["SchemaGen"]
    assert task["cachingOptions"] == {"enableCache": False}
    executors = document["deploymentSpec"]["executors"]
    assert executors["SchemaGen_executor"].keys() == {"container"}


def test_the_pipeline_has_kfps_name_and_the_model_has_ours(
    home: Path, spec: dict[str, Any]
) -> None:
    assert spec["pipelineInfo"]["name"] == "small-ctr"
    pusher = spec["root"]["dag"]["tasks"]["Pusher"]["inputs"]["parameters"]
    pushed = json.loads(pusher["push_destination"]["runtimeValue"]["constant"])
    assert pushed["filesystem"]["base_directory"] == str(
        home / "serving" / "Small_ctr"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("criteo", "criteo"),
        ("Criteo_1TB", "criteo-1tb"),
        ("a__b-", "a-b"),
        ("x" * 200, "x" * 128),
    ],
)
def test_names_follow_kfps_rules(name: str, expected: str) -> None:
    assert kubeflow.kfp_name(name) == expected


@pytest.mark.parametrize("root", ["gs://b/x", "s3://b/x/", "minio://b/x"])
def test_an_object_store_is_the_pipeline_root(
    home: Path, tmp_path: Path, root: str
) -> None:
    config = make_config(home, root=root)
    (document,) = compiled(config, tmp_path / "p.yaml")
    expected = f"{root.rstrip('/')}/Small_ctr"
    assert document["defaultPipelineRoot"] == expected


def test_a_path_as_root_leaves_it_to_the_cluster_and_says_so(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config(home, root="/mnt/pvc/runs")
    (document,) = compiled(config, tmp_path / "p.yaml")
    assert "defaultPipelineRoot" not in document
    assert "note: root: '/mnt/pvc/runs' is no object" in capfd.readouterr().err


def test_places_that_no_task_can_reach_are_named(home: Path) -> None:
    config = make_config(home, push={"to": "s3://b/models"})
    assert [line.split(":")[0] for line in kubeflow.unreachable(config)] == [
        "data.impressions.path",
        "push.to",
    ]
    config = make_config(
        home,
        push={"to": "gs://b/models"},
        runner={"volumes": {"logs": str(home)}},
    )
    assert kubeflow.unreachable(config) == []


def test_volumes_are_mounted_in_every_task(home: Path, tmp_path: Path) -> None:
    from kfp import components

    out = tmp_path / "p.yaml"
    config = make_config(home, runner={"volumes": {"my-claim": "/mnt/pvc"}})
    document, platform = compiled(config, out)
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert mounts.keys() == document["deploymentSpec"]["executors"].keys()
    for mount in mounts.values():
        assert mount["pvcMount"][0]["constant"] == "my-claim"
        assert mount["pvcMount"][0]["mountPath"] == "/mnt/pvc"
    loaded = components.load_component_from_file(str(out))
    assert "kubernetes" in loaded.platform_spec.platforms


@pytest.mark.parametrize(
    "image", ["", "team/Upper:1", "a b", "name:", "name@sha256:12", "--image"]
)
def test_a_wrong_image_is_refused(
    home: Path, tmp_path: Path, image: str
) -> None:
    with pytest.raises(ConfigError, match=r"--image: received .*accepted: "):
        kubeflow.compile_to(make_config(home), image, tmp_path / "p.yaml")


def test_an_unwritable_file_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out: cannot write .*none/p.yaml"):
        kubeflow.compile_to(make_config(home), IMAGE, tmp_path / "none/p.yaml")


def test_every_task_runs_to_a_pushed_model(
    finished: Cluster, home: Path
) -> None:
    import tensorflow as tf

    assert finished.outputs.keys() == finished.tasks.keys()
    (version,) = (home / "serving" / "Small_ctr").iterdir()
    pushed = finished.outputs["Pusher"]["pushed_model"]["metadata"]
    assert pushed["pushed_destination"] == str(version)
    assert finished.outputs["ClickLogGen"]["examples"]["metadata"]["read"] == (
        2000.0
    )
    model = tf.saved_model.load(str(version))
    ctr = model.signatures["serving_default"](
        price=tf.constant([1.0, 1.0]),
        age=tf.constant([30.0, 30.0]),
        site=tf.constant(["site1", "site8"]),
        device=tf.constant(["tv", "desk"]),
    )["ctr"].numpy()
    assert 0 < ctr[1] < ctr[0] < 1


@pytest.mark.slow
def test_a_refused_model_fails_the_run_and_is_not_pushed(
    finished: Cluster, home: Path, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.pbtxt"
    shutil.copy(finished.folder("SchemaGen", "schema") / "schema.pbtxt", schema)
    data = make_config(home).data.model_copy(
        update={"curated_schema": str(schema)}
    )
    config = make_config(
        home,
        data=data,
        evaluate={"metrics": {"auc": {"min": 0.999, "min_change": -0.1}}},
    )
    out = tmp_path / "strict.yaml"
    kubeflow.compile_to(config, IMAGE, out)
    served = home / "serving" / "Small_ctr"
    (version,) = served.iterdir()
    described = version / "assets.extra" / "lion_ctr.json"
    before = described.read_text("utf-8")
    described.write_text(json.dumps({"export_id": "yesterday's"}), "utf-8")
    try:
        outputs = {
            name: finished.outputs[name]
            for name in ("ClickLogGen", "StatisticsGen", "Transform", "Trainer")
        }
        cluster = Cluster(out, home / "run", outputs)
        with pytest.raises(TaskFailedError) as failure:
            cluster.run()
    finally:
        described.write_text(before, "utf-8")
    assert failure.value.name == "Pusher"
    assert failure.value.code == 1
    assert "The model is not blessed" in failure.value.log
    assert "Traceback" not in failure.value.log
    assert list(served.iterdir()) == [version]
    assert list(cluster.folder("Baseline", "baseline").rglob("*.pb"))
    blessing = cluster.outputs["Evaluator"]["blessing"]["metadata"]
    assert blessing["blessed"] == 0
    assert "baseline_model_id" in blessing
    imported = cluster.folder("SchemaGen", "schema") / "schema.pbtxt"
    assert imported.read_bytes() == schema.read_bytes()


def submit(config: PipelineConfig, host: str, tmp_path: Path) -> int:
    """`lionctr submit --wait`."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()), "utf-8")
    return cli.main(
        ["submit", str(path), "--host", host, "--image", IMAGE, "--wait"]
    )


def test_submitting_without_kfp_says_what_to_install(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    assert submit(make_config(home), "http://localhost:1", tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'lion-ctr[kubeflow]'" in error


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:1", "nowhere.invalid", "http://x:port"]
)
def test_an_unreachable_host_is_one_line(
    home: Path, tmp_path: Path, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert submit(make_config(home), host, tmp_path) == 1
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
    home: Path,
    tmp_path: Path,
    api: str,
    state: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Api, "state", state)
    assert submit(make_config(home), api, tmp_path) == code
    printed = capfd.readouterr().out
    assert printed == f"{api}/#/runs/details/r1\n{state}\n"
    (run,) = _Api.runs
    assert run["experiment_id"] == "e1"
    assert run["pipeline_spec"]["pipelineInfo"]["name"] == "small-ctr"
    assert run["runtime_config"]["pipeline_root"] == (
        "minio://mlpipeline/v2/artifacts/Small_ctr"
    )


def test_a_refused_submission_is_one_line(
    home: Path,
    tmp_path: Path,
    api: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Api, "refuses", True)
    config = make_config(
        home,
        push={"to": "gs://b/models"},
        runner={"volumes": {"logs": str(home)}},
    )
    assert submit(config, api, tmp_path) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "400 Bad Request" in error
