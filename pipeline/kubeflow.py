"""Compiles a pipeline for Kubeflow Pipelines v2 and submits it there."""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import re
import socket
import sys
import tempfile
import time
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from models.errors import UserError
from pipeline.config import ConfigError, PipelineConfig
from pipeline.console import quiet

_COMMAND = ("python", "-m", "pipeline.kubeflow_task")
_STORES = ("gs://", "s3://", "minio://")
_NAME_LENGTH = 128
_IMAGE = re.compile(
    r"([A-Za-z0-9.-]+(:\d+)?/)?"  # registry
    r"[a-z0-9]+(([._-]+|/)[a-z0-9]+)*"  # repository
    r"(:\w[\w.-]{0,127})?"  # tag
    r"(@sha256:[0-9a-f]{64})?"
)
_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


class KubeflowError(UserError):
    """Kubeflow cannot be reached, refused, or a part of it is missing here."""


def compile_to(config: PipelineConfig, image: str, out: Path) -> None:
    """Writes the KFP v2 IR of `config`'s pipeline to `out`, as YAML.

    Tells on standard error what of the config a cluster cannot reach.

    Raises:
        ConfigError: `image` is no image, `out` cannot be written.
        KubeflowError: the `kubeflow` extra is not installed.
    """
    _check(image)
    _import_kfp()
    # TensorFlow's start-up notices are no part of the answer.
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(Path(folder) / "log.txt"),
    ):
        documents = _documents(config, image)
    text = yaml.safe_dump_all(documents, sort_keys=True, width=1 << 20)
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"--out: cannot write {out}: {error.strerror}"
        ) from error
    for line in unreachable(config):
        print(f"note: {line}", file=sys.stderr)


def submit(
    config: PipelineConfig,
    image: str,
    host: str,
    experiment: str,
    namespace: str | None,
    wait: bool,
) -> int:
    """Starts a run of `config`'s pipeline on the Kubeflow at `host`.

    Prints the run's address. Returns 0, or with `wait` 1 if the run failed.

    Raises:
        ConfigError: `image` is no image.
        KubeflowError: no `kubeflow` extra, no answer from `host`, a refusal.
    """
    _check(image)
    client = _client(host, namespace)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_to(config, image, package)
        with _talking_to(host):
            run = client.create_run_from_pipeline_package(
                str(package),
                run_name=f"{config.name} {datetime.datetime.now():%F %T}",
                experiment_name=experiment,
                namespace=namespace,
                pipeline_root=_root(config),
            )
    print(f"{_address(host)}/#/runs/details/{run.run_id}", flush=True)
    if not wait:
        return 0
    state = ""
    while state not in _ENDED:
        if state:
            time.sleep(10)
        with _talking_to(host):
            state = str(client.get_run(run.run_id).state).upper()
    print(state)
    return 0 if state == "SUCCEEDED" else 1


