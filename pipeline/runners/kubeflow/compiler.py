"""Compiles a pipeline for Kubeflow Pipelines v2."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from models.config.architectures import OwnConfig
from pipeline import extensions
from pipeline.config import ConfigError, PipelineConfig
from pipeline.console import quiet
from pipeline.kubeflow_config import STATE_STORES, TASKS
from pipeline.runners.kubeflow import ir, kserve, pages, report, run_folder
from pipeline.runners.kubeflow import pods as kubeflow_pods
from pipeline.runners.kubeflow.api import KubeflowError
from pipeline.runners.kubeflow.inputs import mark
from serving.object_store import SCHEMES

_COMMAND = ("python", "-m", "pipeline.runners.kubeflow.task")
_STORES = ("gs://", "s3://", "minio://")
_NAME_LENGTH = 128
# They look at what is served.
_OUTSIDE = {"Baseline", "ExampleValidator", "Pusher", "ServingGate"}
_IMAGE = re.compile(
    r"([A-Za-z0-9.-]+(:\d+)?/)?"  # registry
    r"[a-z0-9]+(([._-]+|/)[a-z0-9]+)*"  # repository
    r"(:\w[\w.-]{0,127})?"  # tag
    r"(@sha256:[0-9a-f]{64})?"
)


def compile_to(config: PipelineConfig, image: str, out: Path) -> None:
    """Writes the KFP v2 IR of `config`'s pipeline to `out`, as YAML.

    Raises:
        ConfigError: `image` is no image, `out` cannot be written.
        KubeflowError: the `kubeflow` extra is not installed.
    """
    documents = compiled(config, image)
    text = yaml.safe_dump_all(documents, sort_keys=True, width=1 << 20)
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"--out: cannot write {out}: {error.strerror}"
        ) from error
    for line in advice(config, image):
        print(f"note: {line}", file=sys.stderr)


def compiled(config: PipelineConfig, image: str) -> list[dict[str, Any]]:
    """The IR of `config`'s pipeline: the spec, and the platform's part.

    Tells on standard error what of the config a cluster cannot reach.

    Raises:
        ConfigError: `image` is no image.
        KubeflowError: the `kubeflow` extra is not installed.
    """
    check_image(image)
    import_kfp()
    # TensorFlow's start-up notices are no part of the answer.
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(Path(folder) / "log.txt"),
    ):
        documents = _documents(config, image)
    for line in unreachable(config):
        print(f"note: {line}", file=sys.stderr)
    return documents


def kfp_name(name: str) -> str:
    """`name` as KFP wants it: lower case letters, digits, hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return plain[:_NAME_LENGTH].strip("-")


def unreachable(config: PipelineConfig) -> list[str]:
    """One line for each place that a task in a cluster would not find."""
    lines = []
    if pipeline_root(config) is None:
        lines.append(
            f"root: {config.root!r} is no object store, where Kubeflow keeps"
            " artifacts; the cluster's own is used. Accepted:"
            f" {', '.join(_STORES)}"
        )
    places = [
        *(
            (f"data.{name}.path", path)
            for name, log in config.data.logs.items()
            for path in log.path
        ),
        ("data.curated_schema", config.data.curated_schema),
        ("transform.cache", config.transform.cache),
        ("train.warm_start", _path(config.train.warm_start)),
        ("push.to", config.push.to),
    ]
    mounts = [path.rstrip("/") + "/" for path in config.runner.volumes.values()]
    for field, place in places:
        # Beam reads logs and schema; it knows no minio://.
        read = field.startswith("data.")
        known = ("gs://", "s3://") if read else SCHEMES
        if place is None or place.startswith((*known, *mounts)):
            continue
        if "://" in place:
            lines.append(
                f"{field}: the image has no file system for {place!r}; use"
                f" {', '.join(known)} or a volume of runner.volumes, or add"
                " one to the image"
            )
        else:
            lines.append(
                f"{field}: {place!r} is a path inside each task's container;"
                " use gs://, s3:// or a path on a volume of runner.volumes"
                " ({claim: /mount/path})"
            )
    return lines


def advice(config: PipelineConfig, image: str) -> list[str]:
    """One line for each thing of the pods that is likely not meant."""
    lines = []
    if (
        state_folder(config, "checkpoints") is None
        and config.runner.tfjob is None
    ):
        lines.append(
            "runner.kubeflow.state: not set; a killed Trainer or Tuner restarts"
            " at its first step. Accepted: a folder on a volume of"
            " runner.volumes,"
            f" {', '.join(STATE_STORES)}"
        )
    pods = config.runner.kubeflow
    wanted = [
        name
        for name in TASKS
        if (device := pods.pod(name).accelerator) is not None
        and device.type.startswith("nvidia.com/")
    ]
    if wanted and not re.search("gpu|cuda", image, re.IGNORECASE):
        lines.append(
            f"runner.kubeflow: {', '.join(wanted)} asks for a GPU, but the"
            f" image {image!r} names none: TensorFlow sees a GPU only with"
            " CUDA's libraries, which `docker build --build-arg CUDA=1` adds"
            " (name such an image so: gpu or cuda)"
        )
    return lines


def _path(warm_start: str | None) -> str | None:
    return None if warm_start == "latest_blessed" else warm_start


