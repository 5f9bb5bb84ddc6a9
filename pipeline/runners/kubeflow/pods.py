"""Pods of a pipeline's tasks, in the IR and in its Kubernetes part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.kubeflow_config import KubeflowConfig, Pod, Toleration
from pipeline.runners.kubeflow.inputs import WEBHOOK
from pipeline.runners.kubeflow.ir import NOTIFY, container


def set_pods(spec: dict[str, Any], config: KubeflowConfig) -> None:
    """Gives each task of the IR its resources, variables and retries."""
    for name, task in spec["root"]["dag"]["tasks"].items():
        pod = config.pod(name)
        found = container(spec, name)
        resources = _resources(pod)
        if resources:
            found["resources"] = resources
        if pod.env:
            found["env"] = [
                {"name": key, "value": value} for key, value in pod.env.items()
            ]
        if pod.retries is not None:
            task["retryPolicy"] = {
                "maxRetryCount": pod.retries.count,
                "backoffDuration": f"{pod.retries.delay}s",
                "backoffFactor": pod.retries.factor,
                "backoffMaxDuration": f"{pod.retries.max_delay}s",
            }


def platform(
    spec: dict[str, Any], config: KubeflowConfig, volumes: Mapping[str, str]
) -> dict[str, Any] | None:
    """The IR's Kubernetes part; None where nothing is asked of Kubernetes.

    `volumes`: persistent volume claim -> where every task mounts it.
    """
    mounts = [
        {
            "constant": claim,
            "mountPath": path,
            "pvcNameParameter": {"runtimeValue": {"constant": claim}},
        }
        for claim, path in sorted(volumes.items())
    ]
    executors = {}
    for name in spec["root"]["dag"]["tasks"]:
        settings = _kubernetes(config.pod(name))
        if name == NOTIFY and config.notify is not None:
            variable = {"envVar": WEBHOOK, "secretKey": config.notify.key}
            secret = {
                "secretName": config.notify.webhook,
                "keyToEnv": [variable],
            }
            settings.setdefault("secretAsEnv", []).append(secret)
        if mounts:
            settings["pvcMount"] = [dict(mount) for mount in mounts]
        if settings:
            label = spec["components"][name]["executorLabel"]
            executors[label] = settings
    if not executors:
        return None
    deployment = {"deploymentSpec": {"executors": executors}}
    return {"platforms": {"kubernetes": deployment}}


def _resources(pod: Pod) -> dict[str, Any]:
    """KFP's ResourceSpec; its older number fields are for its older backends.

    Those are in cores and in units of 10^9 bytes.
    """
    from pipeline.kubeflow_config import amount

    found: dict[str, Any] = {}
    for kind, given in (("Request", pod.requests), ("Limit", pod.limits)):
        if given.cpu:
            found[f"resourceCpu{kind}"] = given.cpu
            found[f"cpu{kind}"] = float(amount(given.cpu))
        if given.memory:
            found[f"resourceMemory{kind}"] = given.memory
            found[f"memory{kind}"] = float(amount(given.memory) / 10**9)
    if pod.accelerator is not None:
        count = str(pod.accelerator.count)
        found["accelerator"] = {
            "type": pod.accelerator.type,
            "count": count,
            "resourceType": pod.accelerator.type,
            "resourceCount": count,
        }
    return found


def _kubernetes(pod: Pod) -> dict[str, Any]:
    """KFP's KubernetesExecutorConfig of a pod, without what is not set."""
    files = [secret for secret in pod.secrets if secret.mount]
    variables = [secret for secret in pod.secrets if secret.env]
    found = {
        "nodeSelector": (
            {"labels": dict(pod.node_selector)} if pod.node_selector else None
        ),
        "tolerations": [_toleration(one) for one in pod.tolerations],
        "secretAsVolume": [
            {"secretName": secret.name, "mountPath": secret.mount}
            for secret in files
        ],
        "secretAsEnv": [
            {
                "secretName": secret.name,
                "keyToEnv": [
                    {"envVar": variable, "secretKey": key}
                    for variable, key in secret.env.items()
                ],
            }
            for secret in variables
        ],
        "imagePullSecret": [
            {"secretName": name} for name in pod.image_pull_secrets
        ],
        "imagePullPolicy": pod.image_pull_policy,
        "activeDeadlineSeconds": pod.timeout,
        "podMetadata": _without_none(
            labels=dict(pod.labels), annotations=dict(pod.annotations)
        ),
    }
    return _without_none(**found)


def _toleration(given: Toleration) -> dict[str, Any]:
    return _without_none(
        key=given.key,
        operator=given.operator,
        value=given.value,
        effect=given.effect,
        tolerationSeconds=given.seconds,
    )


def _without_none(**fields: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if value not in (None, [], {})
    }
