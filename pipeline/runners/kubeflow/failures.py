"""Which tasks of a run on Kubeflow failed, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.runners.kubeflow.api import Api

_LINES = 6  # of a pod's log
# Argo's nodes below a task's: its pod, and the tries of that.
_INNER = re.compile(r"executor(\(\d+\))?|main|.*\(\d+\)")
# Lines that the launcher and Argo add to a log.
_NOISE = re.compile(r"[IWEF]\d{4} |time=\S+ level=|\s*$")
_FAILED = ("FAILED", "ERROR", "SYSTEM_ERROR")


def failures(api: Api, run: Mapping[str, Any], namespace: str) -> Iterator[str]:
    """One line or more for each task of `run` that failed.

    KFP up to 2.17 leaves a task's `error` empty
    (github.com/kubeflow/pipelines/issues/14007): the end of the log of its pod
    then says why.
    """
    error = _error(run)
    if error:
        yield f"The run failed: {error}"
    details = run.get("run_details") or {}
    tasks = [
        task
        for task in details.get("task_details") or ()
        if task.get("state") in _FAILED
    ]
    parents = _parents(tasks)
    for task in tasks:
        if any(parent is task for parent in parents.values()):
            continue  # one of its children failed
        pods = _pods(task)
        name = _name(task, parents)
        why = _error(task) or _error(parents.get(id(task)) or {})
        log = next(filter(None, (_end(api, run, pod) for pod in pods)), "")
        yield f"{name} failed: {why or log or 'no reason is given'}"
        if why and log:
            yield log
        if pods:
            yield f"  kubectl -n {namespace} logs {pods[0]} -c main"


def _parents(
    tasks: list[dict[str, Any]],
) -> dict[int, dict[str, Any]]:
    """Failed task -> the failed task above it."""
    parents = {}
    for task in tasks:
        below = {
            child.get(key)
            for child in task.get("child_tasks") or ()
            for key in ("task_id", "pod_name")
        } - {None, ""}
        for other in tasks:
            names = {other.get("task_id"), other.get("pod_name")}
            is_below = names & below or (
                other.get("parent_task_id")
                and other.get("parent_task_id") == task.get("task_id")
            )
            if other is not task and is_below:
                parents[id(other)] = task
    return parents


def _name(task: dict[str, Any], parents: dict[int, dict[str, Any]]) -> str:
    above: dict[str, Any] | None = task
    while above is not None:
        name = str(above.get("display_name") or "")
        if name and not _INNER.fullmatch(name):
            return name
        above = parents.get(id(above))
    return str(task.get("display_name") or task.get("task_id") or "A task")


def _pods(task: Mapping[str, Any]) -> list[str]:
    """Names of the task's pods, as the API has them."""
    found = [task.get("pod_name")]
    found += [child.get("pod_name") for child in task.get("child_tasks") or ()]
    return [str(name) for name in found if name]


def _error(found: Mapping[str, Any]) -> str:
    """Error of an API object, else the last of its states."""
    states = found.get("state_history") or ()
    for holder in (found, *reversed(states)):
        message = (holder.get("error") or {}).get("message")
        if message:
            return " ".join(str(message).split())
    return ""


def _end(api: Api, run: Mapping[str, Any], pod: str) -> str:
    """The last lines that the task itself wrote."""
    log = api.log(str(run.get("run_id")), pod)
    lines = [line for line in log.splitlines() if not _NOISE.match(line)]
    return "\n".join(lines[-_LINES:])
