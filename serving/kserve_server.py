"""KServe's model server and data plane, which learn about versions."""

import asyncio
import importlib.metadata
import logging
import signal
import socket
import warnings
from collections.abc import Callable
from typing import Any

import uvloop
from kserve import ModelServer
from kserve.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
)
from kserve.protocol.dataplane import DataPlane

from serving.access import OPEN, Access
from serving.model import VersionRepository
from serving.transports import (
    SERVER_NAME,
    HostGrpcServer,
    VersionedRestServer,
)


class VersionedDataPlane(DataPlane):
    """KServe's data plane, which knows about versions and readiness."""

    def __init__(self, repository: VersionRepository) -> None:
        """Answers from the repository."""
        super().__init__(model_registry=repository)
        self._repository = repository

    async def ready(self) -> bool:
        """True if a version is loaded to answer with."""
        return await self._repository.is_model_ready(self._repository.name)

    def metadata(self) -> dict[str, Any]:
        """The server's own name and version, and what it offers."""
        return {
            "name": SERVER_NAME,
            "version": importlib.metadata.version(SERVER_NAME),
            "extensions": [
                "binary_tensor_data",
                "model_repository_extension",
            ],
        }

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """As KServe's, with the versions that are loaded."""
        metadata = await super().model_metadata(model_name)
        loaded = sorted(self._repository.snapshot.loaded)
        return {
            **metadata,
            "name": self._repository.name,
            "versions": [str(version) for version in loaded],
            "platform": "tensorflow_savedmodel",
        }


class Server(ModelServer):
    """Serves one repository until SIGTERM or SIGINT."""

    def __init__(
        self,
        repository: VersionRepository,
        listener: socket.socket,
        grpc_host: str,
        grpc_port: int,
        access: Access = OPEN,
    ) -> None:
        """Serves HTTP on a bound socket; `run` binds the gRPC port."""
        _quiet()
        super().__init__(registered_models=repository)
        self.dataplane = VersionedDataPlane(repository)
        parts = {
            "data_plane": self.dataplane,
            "model_repository_extension": self.model_repository_extension,
        }
        self._rest = VersionedRestServer(listener, repository, access, **parts)
        self._grpc = HostGrpcServer(
            grpc_host, grpc_port, repository, access, **parts
        )

    def run(self, started: Callable[[int], None]) -> None:
        """Blocks until a signal; requests under way are finished.

        Args:
            started: called with the gRPC port once both ports answer.

        Raises:
            ServingError: the gRPC port cannot be bound.
        """
        # uvicorn takes the signals over while it runs, finishes its requests
        # and raises them again; these handlers see those that come before,
        # and keep the ones after from killing the process.
        before = {
            number: signal.signal(number, self._rest.stop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run(started))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _run(self, started: Callable[[int], None]) -> None:
        grpc_port = self._grpc.bind()
        await self._grpc.start()
        rest = asyncio.create_task(self._rest.start())
        try:
            while not self._rest.started and not rest.done():
                await asyncio.sleep(0.01)
            if not rest.done():
                started(grpc_port)
            await rest
        finally:
            await self._grpc.stop()


def _quiet() -> None:
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("serving").setLevel(logging.INFO)
    for name in ("kserve", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Without a handler uvicorn does not even format its access log.
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("kserve").addFilter(_is_a_fault)
    for name in ("kserve", "uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(RateLimit())
    # KServe's routes answer with a class that FastAPI has deprecated.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")


class RateLimit(logging.Filter):
    """Lets so many lines pass in a time; says how many it kept back."""

    def __init__(self, lines: int = 20, seconds: float = 10.0) -> None:
        """Lets `lines` pass every `seconds`."""
        super().__init__()
        self._lines, self._seconds = lines, seconds
        self._start = self._count = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """True if a record is written."""
        if record.created - self._start >= self._seconds:
            kept = int(self._count - self._lines)
            if kept > 0:
                record.msg = f"{record.getMessage()} ({kept} lines kept back)"
                record.args = ()
            self._start, self._count = record.created, 0
        self._count += 1
        return self._count <= self._lines


def _is_a_fault(record: logging.LogRecord) -> bool:
    # KServe logs a traceback for every 400, 404 and 503.
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(
        kind, (InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady)
    )
