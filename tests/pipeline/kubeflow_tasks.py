"""A stand-in for KFP's backend: runs a compiled pipeline's tasks here.

Each task runs as its container would: the IR's command and arguments, a pod's
own copy of its inputs, and the ExecutorInput that the open source driver and
launcher (KFP 2.16, PUBLISH_LOGS=true) make of the IR and of what earlier tasks
reported. As there, each task has one more output, `executor-logs`, open as a
file before its process starts; the folder of the output file is not there;
parameters have their declared type and are never null; what is empty is left
out; input artifacts carry no type, empty folders are not kept, numbers become
floats and metadata without a value is an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf import json_format
from kfp import components
from pyarrow.fs import FileType

from serving.object_store import listed, open_store
from tests import forks

LOGS = "executor-logs"
OUTPUT_FILE = "tmp/kfp_outputs/output_metadata.json"
_TYPES: dict[str, Any] = {
    "BOOLEAN": bool,
    "LIST": list,
    "NUMBER_DOUBLE": int | float,
    "NUMBER_INTEGER": int | float,
    "STRING": str,
    "STRUCT": dict,
}
PROJECT = Path(__file__).resolve().parents[2]
BUCKET = "minio://mlpipeline/v2/artifacts"


class TaskFailedError(Exception):
    """A task's container ended with another code than 0."""

    def __init__(self, name: str, code: int, log: str) -> None:
        super().__init__(f"{name} ended with {code}:\n{log[-4000:]}")
        self.name, self.code, self.log = name, code, log


