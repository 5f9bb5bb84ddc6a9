"""Beam's worker pool: SDK workers are forked from a warm process.

Beam's own pool starts each worker with `python -c`, which takes as long as
importing TFX does, for each job; and it listens on every interface.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
from concurrent import futures
from multiprocessing.process import BaseProcess

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
)

# Modules that the workers of our pipelines import.
WARM = (
    "components.click_log_gen.executor",
    "models.preprocessing.preprocessing_fn",
    "tfx.components.statistics_gen.executor",
    "components.transform.executor",
    "tfx.components.evaluator.executor",
)


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers as Flink's task managers ask for them."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(WARM))
        self._workers: dict[str, BaseProcess] = {}
        self._lock = threading.Lock()

    def StartWorker(
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: object
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Starts a worker that serves the request's control endpoint."""
        worker = self._context.Process(
            target=work,
            args=(request.control_endpoint.url, request.worker_id),
            name=request.worker_id,
        )
        with self._lock:
            worker.start()
            self._workers[request.worker_id] = worker
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(
        self, request: beam_fn_api_pb2.StopWorkerRequest, context: object
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Ends the worker; one that has ended by itself is no error."""
        with self._lock:
            worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _end(worker)
        return beam_fn_api_pb2.StopWorkerResponse()

    def warm_up(self) -> None:
        """Starts the process that workers are forked from; returns when up."""
        with self._lock:
            first = self._context.Process(target=_nothing)
            first.start()
            first.join()

    def close(self) -> None:
        """Ends all workers."""
        with self._lock:
            for worker in self._workers.values():
                _end(worker)


def work(control: str, worker_id: str) -> None:
    """One SDK worker; ends when its task manager is done with it, or dies."""
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    try:
        SdkHarness(control, worker_id=worker_id).run()
    finally:
        # A bundle under way must not go on: another worker will repeat it,
        # and both would write the same files.
        os._exit(0)


def _nothing() -> None:
    """The first worker: it only makes the imports happen."""


def _end(worker: BaseProcess) -> None:
    worker.terminate()
    worker.join(10)
    if worker.is_alive():
        worker.kill()
        worker.join()


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pool = Pool()
    pool.warm_up()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        pool, server
    )
    server.add_insecure_port(f"localhost:{port}")
    server.start()
    print(f"workers on localhost:{port}", flush=True)
    stop.wait()
    server.stop(0)
    pool.close()


if __name__ == "__main__":
    main()
