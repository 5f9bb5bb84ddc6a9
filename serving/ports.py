"""Serve HTTP and gRPC together, until a signal."""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvloop

from serving.access import OPEN, Access
from serving.grpc_server import GrpcServer
from serving.http_server import HttpServer
from serving.model import VersionRepository


class Server:
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
        self._http = HttpServer(listener, repository, access)
        self._grpc = GrpcServer(grpc_host, grpc_port, repository, access)

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
            number: signal.signal(number, self._http.stop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run(started))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _run(self, started: Callable[[int], None]) -> None:
        grpc_port = await self._grpc.start()
        http = asyncio.create_task(self._http.start())
        try:
            while not self._http.started and not http.done():
                await asyncio.sleep(0.01)
            if not http.done():
                started(grpc_port)
            await http
        finally:
            await self._grpc.stop()
