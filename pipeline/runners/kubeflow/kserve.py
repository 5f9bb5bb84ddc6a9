"""The task `KServe`: a pushed version becomes an InferenceService's newest."""

from __future__ import annotations

import copy
import json
import logging
import time
from pathlib import Path
from typing import Any

from models.errors import FailedError, InputError
from pipeline.config import ConfigError, PipelineConfig
from pipeline.kubeflow_config import KServe, Resources
from pipeline.runners.kubeflow import ir

TASK = "KServe"
GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
CONTAINER = "kserve-container"  # KServe looks for it
_BEFORE = "lion-ctr/before"  # annotation while a version is not ready yet
_STORAGE = "STORAGE_URI"  # KServe mounts it, or copies it, to /mnt/models
_PORT, _GRPC = 8080, 9000
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SECONDS = 5.0  # between looks at the service
_LOST = ("FailedToLoad", "BlockedByFailedLoad", "InvalidSpec")
log = logging.getLogger("lionctr.kserve")


def add(
    spec: dict[str, Any], config: PipelineConfig, image: str, name: str
) -> None:
    """Adds the task to an IR, after the Pusher.

    Args:
        spec: the IR; changed.
        config: of the pipeline, with `runner.kubeflow.kserve`.
        image: of the task, and of the server.
        name: of the InferenceService, where the config gives none.

    Raises:
        ConfigError: KServe would not take the name, or not find the model.
    """
    given = config.runner.kubeflow.kserve
    assert given is not None
    settings = given.model_dump(mode="json") | {
        "image": image,
        "model": config.name,
        "name": given.name or name,
        "storage_uri": given.storage_uri or storage_uri(config),
    }
    try:
        KServe.model_validate({"name": settings["name"]})
    except ValueError as error:
        raise ConfigError(
            f"runner.kubeflow.kserve.name: missing; {name!r} cannot be one."
            " Accepted: a letter, then at most 62 lower case letters, digits"
            " and hyphens"
        ) from error
    ir.add_step(spec, TASK, image, ["kserve", "{{$}}"], outputs={}, cache=False)
    del spec["components"][TASK]["outputDefinitions"]
    ir.give(spec, TASK, {"kserve": json.dumps(settings, sort_keys=True)})
    ir.take_artifact(spec, TASK, "pushed_model", "Pusher", "pushed_model")


def storage_uri(config: PipelineConfig) -> str:
    """Where KServe finds the folder of the model's versions.

    Raises:
        ConfigError: `push.to` is at a place that KServe does not reach.
    """
    place = f"{config.push.to.rstrip('/')}/{config.name}"
    if place.startswith(("gs://", "s3://")):
        return place
    for claim, mount in config.runner.volumes.items():
        if place.startswith(f"{mount.rstrip('/')}/"):
            return f"pvc://{claim}/{place[len(mount.rstrip('/')) + 1 :]}"
    raise ConfigError(
        "runner.kubeflow.kserve.storage_uri: missing; push.to"
        f" {config.push.to!r} is neither on gs:// nor on a volume of"
        " runner.volumes. Accepted: pvc://CLAIM/PATH, gs://..., s3://..."
    )


def service(settings: dict[str, Any], version: str) -> dict[str, Any]:
    """The InferenceService that serves `version`, and nothing before it."""
    container = {
        "name": CONTAINER,
        "image": settings["image"],
        "command": ["lionctr", "serve", "/mnt/models"],
        "args": [
            f"--name={settings['model']}",
            "--host=0.0.0.0",
            f"--port={_PORT}",
            f"--grpc-port={_GRPC}",
        ],
        "env": [],
        "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": _PORT},
            "periodSeconds": 5,
        },
    }
    predictor = {"containers": [container]}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {"name": settings["name"]},
        "spec": {
            "predictor": changed(
                predictor, {**settings, "canary": None}, version
            )
        },
    }


