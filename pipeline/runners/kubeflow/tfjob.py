"""A pipeline's training on Kubeflow as a TFJob: several pods train together."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from models.checkpointing.saved_state import BASE
from models.errors import InputError
from models.trainer import state_folder

GROUP, VERSION, PLURAL = "kubeflow.org", "v1", "tfjobs"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SECONDS = 10.0  # between looks at the job
log = logging.getLogger("lionctr.train")


def manifest(
    name: str,
    image: str,
    workers: int,
    job: str,
    volumes: dict[str, str],
    limits: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The TFJob that trains what the file `job` says.

    Args:
        name: of the job, as Kubernetes wants it.
        image: of `deploy/Dockerfile`.
        workers: how many pods; the first one is the chief.
        job: see `models.worker`.
        volumes: persistent volume claim -> where each pod mounts it.
        limits: of a pod, such as {"cpu": "8", "nvidia.com/gpu": "1"}.
    """
    container: dict[str, Any] = {
        "name": "tensorflow",  # the operator looks for it
        "image": image,
        "command": ["python", "-m", "models.worker", job],
        "volumeMounts": [
            {"name": claim.replace(".", "-"), "mountPath": path}
            for claim, path in sorted(volumes.items())
        ],
    }
    if limits:
        container["resources"] = {"limits": dict(limits)}
    pod = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "containers": [container],
            "volumes": [
                {
                    "name": claim.replace(".", "-"),
                    "persistentVolumeClaim": {"claimName": claim},
                }
                for claim in sorted(volumes)
            ],
        },
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TFJob",
        "metadata": {"name": name},
        "spec": {
            "runPolicy": {"cleanPodPolicy": "Running"},
            "tfReplicaSpecs": {
                "Worker": {
                    "replicas": workers,
                    # 1 and 2 end the job; 138 (another was lost) and what
                    # signals give restart the pod.
                    "restartPolicy": "ExitCode",
                    "template": pod,
                }
            },
        },
    }


def run_fn(fn_args: Any) -> None:
    """TFX Trainer's run_fn: has a TFJob train, waits, fetches the model.

    `custom_config["tfjob"]` holds `image`, `volumes` and the config section
    `runner.tfjob`. What the pods read and write is in a folder of that volume:
    checkpoints too, so that a repeated task goes on where the last one was.

    Raises:
        InputError: the job failed.
    """
    custom = dict(fn_args.custom_config)
    spec = custom.pop("tfjob")
    text = json.dumps([custom, fn_args.transform_output], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = f"{spec['folder'].rstrip('/')}/{key}"
    given = _stage(fn_args, custom, folder)
    path = f"{folder}/job.json"
    Path(path).write_text(json.dumps(given), "utf-8")
    name = f"lion-ctr-{key}"
    _run(
        manifest(
            name,
            spec["image"],
            spec["workers"],
            path,
            spec["volumes"],
            spec["limits"],
        )
    )
    _copy(given["serving_model_dir"], fn_args.serving_model_dir)
    _copy(given["model_run_dir"], fn_args.model_run_dir)
    _copy(
        state_folder(given["serving_model_dir"]),
        state_folder(fn_args.serving_model_dir),
    )
    tf.io.gfile.rmtree(folder)


def _stage(fn_args: Any, custom: dict[str, Any], folder: str) -> dict[str, Any]:
    """Copies what the pods read to `folder`; returns what they are given.

    The task's artifacts may be in an object store, or in copies of its own.
    """
    _copy(fn_args.transform_output, f"{folder}/transform")
    files = {}
    for split in ("train", "eval"):
        found = [
            path
            for pattern in getattr(fn_args, f"{split}_files")
            for path in tf.io.gfile.glob(pattern)
        ]
        tf.io.gfile.makedirs(f"{folder}/{split}")
        files[f"{split}_files"] = [
            f"{folder}/{split}/{number:05d}-{Path(path).name}"
            for number, path in enumerate(sorted(found))
        ]
        for path, copy in zip(
            sorted(found), files[f"{split}_files"], strict=True
        ):
            tf.io.gfile.copy(path, copy, overwrite=True)
    return {
        "custom_config": {**custom, "checkpoints": f"{folder}/checkpoints"},
        "transform_output": f"{folder}/transform",
        "hyperparameters": fn_args.hyperparameters,
        "base_model": _stage_base(getattr(fn_args, "base_model", None), folder),
        **files,
        "serving_model_dir": f"{folder}/serving",
        "model_run_dir": f"{folder}/run",
    }


def _stage_base(base_model: str | None, folder: str) -> str | None:
    """Copies the state that the training begins with, and who says so."""
    if base_model is None:
        return None
    with tf.io.gfile.GFile(os.path.join(base_model, BASE)) as file:
        found = json.loads(file.read())
    if found["state"] is not None:
        _copy(found["state"], f"{folder}/base/state")
        found["state"] = f"{folder}/base/state"
    tf.io.gfile.makedirs(f"{folder}/base")
    with tf.io.gfile.GFile(f"{folder}/base/{BASE}", "w") as file:
        file.write(json.dumps(found))
    return f"{folder}/base"


def _copy(source: str, target: str) -> None:
    """A folder and all in it."""
    for folder, _, names in tf.io.gfile.walk(source):
        inside = folder[len(source.rstrip("/")) :].strip("/")
        to = os.path.join(target, inside) if inside else target
        tf.io.gfile.makedirs(to)
        for name in names:
            tf.io.gfile.copy(
                os.path.join(folder, name),
                os.path.join(to, name),
                overwrite=True,
            )


def _run(job: dict[str, Any]) -> None:
    """Creates the job, in place of one of its name, and waits for its end."""
    from kubernetes import client, config

    config.load_config()
    namespace = "default"
    if _NAMESPACE.exists():
        namespace = _NAMESPACE.read_text("utf-8").strip()
    api = client.CustomObjectsApi()
    place = (GROUP, VERSION, namespace, PLURAL)
    name = job["metadata"]["name"]

    def gone() -> bool:
        try:
            api.delete_namespaced_custom_object(*place, name)
        except client.ApiException as error:
            if error.status == 404:
                return True
            raise
        return False

    try:
        # An earlier try's: it would go on beside this one.
        while not gone():
            time.sleep(1)
        api.create_namespaced_custom_object(*place, job)
        log.info("TFJob %s/%s was created", namespace, name)
        while True:
            found = api.get_namespaced_custom_object(*place, name)
            ended = _ended(found)
            if ended:
                break
            time.sleep(_SECONDS)
    except client.ApiException as error:
        raise InputError(
            f"TFJob {namespace}/{name}: Kubernetes says {error.status}"
            f" {error.reason}. Is the training operator installed, and may"
            " the pipeline's service account create, get and delete tfjobs?"
        ) from error
    kind, message = ended
    if kind != "Succeeded":
        raise InputError(
            f"TFJob {namespace}/{name} failed: {message}. See kubectl -n"
            f" {namespace} logs {name}-worker-0"
        )
    log.info("TFJob %s/%s has ended", namespace, name)


def _ended(job: dict[str, Any]) -> tuple[str, str] | None:
    """The condition that ended the job, and its message."""
    for condition in job.get("status", {}).get("conditions", ()):
        found = SimpleNamespace(**{"message": "", **condition})
        if found.status == "True" and found.type in ("Succeeded", "Failed"):
            return found.type, found.message
    return None