class Cluster:
    """One run of the pipeline in the file `ir`, with files under `home`.

    `outputs`: task -> output -> artifact, of the tasks that have ended; give
    another run's to go on from there, with its `parameters`: task -> output
    parameter -> value. `arguments`: values of the pipeline's own parameters.
    `cache`: of KFP, of several runs. `cached`: tasks that it answered.
    `environment`: of the launcher, for artifacts that are on a real store
    (`s3://`); without one a folder is the store.
    """

    _started: ClassVar[set[str]] = set()  # modules that were a process once

    def __init__(
        self,
        ir: Path,
        home: Path,
        outputs: dict[str, dict[str, Any]] | None = None,
        parameters: dict[str, dict[str, Any]] | None = None,
        arguments: dict[str, Any] | None = None,
        cache: dict[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        loaded = components.load_component_from_file(str(ir))
        self.spec = json_format.MessageToDict(loaded.pipeline_spec)
        self.tasks: dict[str, Any] = self.spec["root"]["dag"]["tasks"]
        if "Pipeline" in self.tasks:  # before an exit task, which is not run
            whole = self.tasks["Pipeline"]["componentRef"]["name"]
            self.tasks = self.spec["components"][whole]["dag"]["tasks"]
        self.outputs = dict(outputs or {})
        self.parameters = dict(parameters or {})
        root = self.spec["root"].get("inputDefinitions", {})
        self.arguments = {
            name: parameter.get("defaultValue")
            for name, parameter in root.get("parameters", {}).items()
        } | (arguments or {})
        self.cache = {} if cache is None else cache
        self.cached: set[str] = set()
        self.run_name = f"{self.spec['pipelineInfo']['name']}-x7k2j"
        self._environment = environment
        self._home = home
        self._store = home / "store"

    def run(self, *names: str) -> None:
        """Runs every task that has not run, two at a time, in order.

        With `names`, these only; all that they need must have run.
        """
        waiting = {
            name: self.tasks[name]
            for name in names or self.tasks
            if name not in self.outputs
        }
        running: dict[Any, str] = {}
        with ThreadPoolExecutor(2) as pool:
            while waiting or running:
                for name, task in list(waiting.items()):
                    needed = set(task.get("dependentTasks", ()))
                    if needed <= self.outputs.keys():
                        running[pool.submit(self.run_task, name)] = name
                        del waiting[name]
                for done in wait(running, None, FIRST_COMPLETED).done:
                    self.outputs[running.pop(done)] = done.result()

    def run_task(
        self, name: str, kill: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Runs one task's container; returns its output artifacts.

        The node is lost as soon as `kill` says so; what it had is gone.

        Raises:
            TaskFailedError: it ended with another code than 0.
        """
        pod = self._home / "pods" / name
        given = self._executor_input(name, pod)
        container = self._container(name)
        key = json.dumps([container, _identities(given)], sort_keys=True)
        may_be_cached = self.tasks[name]["cachingOptions"].get("enableCache")
        if may_be_cached and key in self.cache:
            self.cached.add(name)
            self.parameters[name], outputs = self.cache[key]
            return dict(outputs)
        # Each try is a new container, whose paths are those of the one before.
        shutil.rmtree(pod, ignore_errors=True)
        pod.mkdir(parents=True)
        text = json.dumps(given, separators=(",", ":"))
        command = [
            word.replace("{{$}}", text)
            for word in container["command"] + container["args"]
        ]
        for artifact in _all(given["inputs"]):
            self._fetch(artifact, self._in_pod(artifact, pod))
        for parameter in given["outputs"].get("parameters", {}).values():
            Path(parameter["outputFile"]).parent.mkdir(
                parents=True, exist_ok=True
            )
        for artifact in _all(given["outputs"]):
            path = self._in_pod(artifact, pod)
            path.parent.mkdir(parents=True, exist_ok=True)
        (logs,) = given["outputs"]["artifacts"][LOGS]["artifacts"]
        # The launcher opens the log before the task's process starts.
        log = self._in_pod(logs, pod)
        log.touch()
        code = self._process(name, command, pod, log, kill)
        text = log.read_text("utf-8")
        if code:
            raise TaskFailedError(name, code, text)
        output = _read_output(Path(given["outputs"]["outputFile"]))
        self.parameters[name] = _output_parameters(given, output)
        reported = output.get("artifacts", {})
        outputs = {
            key: self._publish(artifact, reported.get(key), pod)
            for key, found in given["outputs"]["artifacts"].items()
            for artifact in found["artifacts"]
            if key != LOGS
        }
        self.cache[key] = self.parameters[name], outputs
        return outputs

    def _process(
        self,
        name: str,
        command: list[str],
        pod: Path,
        log: Path,
        kill: Callable[[], bool] | None,
    ) -> int:
        """The exit code of the task's process; its output goes to `log`.

        The first one of a module is a process as a container has it; the next
        ones are forks, which have TFX imported.
        """
        declared = {
            item["name"]: item["value"]
            for item in self._container(name).get("env", ())
        }
        environment = {
            "HOME": str(pod),
            "KFP_POD_NAME": pod.name,
            "KFP_POD_UID": str(uuid.uuid4()),
            "METADATA_GRPC_SERVICE_HOST": "metadata-grpc-service",
            "METADATA_GRPC_SERVICE_PORT": "8080",
            "LIONCTR_COPIES": str(pod),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "PYTHONPATH": str(PROJECT),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **declared,
        }
        python, dash, *words = command
        if words[0] in self._started and not declared:
            assert [python, dash] == ["python", "-m"]
            fork = forks.start(words, pod, log, environment=environment)
            while fork.exitcode is None:
                if kill is not None and kill():
                    fork.kill()
                fork.join(0.02)
            return int(fork.exitcode)
        self._started.add(words[0])
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, cwd=pod, env=environment, stdout=stream, stderr=stream
            )
        while process.poll() is None:
            if kill is not None and kill():
                process.kill()
            time.sleep(0.02)
        return process.returncode

    def folder(self, task: str, output: str) -> Path:
        """Where the store keeps an output's files."""
        return self._in_store(self.outputs[task][output])

    def _component(self, task: str) -> dict[str, Any]:
        name = self.tasks[task]["componentRef"]["name"]
        component: dict[str, Any] = self.spec["components"][name]
        return component

    def _container(self, task: str) -> dict[str, Any]:
        label = self._component(task)["executorLabel"]
        executors = self.spec["deploymentSpec"]["executors"]
        container: dict[str, Any] = executors[label]["container"]
        return container

    def _parameters(self, task: str) -> dict[str, Any]:
        """Values of a task's input parameters, typed as they are declared."""
        declared = self._component(task).get("inputDefinitions", {})
        types = declared.get("parameters", {})
        given = self.tasks[task].get("inputs", {}).get("parameters", {})
        assert given.keys() <= types.keys()
        values = {}
        for key, spec in types.items():
            source = given.get(key, {})
            if "taskOutputParameter" in source:
                source = source["taskOutputParameter"]
                assert (
                    source["producerTask"]
                    in (self.tasks[task]["dependentTasks"])
                )
                value = self.parameters[source["producerTask"]][
                    source["outputParameterKey"]
                ]
            elif "componentInputParameter" in source:
                value = self.arguments[source["componentInputParameter"]]
            elif "runtimeValue" in source:
                value = source["runtimeValue"]["constant"]
                if value == "{{$.pipeline_job_resource_name}}":
                    value = self.run_name
            else:
                value = spec["defaultValue"]
            kinds = _TYPES[spec["parameterType"]]
            assert isinstance(value, kinds), f"{task}.{key}: {value!r}"
            values[key] = value
        return values

    def _executor_input(self, name: str, pod: Path) -> dict[str, Any]:
        inputs = self.tasks[name].get("inputs", {})
        declared = self._component(name).get("outputDefinitions", {})
        artifacts = {}
        for key, source in inputs.get("artifacts", {}).items():
            source = source["taskOutputArtifact"]
            artifact = self.outputs[source["producerTask"]][
                source["outputArtifactKey"]
            ]
            artifacts[key] = {
                "artifacts": [{**artifact, "type": {"instanceSchema": ""}}]
            }
        root = self.spec.get("defaultPipelineRoot", BUCKET)
        run = f"{root}/{self.spec['pipelineInfo']['name']}/run"
        salt = str(uuid.uuid4())
        types = {
            key: output["artifactType"]
            for key, output in declared.get("artifacts", {}).items()
        }
        types[LOGS] = {"schemaTitle": "system.Artifact"}
        outputs = {
            key: {
                "artifacts": [
                    {"uri": f"{run}/{name}/{salt}/{key}", "type": kind}
                ]
            }
            for key, kind in types.items()
        }
        parameters = {
            key: {"outputFile": str(pod / f"tmp/kfp/outputs/{key}")}
            for key in declared.get("parameters", {})
        }
        return {
            "inputs": _without_empty(
                parameterValues=self._parameters(name), artifacts=artifacts
            ),
            "outputs": _without_empty(
                parameters=parameters,
                artifacts=outputs,
                outputFile=str(pod / OUTPUT_FILE),
            ),
        }

    def _publish(
        self, artifact: dict[str, Any], reported: Any, pod: Path
    ) -> dict[str, Any]:
        """Artifact that KFP's metadata store makes of an output."""
        (found,) = reported["artifacts"] if reported else ({},)
        assert found.get("uri", artifact["uri"]) == artifact["uri"]
        self._keep(self._in_pod(artifact, pod), artifact)
        metadata: dict[str, Any] = {"display_name": "x"}
        for key, value in found.get("metadata", {}).items():
            assert value is not None, f"KFP refuses {key}: null"
            if isinstance(value, list | dict):
                kind = "list" if isinstance(value, list) else "struct"
                value = {kind: value}
            metadata[key] = float(value) if isinstance(value, int) else value
        return {
            "name": str(uuid.uuid4().int % 100_000),
            "uri": artifact["uri"],
            "metadata": metadata,
        }

    def _keep(self, path: Path, artifact: dict[str, Any]) -> None:
        """Copies an output to the store."""
        target = self._in_store(artifact)
        self._copy(path, target)
        if self._environment is None:
            return
        store, root = open_store(artifact["uri"], self._environment)
        for file in [target, *target.rglob("*")]:
            if file.is_file():
                name = str(file)[len(str(target)) :]
                with store.open_output_stream(root + name) as stream:
                    stream.write(file.read_bytes())
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)

    def _fetch(self, artifact: dict[str, Any], path: Path) -> None:
        """Copies an input from the store."""
        if self._environment is None:
            self._copy(self._in_store(artifact), path)
            return
        store, root = open_store(artifact["uri"], self._environment)
        files = listed(store, root)  # none of an artifact without files
        if store.get_file_info(root).type == FileType.File:
            files = [root]
        for file in files:
            copy = path.parent / (path.name + file[len(root) :])
            copy.parent.mkdir(parents=True, exist_ok=True)
            with store.open_input_stream(file) as stream:
                copy.write_bytes(stream.read())

    def _in_store(self, artifact: dict[str, Any]) -> Path:
        return self._store / artifact["uri"].partition("://")[2]

    @staticmethod
    def _in_pod(artifact: dict[str, Any], pod: Path) -> Path:
        scheme, _, rest = artifact["uri"].partition("://")
        return pod / {"gs": "gcs"}.get(scheme, scheme) / rest

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copies files; an object store knows no empty folders."""
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for path in source.rglob("*"):
            if path.is_file():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def _all(half: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        artifact
        for found in half.get("artifacts", {}).values()
        for artifact in found["artifacts"]
    ]


def _identities(given: dict[str, Any]) -> Any:
    """Part of an ExecutorInput that is in the key of KFP's cache.

    Input artifacts by their names in the metadata store, outputs by theirs.
    """
    inputs = given["inputs"]
    artifacts = {
        key: [artifact["name"] for artifact in found["artifacts"]]
        for key, found in inputs.get("artifacts", {}).items()
    }
    outputs = sorted(given["outputs"].get("artifacts", {}))
    return inputs.get("parameterValues", {}), artifacts, outputs


def _without_empty(**fields: Any) -> dict[str, Any]:
    """As protobuf's JSON: what is empty is left out."""
    return {name: value for name, value in fields.items() if value}


def _read_output(path: Path) -> dict[str, Any]:
    """Report of the task, which may have none."""
    if not path.exists():
        return {}
    output: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return output


def _output_parameters(
    given: dict[str, Any], output: dict[str, Any]
) -> dict[str, Any]:
    """Output parameters: of the report, else each of its own file."""
    reported = output.get("parameterValues", {})
    return {
        key: reported[key]
        if key in reported
        else Path(parameter["outputFile"]).read_text("utf-8")
        for key, parameter in given["outputs"].get("parameters", {}).items()
    }
