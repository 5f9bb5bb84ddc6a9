"""Additions to a pipeline's IR that Kubeflow needs beyond TFX's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.runners.kubeflow.inputs import (
    FILE,
    SET,
    UNTIL,
    VERSION,
    mark,
    packed,
)

VERSIONS, REPORT, NOTIFY = "Versions", "Report", "Notify"
_WHOLE = "Pipeline"
# A task's parameters are part of one argument of a process, which holds 128
# KiB; the rest are the names, types and metadata of its artifacts.
_LIMIT = 60_000
# KFP's driver puts the name of the run in its place.
RUN_NAME = "{{$.pipeline_job_resource_name}}"
_STEPS = ("python", "-m", "pipeline.runners.kubeflow.steps")
_TEXT = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}


def declare_outputs(spec: dict[str, Any]) -> None:
    """Tells each task the names of its outputs; the driver may add others."""
    for name, component in spec["components"].items():
        names = component.get("outputDefinitions", {}).get("artifacts", {})
        if names:
            args = container(spec, name)["args"]
            args.append(f"--outputs={','.join(sorted(names))}")


def container(spec: dict[str, Any], task: str) -> dict[str, Any]:
    """The container of a task, which has its component's name here."""
    label = spec["components"][task]["executorLabel"]
    found: dict[str, Any] = spec["deploymentSpec"]["executors"][label]
    return found["container"]


def add_versions(
    spec: dict[str, Any],
    image: str,
    parameters: Mapping[str, str],
    outputs: Sequence[str],
) -> None:
    """Adds the first task, which looks at what lies outside the pipeline.

    KFP then answers from its cache what comes after it, unless a log, the
    schema or the base model is another.

    Args:
        spec: the IR; changed.
        image: of the task.
        parameters: what the task is told; see `kubeflow.steps`.
        outputs: names of the versions that it gives, whose marks are in the
            parameters of the tasks that depend on them.
    """
    add_step(
        spec,
        VERSIONS,
        image,
        ["versions", "{{$}}"],
        outputs={
            "parameters": {
                name: {"parameterType": "STRING"} for name in outputs
            }
        },
        cache=False,
    )
    give(spec, VERSIONS, parameters)
    for task in set(_tasks(spec)) - {VERSIONS}:
        constants = _constants(spec, task)
        for name in outputs:
            whole = [key for key, c in constants.items() if c == mark(name)]
            for key in whole:
                _take(spec, task, key, name)
            inside = any(
                mark(name) in str(constant)
                for key, constant in constants.items()
                if key not in whole
            )
            if inside:
                _take(spec, task, VERSION + name, name)


def add_until(spec: dict[str, Any]) -> None:
    """Gives the pipeline a parameter, the last span; "" is the config's."""
    _add_parameter(spec, UNTIL, (VERSIONS, "ClickLogGen", REPORT))


def add_set(spec: dict[str, Any]) -> None:
    """Gives the pipeline a parameter, settings of a run in JSON."""
    _add_parameter(spec, SET, (VERSIONS, REPORT))
    outputs = spec["components"][VERSIONS]["outputDefinitions"]["parameters"]
    for name, tasks in _SET_BY.items():
        outputs[name] = {"parameterType": "STRING"}
        for task in tasks & spec["components"].keys():
            _take(spec, task, f"lionctr_{name}", name)


_SET_BY = {
    "set_data": {"ClickLogGen"},
    "set_training": {"Trainer", "Tuner", "WarmStart"},
}


def _add_parameter(
    spec: dict[str, Any], name: str, tasks: Sequence[str]
) -> None:
    """Gives the pipeline a text as parameter, by default "", and `tasks` it."""
    declared = {
        "parameterType": "STRING",
        "defaultValue": "",
        "isOptional": True,
    }
    inputs = spec["root"].setdefault("inputDefinitions", {})
    inputs.setdefault("parameters", {})[name] = declared
    for task in tasks:
        _definitions(spec, task, "parameters")[name] = dict(declared)
        _inputs(spec, task, "parameters")[name] = {
            "componentInputParameter": name
        }


def add_notify(
    spec: dict[str, Any], image: str, parameters: Mapping[str, str]
) -> None:
    """Adds a task that tells of the run's end; see `nest` for when it runs."""
    add_step(spec, NOTIFY, image, ["notify", "{{$}}"], outputs={}, cache=False)
    del spec["components"][NOTIFY]["outputDefinitions"]
    give(spec, NOTIFY, parameters)
    status = {"parameterType": "TASK_FINAL_STATUS", "isOptional": True}
    _definitions(spec, NOTIFY, "parameters")["status"] = status
    _inputs(spec, NOTIFY, "parameters")["status"] = {
        "taskFinalStatus": {"producerTask": _WHOLE}
    }
    depend(spec, NOTIFY, _WHOLE)
    spec["root"]["dag"]["tasks"][NOTIFY]["triggerPolicy"] = {
        "strategy": "ALL_UPSTREAM_TASKS_COMPLETED"
    }