def changed(
    predictor: dict[str, Any], settings: dict[str, Any], version: str
) -> dict[str, Any]:
    """`predictor` with another version; what only it says stays.

    Raises:
        InputError: it is not one of `lionctr serve`.
    """
    predictor = copy.deepcopy(predictor)
    container = _container(predictor)
    if container is None:
        raise InputError(
            f"InferenceService {settings['name']}: has no container"
            f" {CONTAINER!r}. runner.kubeflow.kserve.name: accepted: a name"
            " that is free, or one that this task, or deploy/kserve.yaml, made"
        )
    container["image"] = settings["image"]
    others = (a for a in container.get("args", ()) if "--pin" not in a)
    container["args"] = [*others, f"--pin={version}"]
    variables = container.get("env") or []
    container["env"] = [one for one in variables if one["name"] != _STORAGE]
    container["env"] += [{"name": _STORAGE, "value": settings["storage_uri"]}]
    for kind in ("requests", "limits"):
        given = Resources.model_validate(settings[kind]).model_dump(
            exclude_none=True
        )
        if given:
            container.setdefault("resources", {})[kind] = given
    for key, name in (
        ("minReplicas", "min_replicas"),
        ("serviceAccountName", "service_account"),
    ):
        if settings[name] is not None:
            predictor[key] = settings[name]
    predictor.pop("canaryTrafficPercent", None)
    if settings["canary"] not in (None, 100):
        predictor["canaryTrafficPercent"] = settings["canary"]
    return predictor


def _container(predictor: dict[str, Any]) -> dict[str, Any] | None:
    for one in predictor.get("containers") or ():
        if one.get("name") == CONTAINER:
            found: dict[str, Any] = one
            return found
    return None


def deploy(settings: dict[str, Any], version: str) -> str:
    """Creates or changes the InferenceService; returns its address once ready.

    One that was not there before serves the version alone. Of one that was,
    the version gets the share `canary`, and KServe leaves the rest to the
    version before.

    Raises:
        FailedError: the version did not become ready; what was before is
            restored.
        InputError: the service is not ours, or Kubernetes refuses.
    """
    from kubernetes import client, config

    config.load_config()
    namespace = settings["namespace"] or _namespace()
    api = client.CustomObjectsApi()
    place = (GROUP, VERSION, namespace, PLURAL)
    where = f"InferenceService {namespace}/{settings['name']}"
    try:
        found = _get(api, place, settings["name"])
        before = _before(found, version)
        if found is None:
            wanted = service(settings, version)
            wanted["metadata"]["annotations"] = _note(version, None)
            api.create_namespaced_custom_object(*place, wanted)
            log.info("%s was created with version %s", where, version)
        else:
            predictor = found["spec"]["predictor"]
            wanted = changed(predictor, settings, version)
            _put(api, place, settings, wanted, _note(version, before))
            log.info("%s was given version %s", where, version)
        why, address = _wait(api, place, settings)
        if not why:
            _put(api, place, settings, None, {_BEFORE: None})
            return address
        undone = "it is removed"
        if before is None:
            api.delete_namespaced_custom_object(*place, settings["name"])
        else:
            _put(api, place, settings, before, {_BEFORE: None})
            undone = "what was served before is restored"
    except client.ApiException as error:
        raise InputError(
            f"{where}: Kubernetes says {error.status} {error.reason}:"
            f" {_message(error)}. Is KServe installed, and may the run's"
            " service account create, get, patch and delete"
            " inferenceservices? deploy/kserve.yaml has the Role"
        ) from error
    raise FailedError(
        f"{where}: version {version} did not become ready: {why}; {undone}."
        f" See kubectl -n {namespace} describe inferenceservice"
        f" {settings['name']}"
    )


def _namespace() -> str:
    if _NAMESPACE.exists():
        return _NAMESPACE.read_text("utf-8").strip()
    return "default"


def _get(api: Any, place: tuple[str, ...], name: str) -> dict[str, Any] | None:
    from kubernetes import client

    try:
        found: dict[str, Any] = api.get_namespaced_custom_object(*place, name)
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
    return found