def kfp_name(name: str) -> str:
    """`name` as KFP wants it: lower case letters, digits, hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return plain[:_NAME_LENGTH].strip("-")


def unreachable(config: PipelineConfig) -> list[str]:
    """One line for each place that a task in a cluster would not find."""
    lines = []
    if _root(config) is None:
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
        if place is None or place.startswith(("gs://", *mounts)):
            continue
        if "://" in place:
            lines.append(
                f"{field}: the image has no file system for {place!r}; use"
                " gs:// or a volume of runner.volumes, or add one to the image"
            )
        else:
            lines.append(
                f"{field}: {place!r} is a path inside each task's container;"
                " use gs:// or a path on a volume of runner.volumes"
                " ({claim: /mount/path})"
            )
    return lines


def _path(warm_start: str | None) -> str | None:
    return None if warm_start == "latest_blessed" else warm_start


def _documents(config: PipelineConfig, image: str) -> list[dict[str, Any]]:
    """The IR, and where there are volumes what Kubernetes must know."""
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as tfx

    from pipeline import dag
    from pipeline.local import code_version

    job = tfx.KubeflowV2DagRunner(
        tfx.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(_COMMAND),
            use_pipeline_spec_2_1=True,
        )
    ).run(
        dag.create_pipeline(
            config,
            _root(config) or "",
            dag.Versions(code=code_version()),
            pipeline_name=kfp_name(config.name),
            tfjob=_tfjob(config, image),
            analysis_cache=_analysis_cache(config),
        ),
        write_out=False,
    )
    spec: dict[str, Any] = job["pipelineSpec"]
    root = _root(config)
    if root is not None:
        spec["defaultPipelineRoot"] = root
    tasks = spec["root"]["dag"]["tasks"]
    for name in _uncacheable(tasks):
        tasks[name]["cachingOptions"] = {"enableCache": False}
    documents = [spec]
    if config.runner.volumes:
        documents.append(_mounts(spec, config.runner.volumes))
    return documents


def _tfjob(config: PipelineConfig, image: str) -> dict[str, Any] | None:
    if config.runner.tfjob is None:
        return None
    return {
        **config.runner.tfjob.model_dump(mode="json"),
        "image": image,
        "volumes": config.runner.volumes,
    }


def _uncacheable(tasks: dict[str, Any]) -> list[str]:
    """Tasks whose result depends on more than what KFP sees of them.

    Those without input artifacts read files that may have changed; Baseline
    and Pusher look at what is served.
    """
    return [
        name
        for name, task in tasks.items()
        if name in ("Baseline", "Pusher")
        or not task.get("inputs", {}).get("artifacts")
    ]


def _mounts(spec: dict[str, Any], volumes: dict[str, str]) -> dict[str, Any]:
    """The IR's Kubernetes part: every task mounts every volume."""
    mounts = [
        {
            "constant": claim,
            "mountPath": path,
            "pvcNameParameter": {"runtimeValue": {"constant": claim}},
        }
        for claim, path in sorted(volumes.items())
    ]
    executors = spec["deploymentSpec"]["executors"]
    return {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {
                    "executors": {
                        label: {"pvcMount": [dict(m) for m in mounts]}
                        for label in executors
                    }
                }
            }
        }
    }


def _root(config: PipelineConfig) -> str | None:
    """Where artifacts go; None leaves it to the cluster."""
    if not config.root.startswith(_STORES):
        return None
    return f"{config.root.rstrip('/')}/{config.name}"


def _analysis_cache(config: PipelineConfig) -> str | None:
    """In the one store that TensorFlow reads itself; artifacts are copied."""
    root = _root(config)
    if root is None or not root.startswith("gs://"):
        return None
    return f"{root}/analysis_cache"


def _check(image: str) -> None:
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"--image: received {image!r};"
            " accepted: [registry/]name[:tag][@sha256:...], name in lower case"
        )


def _import_kfp() -> Any:
    try:
        import kfp
    except ImportError as error:
        raise KubeflowError(
            "Kubeflow needs the package kfp, which is not installed:"
            " pip install 'lion-ctr[kubeflow]'"
        ) from error
    return kfp


def _address(host: str) -> str:
    return (host if "://" in host else f"https://{host}").rstrip("/")


def _client(host: str, namespace: str | None) -> Any:
    """KFP's client; fails in seconds if nothing listens at `host`."""
    kfp = _import_kfp()
    url = urllib.parse.urlsplit(_address(host))
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), 10).close()
    except (OSError, ValueError) as error:
        raise KubeflowError(
            f"--host: cannot reach Kubeflow Pipelines at {host}: {error}."
            " Accepted: the address of its API, such as http://localhost:8080"
            " after `kubectl port-forward -n kubeflow svc/ml-pipeline-ui"
            " 8080:80`"
        ) from error
    with _talking_to(host):
        return kfp.Client(_address(host), namespace=namespace or "kubeflow")


@contextlib.contextmanager
def _talking_to(host: str) -> Iterator[None]:
    """One line for whatever KFP's client raises; it prints nothing itself."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    except Exception as error:
        status = getattr(error, "status", None)
        reason = getattr(error, "reason", None)
        message = f"{status} {reason}" if status else str(error) or repr(error)
        raise KubeflowError(
            f"Kubeflow Pipelines at {host}: {type(error).__name__}:"
            f" {' '.join(message.split())[:500]}"
        ) from error
    finally:
        logging.disable(disabled)
