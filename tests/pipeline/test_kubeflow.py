"""Compiling for Kubeflow, and running what was compiled."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from pipeline.config import ConfigError, PipelineConfig, load
from pipeline.runners.kubeflow import compiler
from serving import manifest, warm_up
from serving.manifest import Manifest
from tests.pipeline.kubeflow_tasks import Cluster, TaskFailedError
from tests.pipeline.small import IMAGE, make_config, write_log


def compiled(config: PipelineConfig, out: Path) -> list[Any]:
    """The documents of the IR."""
    compiler.compile_to(config, IMAGE, out)
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
    compiler.compile_to(stateful(home), IMAGE, home / "pipeline.yaml")
    return home / "pipeline.yaml"


@pytest.fixture(scope="module")
def spec(ir: Path) -> dict[str, Any]:
    """The IR's first document."""
    document: dict[str, Any] = next(yaml.safe_load_all(ir.read_text("utf-8")))
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
    compiler.compile_to(stateful(home), IMAGE, again)
    assert again.read_bytes() == ir.read_bytes()


def test_every_task_is_a_container_of_our_image(spec: dict[str, Any]) -> None:
    # KFP's open source backend has no resolvers.
    executors = spec["deploymentSpec"]["executors"]
    assert len(executors) == len(spec["root"]["dag"]["tasks"]) == 12
    for executor in executors.values():
        assert executor.keys() == {"container"}
        assert executor["container"]["image"] == IMAGE
        assert executor["container"]["command"][:2] == ["python", "-m"]


def test_argo_sees_no_placeholder_but_kfps_own(ir: Path) -> None:
    text = ir.read_text("utf-8")
    # KFP's driver replaces the second one where it is a whole constant.
    name = "{{$.pipeline_job_resource_name}}"
    assert set(re.findall(r"\{\{.*?\}\}", text)) == {"{{$}}", name}
    assert text.count(name) == text.count(f"constant: '{name}'\n") == 5