def _note(version: str, before: dict[str, Any] | None) -> dict[str, Any]:
    return {_BEFORE: json.dumps({"version": version, "predictor": before})}


def _before(
    found: dict[str, Any] | None, version: str
) -> dict[str, Any] | None:
    """The predictor before `version`, also if a killed task has set that."""
    if found is None:
        return None
    text = (found["metadata"].get("annotations") or {}).get(_BEFORE)
    noted = json.loads(text) if text else {}
    if noted.get("version") == version:
        kept: dict[str, Any] | None = noted["predictor"]
        return kept
    predictor: dict[str, Any] = found["spec"]["predictor"]
    return predictor


def _put(
    api: Any,
    place: tuple[str, ...],
    settings: dict[str, Any],
    predictor: dict[str, Any] | None,
    annotations: dict[str, Any],
) -> None:
    """Patches the service (RFC 7386): its predictor, if any, and notes."""
    patch: dict[str, Any] = {"metadata": {"annotations": annotations}}
    if predictor is not None:
        found = _get(api, place, settings["name"]) or {"spec": {}}
        old = found["spec"].get("predictor", {})
        patch["spec"] = {"predictor": difference(old, predictor)}
    api.patch_namespaced_custom_object(*place, settings["name"], patch)


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The merge patch from `before` to `after`: what is gone is null."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after)
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            value = difference(old, value)
            if not value:
                continue
        elif value == old:
            continue
        patch[name] = value
    return patch


def _wait(
    api: Any, place: tuple[str, ...], settings: dict[str, Any]
) -> tuple[str, str]:
    """Why the service is not ready, or "", and its address."""
    import urllib3
    from kubernetes import client

    until = time.monotonic() + settings["timeout"]
    why = "no answer"
    while True:
        try:
            found = _get(api, place, settings["name"])
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            if getattr(error, "status", 500) < 500:
                raise
            why = f"Kubernetes does not answer: {error}"
        else:
            if found is None:
                return "it was removed meanwhile", ""
            ready, why = _state(found)
            if ready:
                return "", str(found["status"].get("url", ""))
            if ready is None:
                return why, ""
        if time.monotonic() > until:
            return f"{why}, after {settings['timeout']} s", ""
        time.sleep(_SECONDS)


def _state(found: dict[str, Any]) -> tuple[bool | None, str]:
    """True once the newest revision is ready, None if it never will be; why."""
    status = found.get("status") or {}
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return False, "KServe has not looked at it"  # the old status says Ready
    model = status.get("modelStatus") or {}
    states = model.get("states") or {}
    if {model.get("transitionStatus"), states.get("targetModelState")} & {
        *_LOST
    }:
        failure = model.get("lastFailureInfo") or {}
        return None, failure.get("message") or failure.get("reason") or "failed"
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    revisions = (status.get("components") or {}).get("predictor") or {}
    newest = revisions.get("latestCreatedRevision")
    is_newest = newest == revisions.get("latestReadyRevision")
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True" and is_newest:
        return True, ""
    bad = [c for c in conditions.values() if c.get("status") == "False"]
    whys = [c.get("message") or c.get("reason") or c["type"] for c in bad]
    return False, "; ".join(whys) or f"revision {newest} is not ready"


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.body)[:300]


def run(task: dict[str, Any]) -> None:
    """Runs the task; a pinned folder of versions is left as it is served."""
    from components import model_store

    inputs = task["inputs"]
    settings = json.loads(inputs["parameterValues"]["kserve"])
    (pushed,) = inputs["artifacts"]["pushed_model"]["artifacts"]
    version = str(pushed["metadata"]["pushed_version"])
    base = str(pushed["metadata"]["pushed_destination"]).rpartition("/")[0]
    pin = model_store.pin(base)
    if pin is not None and str(pin) != version:
        print(f"version {pin} stays served: {base} is pinned")
        return
    print(f"version {version} is ready: {deploy(settings, version)}")
