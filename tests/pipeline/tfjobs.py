"""A stand-in for Kubernetes with the training operator: pods are processes.

It knows the TFJobs of one namespace, reads of a manifest what the operator
does, sets TF_CONFIG as that, and starts a pod anew where restartPolicy
ExitCode says so.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests import forks

ROOT = Path(__file__).resolve().parents[2]
PLACE = "/apis/kubeflow.org/v1/namespaces/default/tfjobs"


class Operator:
    """One TFJob's pods.

    Args:
        job: the manifest.
        logs: a folder.
        meanwhile: called now and then with the pods' processes.
    """

    def __init__(
        self,
        job: dict[str, Any],
        logs: Path,
        meanwhile: Callable[[list[Any]], None] = lambda pods: None,
    ) -> None:
        assert job["apiVersion"] == "kubeflow.org/v1"
        assert job["kind"] == "TFJob"
        ((kind, spec),) = job["spec"]["tfReplicaSpecs"].items()
        assert (kind, spec["restartPolicy"]) == ("Worker", "ExitCode")
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"] == "tensorflow" and container["image"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        python, dash, *self._words = container["command"]
        assert [python, dash] == ["python", "-m"]
        self.status: dict[str, Any] = {"conditions": []}
        self.exits: list[tuple[int, int, float]] = []
        self._logs, self._meanwhile = logs, meanwhile
        self._addresses = _free(spec["replicas"])
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Removes the pods."""
        self._stopped.set()
        self._thread.join()

    def _start(self, index: int) -> Any:
        config = {
            "cluster": {"worker": self._addresses},
            "task": {"type": "worker", "index": index},
            "environment": "cloud",
        }
        return forks.start(
            self._words,
            ROOT,
            self._logs / f"worker-{index}.txt",
            environment={**os.environ, "TF_CONFIG": json.dumps(config)},
            logs=False,
        )

    def _run(self) -> None:
        pods = [self._start(i) for i in range(len(self._addresses))]
        while not self._ended(pods) and not self._stopped.wait(0.02):
            self._meanwhile(pods)
        for pod in pods:
            pod.kill()
            pod.join()

    def _ended(self, pods: list[Any]) -> bool:
        for index, pod in enumerate(pods):
            code = pod.exitcode
            if code is None:
                continue
            code = 128 - code if code < 0 else code
            if (index, code) == (0, 0):
                return self._end("Succeeded", "")
            if not code:
                continue
            self.exits.append((index, code, time.monotonic()))
            if code < 128:
                return self._end("Failed", f"worker {index} exited with {code}")
            pods[index] = self._start(index)
        return False

    def _end(self, kind: str, message: str) -> bool:
        self.status["conditions"] += [
            {"type": "Running", "status": "False"},
            {"type": kind, "status": "True", "message": message},
        ]
        return True


class Kubernetes:
    """The API that `pipeline.runners.kubeflow.tfjob` talks to; a context.

    Args:
        folder: for logs and the kubeconfig.
        meanwhile: see Operator.
    """

    def __init__(
        self,
        folder: Path,
        meanwhile: Callable[[list[Any]], None] = lambda pods: None,
    ) -> None:
        self.jobs: dict[str, Operator] = {}
        self.folder, self.meanwhile = folder, meanwhile
        kubernetes = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == PLACE
                size = int(self.headers["Content-Length"])
                job = json.loads(self.rfile.read(size))
                operator = Operator(job, kubernetes.folder, meanwhile)
                kubernetes.jobs[job["metadata"]["name"]] = operator
                self._answer(201, job)

            def do_GET(self) -> None:
                job = kubernetes.jobs.get(self._name())
                if job is None:
                    return self._answer(404, {})
                return self._answer(200, {"status": job.status})

            def do_DELETE(self) -> None:
                job = kubernetes.jobs.pop(self._name(), None)
                if job is None:
                    return self._answer(404, {})
                job.stop()
                return self._answer(200, {})

            def _name(self) -> str:
                place, _, name = self.path.rpartition("/")
                assert place == PLACE
                return name

            def _answer(self, code: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.config = folder / "kubeconfig"
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [
                        {"name": "c", "context": {"cluster": "k", "user": "u"}}
                    ],
                    "clusters": [{"name": "k", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )

    def __enter__(self) -> Kubernetes:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        for job in self.jobs.values():
            job.stop()


def killing(
    index: int, wanted: Callable[[], bool], number: int = signal.SIGKILL
) -> Any:
    """`meanwhile` that ends a pod once, as soon as `wanted` says so."""
    killed: list[float] = []

    def look(pods: list[Any]) -> None:
        if not killed and wanted():
            os.kill(pods[index].pid, number)
            killed.append(time.monotonic())

    look.killed = killed  # type: ignore[attr-defined]
    return look


def _free(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [f"localhost:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()