def test_tasks_that_look_outside_are_never_cached(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    cached = {n for n, t in tasks.items() if t["cachingOptions"]["enableCache"]}
    outside = {"Versions", "ExampleValidator", "Baseline", "ServingGate"}
    assert tasks.keys() - cached == outside | {"Report", "Pusher"}


def test_a_curated_schema_is_a_container_task_that_depends_on_its_file(
    home: Path, tmp_path: Path
) -> None:
    config = make_config(home)
    data = config.data.model_copy(update={"curated_schema": "gs://b/s.pbtxt"})
    (document,) = compiled(make_config(home, data=data), tmp_path / "p.yaml")
    tasks = document["root"]["dag"]["tasks"]
    version = {"producerTask": "Versions", "outputParameterKey": "schema"}
    given = tasks["SchemaGen"]["inputs"]["parameters"]
    assert {"taskOutputParameter": version} in given.values()
    told = tasks["Versions"]["inputs"]["parameters"]["schema"]["runtimeValue"]
    assert told["constant"] == "gs://b/s.pbtxt"
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
    assert compiler.kfp_name(name) == expected


@pytest.mark.parametrize("root", ["gs://b/x", "s3://b/x/", "minio://b/x"])
def test_an_object_store_is_the_pipeline_root(
    home: Path, tmp_path: Path, root: str
) -> None:
    config = make_config(home, root=root)
    (document,) = compiled(config, tmp_path / "p.yaml")
    expected = f"{root.rstrip('/')}/Small_ctr"
    assert document["defaultPipelineRoot"] == expected


@pytest.mark.parametrize(
    ("root", "given", "expected"),
    [
        ("gs://b/x", None, "gs://b/x/Small_ctr/analysis_cache"),
        ("s3://b/x", None, None),
        ("minio://b/x", "/mnt/pvc/cache", "/mnt/pvc/cache"),
        ("gs://b/x", "gs://c/cache", "gs://c/cache"),
    ],
)
def test_the_analysis_cache_is_where_transform_can_read(
    home: Path, tmp_path: Path, root: str, given: str | None, expected: str
) -> None:
    config = make_config(home, root=root, transform={"cache": given})
    (document,) = compiled(config, tmp_path / "p.yaml")
    inputs = document["root"]["dag"]["tasks"]["Transform"]["inputs"]
    constant = inputs["parameters"]["custom_config"]["runtimeValue"]["constant"]
    assert json.loads(constant)["analysis_cache"] == expected


def test_a_path_as_root_leaves_it_to_the_cluster_and_says_so(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config(home, root="/mnt/pvc/runs")
    (document,) = compiled(config, tmp_path / "p.yaml")
    assert "defaultPipelineRoot" not in document
    assert "note: root: '/mnt/pvc/runs' is no object" in capfd.readouterr().err


def test_with_tfjob_the_trainer_is_a_job_of_several_pods(
    home: Path, tmp_path: Path
) -> None:
    job = {"workers": 2, "folder": "/mnt/pvc/jobs"}
    volumes = {"my-claim": "/mnt/pvc"}
    config = make_config(home, runner={"volumes": volumes, "tfjob": job})
    document, _ = compiled(config, tmp_path / "p.yaml")
    trainer = document["root"]["dag"]["tasks"]["Trainer"]["inputs"]
    given = {
        name: value["runtimeValue"]["constant"]
        for name, value in trainer["parameters"].items()
        if "runtimeValue" in value
    }
    assert given["run_fn"] == "pipeline.runners.kubeflow.tfjob.run_fn"
    received = json.loads(given["custom_config"])["tfjob"]
    assert received == {
        **job,
        "limits": {},
        "image": IMAGE,
        "volumes": volumes,
    }


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"runner": {"tfjob": {"workers": 2, "folder": "/mnt/pvc/jobs"}}},
            "tfjob.folder: received '/mnt/pvc/jobs'; accepted: a folder on a",
        ),
        (
            {
                "runner": {
                    "volumes": {"my-claim": "/mnt/pvc"},
                    "tfjob": {"workers": 2, "folder": "/mnt/pvc/jobs"},
                },
                "train": {"strategy": "one_device"},
            },
            "received 'one_device'; accepted with runner.tfjob: auto, multi",
        ),
    ],
)
def test_a_tfjob_that_cannot_work_is_refused(
    home: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(home, **sections)


def test_places_that_no_task_can_reach_are_named(home: Path) -> None:
    config = make_config(home, push={"to": "hdfs://b/models"})
    assert [line.split(":")[0] for line in compiler.unreachable(config)] == [
        "data.impressions.path",
        "push.to",
    ]
    config = make_config(
        home,
        push={"to": "s3://b/models"},
        transform={"cache": "gs://b/cache"},
        runner={"volumes": {"logs": str(home)}},
    )
    assert compiler.unreachable(config) == []
    data = config.data.model_dump() | {
        "label": None,
        "time": "age",
        "clicks": {"path": "/clicks", "format": "jsonl"},
    }
    lines = compiler.unreachable(make_config(home, data=data))
    assert any(line.startswith("data.clicks.path: '/clicks'") for line in lines)


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
        compiler.compile_to(make_config(home), image, tmp_path / "p.yaml")


def test_an_unwritable_file_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out: cannot write .*none/p.yaml"):
        compiler.compile_to(make_config(home), IMAGE, tmp_path / "none/p.yaml")


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
    metrics = finished.outputs["Evaluator"]["metrics"]["metadata"]
    assert metrics["auc"] > 0.6 and metrics["example_count"] > 300
    verdict = finished.folder("Evaluator", "verdict").read_text("utf-8")
    assert verdict.startswith("# Blessed") and "| auc | 0." in verdict
    page = finished.folder("Report", "report").read_text("utf-8")
    assert "Blessed: the push comes next." in page
    for title in ("Metrics", "Training", "Features", "Ingest", "Settings"):
        assert f"{title}</h2>" in page
    assert "could not be read" not in page and "Not shown" not in page
    served = finished.outputs["ServingGate"]["blessing"]["metadata"]
    assert served["blessed"] == 1
    assert manifest.verify(str(version))
    assert warm_up.NAME in manifest.names_of(str(version))
    model = tf.saved_model.load(str(version))
    ctr = model.signatures["serving_default"](
        price=tf.constant([1.0, 1.0]),
        age=tf.constant([30.0, 30.0]),
        site=tf.constant(["site1", "site8"]),
        device=tf.constant(["tv", "desk"]),
    )["ctr"].numpy()
    assert 0 < ctr[1] < ctr[0] < 1


def test_a_run_is_listed_where_its_state_is(
    finished: Cluster, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = home / "volume/state"
    (version,) = (home / "serving" / "Small_ctr").iterdir()
    assert cli.main(["runs", "Small_ctr", "--root", str(state), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["run"].endswith(f"-{finished.run_name}")
    assert (run["status"], run["when"][:2]) == ("done", "20")
    assert run["pushed_model"] == str(version)
    assert run["metrics"]["auc"] > 0.6
    report = Path(run["report"]).read_text("utf-8")
    assert report == finished.folder("Report", "report").read_text("utf-8")
    folder = state / "Small_ctr/runs" / run["run"]
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["artifacts"]["Evaluator"]["evaluation"].startswith("minio:")
    again = load(folder / "config.yaml")
    assert again.sections() == stateful(home).sections() | {
        "optimizer": again.sections()["optimizer"]
    }


def test_what_kfps_pages_show_has_their_types(spec: dict[str, Any]) -> None:
    report = spec["components"]["Report"]["outputDefinitions"]["artifacts"]
    assert report["report"]["artifactType"]["schemaTitle"] == "system.HTML"
    outputs = spec["components"]["Evaluator"]["outputDefinitions"]["artifacts"]
    titles = {
        name: output["artifactType"].get("schemaTitle")
        for name, output in outputs.items()
    }
    assert titles == {
        "evaluation": None,
        "blessing": None,
        "metrics": "system.Metrics",
        "roc": "system.ClassificationMetrics",
        "verdict": "system.Markdown",
    }


BEFORE_BASELINE = {
    "Versions",
    "ClickLogGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Transform",
    "Trainer",
}


@pytest.mark.ci
def test_a_second_run_on_the_same_logs_is_answered_from_the_cache(
    ir: Path, finished: Cluster, home: Path
) -> None:
    again = Cluster(ir, home / "run", cache=finished.cache)
    again.run(*BEFORE_BASELINE)
    assert again.cached == BEFORE_BASELINE - {"Versions", "ExampleValidator"}
    assert again.outputs["Trainer"] == finished.outputs["Trainer"]


@pytest.mark.ci
def test_another_log_is_read_anew(
    ir: Path, finished: Cluster, home: Path
) -> None:
    log = home / "log.tsv"
    before = log.stat()
    os.utime(log, (before.st_atime, before.st_mtime + 1))
    try:
        again = Cluster(ir, home / "run", cache=finished.cache)
        again.run("Versions", "ClickLogGen")
    finally:
        os.utime(log, (before.st_atime, before.st_mtime))
    assert again.cached == set()
    assert again.parameters["Versions"] != finished.parameters["Versions"]


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
        root="s3://bucket/runs",
        data=data,
        evaluate={"metrics": {"auc": {"min": 0.999, "min_change": -0.1}}},
    )
    out = tmp_path / "strict.yaml"
    compiler.compile_to(config, IMAGE, out)
    served = home / "serving" / "Small_ctr"
    (version,) = served.iterdir()
    described = version / manifest.NAME
    before = described.read_text("utf-8")
    known = manifest.read(str(version))
    assert known is not None
    about = {**known.about, "export_id": "yesterday's"}
    described.write_text(Manifest(known.files, about).to_json(), "utf-8")
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
    assert cluster.outputs["Evaluator"]["blessing"]["uri"].startswith("s3://")
    verdict = cluster.folder("Evaluator", "verdict").read_text("utf-8")
    assert verdict.startswith("# Refused\n\n- auc is 0.")
    blessing = cluster.outputs["Evaluator"]["blessing"]["metadata"]
    assert blessing["blessed"] == 0
    assert "baseline_model_id" in blessing
    imported = cluster.folder("SchemaGen", "schema") / "schema.pbtxt"
    assert imported.read_bytes() == schema.read_bytes()


TUNED = {
    "trials": 2,
    "optimizer.learning_rate": {"log": [1e-4, 1e-2]},
    "model.hidden": {"choice": [[8], [4, 4]]},
}


def test_the_tuner_is_a_task_whose_values_the_trainer_takes(
    home: Path, tmp_path: Path
) -> None:
    (document,) = compiled(make_config(home, tune=TUNED), tmp_path / "p.yaml")
    tasks = document["root"]["dag"]["tasks"]
    assert len(tasks) == 13
    assert "Transform" in tasks["Tuner"]["dependentTasks"]
    taken = tasks["Trainer"]["inputs"]["artifacts"]["hyperparameters"]
    assert taken["taskOutputArtifact"] == {
        "producerTask": "Tuner",
        "outputArtifactKey": "best_hyperparameters",
    }


@pytest.mark.slow
def test_the_trainer_gets_the_tuners_best_values(
    finished: Cluster, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned.yaml"
    compiler.compile_to(make_config(home, tune=TUNED), IMAGE, out)
    cluster = continued(finished, out, home)
    for name in ("Tuner", "Trainer"):
        cluster.outputs[name] = cluster.run_task(name)
    results = cluster.folder("Tuner", "tuner_results") / "tuner_results.json"
    best = min(json.loads(results.read_text()), key=lambda r: r["score"])
    training = json.loads(
        (cluster.folder("Trainer", "model_run") / "training.json").read_text()
    )
    assert training["tuned"] == {
        "optimizer.learning_rate": best["optimizer.learning_rate"],
        "model.hidden": json.loads(best["model.hidden"]),
    }


def stateful(home: Path, **sections: Any) -> PipelineConfig:
    """The small pipeline, whose tasks keep their state on a volume."""
    return make_config(
        home,
        runner={
            "volumes": {"my-claim": str(home / "volume")},
            "kubeflow": {"state": str(home / "volume/state")},
        },
        **sections,
    )


def continued(finished: Cluster, ir: Path, home: Path) -> Cluster:
    """Another pipeline's run, after the tasks of `finished`."""
    return Cluster(ir, home / "run", finished.outputs, finished.parameters)


@pytest.mark.ci
def test_a_killed_trainer_goes_on_from_its_checkpoint(
    finished: Cluster, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "long.yaml"
    train = {"batch_size": 64, "epochs": 40, "jit": False, "eval_steps": 500}
    config = stateful(home, train={**train, "checkpoint_steps": 20})
    compiler.compile_to(config, IMAGE, out)
    cluster = continued(finished, out, home)
    checkpoints = home / "volume/state/Small_ctr/checkpoints"
    with pytest.raises(TaskFailedError) as killed:
        cluster.run_task(
            "Trainer", kill=lambda: any(checkpoints.glob("*/step-*40"))
        )
    assert killed.value.code == -9
    cluster.outputs["Trainer"] = cluster.run_task("Trainer")
    training = json.loads(
        (cluster.folder("Trainer", "model_run") / "training.json").read_text()
    )
    assert 40 <= training["resumed_at_step"] < training["steps"]
    assert not list(checkpoints.glob("*/step-*"))


@pytest.mark.slow
def test_a_killed_tuner_repeats_no_trial(
    finished: Cluster, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned.yaml"
    compiler.compile_to(stateful(home, tune={**TUNED, "trials": 3}), IMAGE, out)
    cluster = continued(finished, out, home)
    trials = home / "volume/state/Small_ctr/trials"
    with pytest.raises(TaskFailedError):
        cluster.run_task("Tuner", kill=lambda: any(trials.glob("*.json")))
    ended = len(list(trials.glob("*.json")))
    assert 0 < ended < 3
    cluster.run_task("Tuner")
    log = (home / "run/pods/Tuner").rglob("executor-logs")
    text = "".join(path.read_text("utf-8") for path in log)
    assert text.count("(done before)") == ended


@pytest.mark.slow
def test_a_warm_start_is_found_anew_only_if_its_base_is_another(
    finished: Cluster, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "warm.yaml"
    train = {"batch_size": 64, "jit": False, "warm_start": "latest_blessed"}
    compiler.compile_to(make_config(home, train=train), IMAGE, out)
    before = {n: o for n, o in finished.outputs.items() if n != "Versions"}
    cache: dict[str, Any] = {}
    for number in (1, 2):
        cluster = Cluster(out, home / "run", before, cache=cache)
        cluster.run("Versions", "WarmStart")
        assert cluster.cached == ({"WarmStart"} if number == 2 else set())
    (found,) = cluster.folder("WarmStart", "base_model").rglob("base.json")
    (version,) = (home / "serving" / "Small_ctr").iterdir()
    assert json.loads(found.read_text("utf-8"))["model"] == str(version)
    assert str(version) in cluster.parameters["Versions"]["base"]


def test_transform_waits_for_the_base_whose_counts_it_goes_on_from(
    home: Path, tmp_path: Path
) -> None:
    data = make_config(home).model_dump(mode="json")["data"]
    data |= {"time": "seen", "split": {"by": "time", "eval": 0.2}}
    train = {"warm_start": "latest_blessed"}
    for more, before, after in (
        ({}, "Transform", "WarmStart"),
        ({"admission": 7}, "WarmStart", "Transform"),
    ):
        features = {"categorical": [{"name": "site", **more}]}
        sections = {"data": data, "features": features, "train": train}
        found = compiled(make_config(home, **sections), tmp_path / "p.yaml")
        tasks = found[0]["root"]["dag"]["tasks"]
        assert before in tasks[after]["dependentTasks"]
        artifacts = tasks["Transform"]["inputs"]["artifacts"]
        assert ("base_model" in artifacts) == bool(more)
        text = json.dumps(tasks["ClickLogGen"]["inputs"])
        assert ("times" in text) == bool(more)


def test_weights_and_times_reach_the_tasks(home: Path, tmp_path: Path) -> None:
    config = make_config(home).model_dump(mode="json")
    data = config["data"] | {"time": "seen"}
    data["weight"] = {"propensity": "chance", "clip": 20}
    features = config["features"] | {"time": ["hour"]}
    (document,) = compiled(
        make_config(home, data=data, features=features), tmp_path / "p.yaml"
    )
    text = json.dumps(document).replace("\\", "")
    assert '"propensity": "chance"' in text or '"propensity":"chance"' in text
    assert '"weighted": true' in text
    assert '"column": "seen"' in text and '"seen": ["time", null' in text


def test_kinds_of_features_and_calibration_reach_the_tasks(
    home: Path, tmp_path: Path
) -> None:
    """Within the length that the launcher can give to a process."""
    config = make_config(home).model_dump(mode="json")
    features = config["features"] | {
        "categorical": [
            {"name": "site", "dim": 8},
            {"name": "tags", "list": "|", "weights": ":"},
        ],
        "crosses": [],
        "vectors": [{"name": "picture", "size": 3}],
        "sequences": [
            {"from": "impressions", "of": "user", "items": "site",
             "sides": [{"of": "seen"}]},
            {"of": "bought", "items": "site", "order": "newest_first"},
        ],
    }  # fmt: skip
    split = {"by": "hash", "eval": 0.2, "test": 0.1}
    (document,) = compiled(
        make_config(
            home,
            data=config["data"] | {"time": "seen", "split": split},
            features=features,
            model={"name": "din", "hidden": [8]},
            evaluate={"calibrate": "isotonic"},
        ),
        tmp_path / "p.yaml",
    )
    tasks = document["root"]["dag"]["tasks"]
    for task in tasks.values():  # ExecutorInput is one argument: 128 KiB
        assert len(json.dumps(task.get("inputs", {}))) < 100_000
    texts = {n: json.dumps(t).replace("\\", "") for n, t in tasks.items()}
    for name, words in (
        ("ClickLogGen", ('"from": "impressions"', '"picture"')),
        ("Transform", ('"newest_first"', '"weights": ":"')),
        ("Trainer", ('"din"', '"isotonic"', '"picture"')),
    ):
        for word in words:
            compact = word.replace(": ", ":")
            assert word in texts[name] or compact in texts[name], (name, word)


def test_the_service_is_the_last_task_of_the_compiled_pipeline(
    tmp_path: Path,
) -> None:
    config = make_config(
        tmp_path,
        push={"to": "gs://bucket/models"},
        runner={"kubeflow": {"kserve": {"canary": 5}}},
    )
    compiler.compile_to(config, IMAGE, tmp_path / "p.yaml")
    (document,) = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    task = document["root"]["dag"]["tasks"]["KServe"]
    assert task["dependentTasks"] == ["Pusher"]
    text = task["inputs"]["parameters"]["kserve"]["runtimeValue"]["constant"]
    told = json.loads(text)
    assert told["storage_uri"] == "gs://bucket/models/Small_ctr"
    assert (told["name"], told["canary"]) == ("small-ctr", 5)
