"""A stand-in for KFP's backend: runs a compiled pipeline's tasks here.

Each task runs as its container would: the IR's command and arguments, a pod's
own copy of its inputs, and the ExecutorInput that the open source driver and
launcher make of the IR and of what earlier tasks reported. As there, input
artifacts carry no type, empty folders are not kept, numbers become floats and
metadata without a value is an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp import components

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
    another run's to go on from there.
    """

    def __init__(
        self,
        ir: Path,
        home: Path,
        outputs: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        loaded = components.load_component_from_file(str(ir))
        self.spec = json_format.MessageToDict(loaded.pipeline_spec)
        self.tasks: dict[str, Any] = self.spec["root"]["dag"]["tasks"]
        self.outputs = dict(outputs or {})
        self._home = home
        self._store = home / "store"

    def run(self) -> None:
        """Runs every task that has not run, two at a time, in order."""
        waiting = {n: t for n, t in self.tasks.items() if n not in self.outputs}
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

    def run_task(self, name: str) -> dict[str, Any]:
        """Runs one task's container; returns its output artifacts.

        Raises:
            TaskFailedError: it ended with another code than 0.
        """
        pod = self._home / "pods" / f"{name}-{uuid.uuid4().hex[:8]}"
        pod.mkdir(parents=True)
        given = self._executor_input(name, pod)
        component = self.spec["components"][self._component(name)]
        executor = self.spec["deploymentSpec"]["executors"][
            component["executorLabel"]
        ]["container"]
        text = json.dumps(given, separators=(",", ":"))
        command = [
            word.replace("{{$}}", text)
            for word in executor["command"] + executor["args"]
        ]
        for artifact in _all(given["inputs"]):
            self._copy(self._in_store(artifact), self._in_pod(artifact, pod))
        for artifact in _all(given["outputs"]):
            self._in_pod(artifact, pod).parent.mkdir(parents=True)
        result = subprocess.run(
            command,
            cwd=pod,
            env={
                "HOME": str(pod),
                "LIONCTR_COPIES": str(pod),
                "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
                "PYTHONPATH": str(PROJECT),
                "TF_CPP_MIN_LOG_LEVEL": "2",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        log = result.stdout + result.stderr
        (pod / "log.txt").write_text(log, "utf-8")
        if result.returncode:
            raise TaskFailedError(name, result.returncode, log)
        output = json.loads(Path(given["outputs"]["outputFile"]).read_text())
        return {
            key: self._publish(artifact, output["artifacts"][key], pod)
            for key, found in given["outputs"]["artifacts"].items()
            for artifact in found["artifacts"]
        }

    def folder(self, task: str, output: str) -> Path:
        """Where the store keeps an output's files."""
        return self._in_store(self.outputs[task][output])

    def _component(self, task: str) -> str:
        return str(self.tasks[task]["componentRef"]["name"])

    def _executor_input(self, name: str, pod: Path) -> dict[str, Any]:
        inputs = self.tasks[name].get("inputs", {})
        declared = self.spec["components"][self._component(name)]
        parameters = declared["inputDefinitions"]["parameters"]
        values = {
            key: value["runtimeValue"]["constant"]
            for key, value in inputs.get("parameters", {}).items()
        }
        assert values.keys() == parameters.keys()
        artifacts = {}
        for key, source in inputs.get("artifacts", {}).items():
            source = source["taskOutputArtifact"]
            artifact = self.outputs[source["producerTask"]][
                source["outputArtifactKey"]
            ]
            artifacts[key] = {
                "artifacts": [{**artifact, "type": {"instanceSchema": ""}}]
            }
        run = f"{BUCKET}/{self.spec['pipelineInfo']['name']}/run"
        outputs = {
            key: {
                "artifacts": [
                    {
                        "uri": f"{run}/{name}/{uuid.uuid4()}/{key}",
                        "type": output["artifactType"],
                    }
                ]
            }
            for key, output in declared["outputDefinitions"][
                "artifacts"
            ].items()
        }
        return {
            "inputs": {"parameterValues": values, "artifacts": artifacts},
            "outputs": {
                "artifacts": outputs,
                "outputFile": str(pod / "kfp_outputs/output_metadata.json"),
            },
        }

    def _publish(
        self, artifact: dict[str, Any], reported: Any, pod: Path
    ) -> dict[str, Any]:
        """What KFP's metadata store makes of an output."""
        (found,) = reported["artifacts"]
        assert found["uri"] == artifact["uri"]
        self._copy(self._in_pod(artifact, pod), self._in_store(artifact))
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

    def _in_store(self, artifact: dict[str, Any]) -> Path:
        return self._store / artifact["uri"].partition("://")[2]

    @staticmethod
    def _in_pod(artifact: dict[str, Any], pod: Path) -> Path:
        return pod / "minio" / artifact["uri"].partition("://")[2]

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copies files; an object store knows no empty folders."""
        for path in source.rglob("*"):
            if path.is_file():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def _all(half: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        a for found in half["artifacts"].values() for a in found["artifacts"]
    ]