def _documents(config: PipelineConfig, image: str) -> list[dict[str, Any]]:
    """The IR, and where there are volumes what Kubernetes must know."""
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as tfx

    from pipeline import dag

    outputs = _version_names(config)
    marks = {name: mark(name) for name in outputs}
    job = tfx.KubeflowV2DagRunner(
        tfx.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(_COMMAND),
            use_pipeline_spec_2_1=True,
        )
    ).run(
        dag.create_pipeline(
            config,
            pipeline_root(config) or "",
            dag.Versions(code=dag.code_versions(), **marks),
            pipeline_name=kfp_name(config.name),
            tfjob=_tfjob(config, image),
            analysis_cache=state_folder(config, "analysis_cache"),
            checkpoints=state_folder(config, "checkpoints"),
            trials=state_folder(config, "trials"),
        ),
        write_out=False,
    )
    spec: dict[str, Any] = job["pipelineSpec"]
    root = pipeline_root(config)
    if root is not None:
        spec["defaultPipelineRoot"] = root
    tasks = spec["root"]["dag"]["tasks"]
    for name in _OUTSIDE & tasks.keys():
        tasks[name]["cachingOptions"] = {"enableCache": False}
    ir.declare_outputs(spec)
    pages.add_outputs(spec)
    runs = state_folder(config, "runs")
    report.add(spec, config, image, runs)
    if config.runner.kubeflow.kserve is not None:
        kserve.add(spec, config, image, kfp_name(config.name))
    _add_versions(spec, config, image, outputs)
    if runs is not None:
        place = {run_folder.RUNS: runs, run_folder.RUN: ir.RUN_NAME}
        for name in ("ExampleValidator", ir.VERSIONS):  # never from the cache
            ir.give(spec, name, place)
        ir.give(spec, ir.VERSIONS, {"name": config.name})
    if config.data.spans is not None:
        ir.add_until(spec)
    ir.add_set(spec)
    ir.spill(spec, image)
    if config.runner.kubeflow.notify is not None:
        ir.add_notify(spec, image, {run_folder.RUNS: runs} if runs else {})
    kubeflow_pods.set_pods(spec, config.runner.kubeflow)
    platform = kubeflow_pods.platform(
        spec, config.runner.kubeflow, config.runner.volumes
    )
    if config.runner.kubeflow.notify is not None:
        ir.nest(spec)
    return [spec] if platform is None else [spec, platform]


def _tfjob(config: PipelineConfig, image: str) -> dict[str, Any] | None:
    if config.runner.tfjob is None:
        return None
    return {
        **config.runner.tfjob.model_dump(mode="json"),
        "image": image,
        "volumes": config.runner.volumes,
    }


def _version_names(config: PipelineConfig) -> list[str]:
    """Versions of all that lies outside the pipeline; see dag.Versions."""
    names = ["data"]
    if config.data.curated_schema is not None:
        names.append("schema")
    if isinstance(config.model, OwnConfig) or extensions.own_modules(config):
        names.append("model")
    if any(r.is_own(name) for _, r, name in config.evaluate.extensions()):
        names.append("metrics")
    if config.train.warm_start is not None:
        names.append("base")
    return names


def _add_versions(
    spec: dict[str, Any],
    config: PipelineConfig,
    image: str,
    outputs: list[str],
) -> None:
    from pipeline import dag

    parameters = {"data": config.data.model_dump_json()}
    if config.data.curated_schema is not None:
        parameters["schema"] = config.data.curated_schema
    if "model" in outputs:
        own = isinstance(config.model, OwnConfig)
        parameters["model"] = config.model.model_dump_json() if own else ""
        parameters["callbacks"] = json.dumps(extensions.own_modules(config))
    if "metrics" in outputs:
        parameters["evaluate"] = config.evaluate.model_dump_json()
    if config.train.warm_start is not None:
        parameters["warm_start"] = config.train.warm_start
        parameters["pushed_to"] = dag.pushed_to(config)
        parameters["training"] = json.dumps(dag.training(config, mark("data")))
    ir.add_versions(spec, image, parameters, outputs)


def pipeline_root(config: PipelineConfig) -> str | None:
    """Where artifacts go; None leaves it to the cluster."""
    if not config.root.startswith(_STORES):
        return None
    return f"{config.root.rstrip('/')}/{config.name}"


def state_folder(config: PipelineConfig, name: str) -> str | None:
    """A folder that outlives tasks and runs; None where there is no place.

    No launcher copies it, and a pod has no credentials of s3:// or minio://
    unless it was given some: of the roots only gs:// is taken.
    """
    state = config.runner.kubeflow.state
    if state is not None:
        return f"{state.rstrip('/')}/{config.name}/{name}"
    root = pipeline_root(config)
    if root is None or not root.startswith("gs://"):
        return None
    return f"{root}/{name}"


def check_image(image: str) -> None:
    """Raises ConfigError if `image` is no image's name."""
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"--image: received {image!r};"
            " accepted: [registry/]name[:tag][@sha256:...], name in lower case"
        )


def import_kfp() -> None:
    """Raises KubeflowError if the `kubeflow` extra is not installed."""
    try:
        import kfp  # noqa: F401
    except ImportError as error:
        raise KubeflowError(
            "Kubeflow needs the package kfp, which is not installed:"
            " pip install 'lion-ctr[kubeflow]'"
        ) from error