def nest(spec: dict[str, Any]) -> None:
    """Puts all tasks but Notify into one, after which Notify runs.

    KFP starts an exit task whatever became of the task before it.
    """
    tasks = spec["root"]["dag"]["tasks"]
    notify = tasks.pop(NOTIFY)
    whole: dict[str, Any] = {
        "taskInfo": {"name": _WHOLE},
        "componentRef": {"name": _WHOLE},
    }
    component: dict[str, Any] = {"dag": {"tasks": tasks}}
    given = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if given:
        component["inputDefinitions"] = {
            "parameters": {name: dict(one) for name, one in given.items()}
        }
        whole["inputs"] = {
            "parameters": {
                name: {"componentInputParameter": name} for name in given
            }
        }
    spec["components"][_WHOLE] = component
    spec["root"]["dag"]["tasks"] = {_WHOLE: whole, NOTIFY: notify}


def spill(spec: dict[str, Any], image: str) -> None:
    """Moves parameters that are too long for an argument into files.

    The longest ones of a task go to tasks of their own, whose artifacts it
    takes: KFP's cache answers those as long as the parameters are the same.
    """
    for task in _tasks(spec):
        constants = _constants(spec, task)
        sizes = {key: _size(value) for key, value in constants.items()}
        moved = {}
        while sum(sizes.values()) > _LIMIT:
            longest = max(sizes, key=lambda key: sizes[key])
            moved[longest] = constants[longest]
            del sizes[longest]
        if not moved:
            continue
        for key in moved:
            del _inputs(spec, task, "parameters")[key]
            del _definitions(spec, task, "parameters")[key]
        for number, text in enumerate(packed(moved)):
            carrier = f"{task}-parameters" + (f"-{number}" if number else "")
            add_step(
                spec,
                carrier,
                image,
                ["carry", text, "{{$}}"],
                outputs={"artifacts": {"text": {"artifactType": _TEXT}}},
            )
            take_artifact(spec, task, f"{FILE}{number:03d}", carrier, "text")


def _size(value: Any) -> int:
    """Bytes in an ExecutorInput: JSON in JSON."""
    return len(json.dumps(json.dumps(value)))


def _tasks(spec: dict[str, Any]) -> list[str]:
    return list(spec["root"]["dag"]["tasks"])


def add_step(
    spec: dict[str, Any],
    name: str,
    image: str,
    args: list[str],
    outputs: dict[str, Any],
    cache: bool = True,
) -> None:
    """Adds a task that is no component of TFX; see `kubeflow.steps`."""
    label = f"{name}_executor"
    spec["components"][name] = {
        "executorLabel": label,
        "outputDefinitions": outputs,
    }
    spec["deploymentSpec"]["executors"][label] = {
        "container": {"image": image, "command": list(_STEPS), "args": args}
    }
    spec["root"]["dag"]["tasks"][name] = {
        "taskInfo": {"name": name},
        "componentRef": {"name": name},
        "cachingOptions": {"enableCache": cache},
    }


def give(
    spec: dict[str, Any], task: str, parameters: Mapping[str, str]
) -> None:
    """Gives `task` constants as parameters."""
    for key, value in parameters.items():
        _definitions(spec, task, "parameters")[key] = {
            "parameterType": "STRING"
        }
        _inputs(spec, task, "parameters")[key] = {
            "runtimeValue": {"constant": value}
        }


def _take(spec: dict[str, Any], task: str, key: str, version: str) -> None:
    """Gives `task` the output `version` of Versions as its parameter `key`."""
    _definitions(spec, task, "parameters")[key] = {"parameterType": "STRING"}
    _inputs(spec, task, "parameters")[key] = {
        "taskOutputParameter": {
            "producerTask": VERSIONS,
            "outputParameterKey": version,
        }
    }
    depend(spec, task, VERSIONS)


def take_artifact(
    spec: dict[str, Any], task: str, key: str, producer: str, output: str
) -> None:
    """Gives `task` an output of `producer` as its input artifact `key`."""
    outputs = spec["components"][producer]["outputDefinitions"]["artifacts"]
    kind = outputs[output]["artifactType"]
    _definitions(spec, task, "artifacts")[key] = {"artifactType": dict(kind)}
    _inputs(spec, task, "artifacts")[key] = {
        "taskOutputArtifact": {
            "producerTask": producer,
            "outputArtifactKey": output,
        }
    }
    depend(spec, task, producer)


def depend(spec: dict[str, Any], task: str, on: str) -> None:
    """Lets `task` begin after the task `on`."""
    before = spec["root"]["dag"]["tasks"][task].setdefault("dependentTasks", [])
    if on not in before:
        before.append(on)
        before.sort()


def _constants(spec: dict[str, Any], task: str) -> dict[str, Any]:
    inputs = spec["root"]["dag"]["tasks"][task].get("inputs", {})
    return {
        key: value["runtimeValue"]["constant"]
        for key, value in inputs.get("parameters", {}).items()
        if "runtimeValue" in value
    }


def _inputs(spec: dict[str, Any], task: str, kind: str) -> dict[str, Any]:
    inputs = spec["root"]["dag"]["tasks"][task].setdefault("inputs", {})
    found: dict[str, Any] = inputs.setdefault(kind, {})
    return found


def _definitions(spec: dict[str, Any], task: str, kind: str) -> dict[str, Any]:
    component = spec["components"][task]
    inputs = component.setdefault("inputDefinitions", {})
    found: dict[str, Any] = inputs.setdefault(kind, {})
    return found
