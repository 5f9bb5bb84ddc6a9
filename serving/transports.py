"""KServe's HTTP and gRPC servers, bound to one host, with our routes."""

import socket
import ssl
from collections.abc import Callable
from concurrent import futures
from typing import Any

import fastapi
import grpc
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import aio
from grpc_interceptor.exceptions import ResourceExhausted, Unavailable
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as grpc_v2
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.rest.server import RESTServer
from starlette.exceptions import HTTPException
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from uvicorn.importer import import_from_string

from serving.access import FREE_CALLS, Access, RequireToken
from serving.errors import (
    OverloadedError,
    ServingError,
    TooLargeError,
    printable,
)
from serving.model import VersionRepository
from serving.open_inference_grpc import OpenInferenceServicer
from serving.routes import (
    DirectRoute,
    monitoring_router,
    open_inference_router,
    tf_serving_router,
)
from serving.shortcut import Shortcut
from serving.tf_serving_grpc import ModelService, PredictionService

_GRACE_SECONDS = 30
_GRPC_THREADS = 4
SERVER_NAME = "lion-ctr"


class VersionedRestServer(RESTServer):
    """KServe's HTTP server, with TF Serving's paths before its own."""

    def __init__(
        self,
        listener: socket.socket,
        repository: VersionRepository,
        access: Access,
        **kw: Any,
    ) -> None:
        """Serves on a socket that is bound already."""
        super().__init__(
            FASTAPI_APP_IMPORT_STRING,
            http_port=listener.getsockname()[1],
            grace_period=_GRACE_SECONDS,
            ssl_certfile=access.certificate and str(access.certificate),
            ssl_keyfile=access.key and str(access.key),
            **kw,
        )
        if access.client_ca is not None:
            self.config.ssl_ca_certs = str(access.client_ca)
            self.config.ssl_cert_reqs = ssl.CERT_REQUIRED
        self._access = access
        self._listener = listener
        self._repository = repository
        self._direct: list[DirectRoute] = []
        self.config.server_header = False
        self.config.headers = [("server", SERVER_NAME)]

    @property
    def started(self) -> bool:
        """True if requests are answered."""
        return bool(self._server.started)

    async def start(self) -> None:
        """Serves until `stop` or a signal, then finishes what is open."""
        self.create_application()
        app: Any = import_from_string(FASTAPI_APP_IMPORT_STRING)
        app = Shortcut(app, self._direct)
        if self._access.token:
            app = RequireToken(app, self._access, self._repository.refused)
        self.config.app = app
        await self._server.serve(sockets=[self._listener])

    def stop(self, *_: object) -> None:
        """Asks `start` to finish; fit for a signal handler."""
        self._server.should_exit = True

    def _register_endpoints(self, app: fastapi.FastAPI) -> None:
        # The first route that fits wins, so ours come before KServe's.
        routers = (
            tf_serving_router(self._repository),
            open_inference_router(self._repository, self.dataplane),
            monitoring_router(),
        )
        self._direct = []
        for router in routers:
            app.include_router(router)
            self._direct += [
                route
                for route in router.routes
                if isinstance(route, DirectRoute)
            ]
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: fastapi.FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(RequestValidationError, _malformed)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(TooLargeError, _too_large)
        app.add_exception_handler(OverloadedError, _overloaded)

    def _add_middlewares(self, app: fastapi.FastAPI) -> None:
        pass  # not KServe's, which writes a log line a request


class HostGrpcServer(GRPCServer):
    """KServe's gRPC server; its own listens on every address."""

    def __init__(
        self,
        host: str,
        port: int,
        repository: VersionRepository,
        access: Access,
        **kw: Any,
    ) -> None:
        """Binds with `bind`, which needs a running event loop."""
        super().__init__(port, kwargs={}, grace_period=_GRACE_SECONDS, **kw)
        self._repository = repository
        self._access = access
        self._host = f"[{host}]" if ":" in host else host

    def bind(self) -> int:
        """Binds and returns the port.

        Raises:
            ServingError: the port cannot be bound.
        """
        self._server = aio.server(
            futures.ThreadPoolExecutor(max_workers=_GRPC_THREADS),
            interceptors=(
                *(
                    [_Token(self._access, self._repository.refused)]
                    if self._access.token
                    else []
                ),
                _Statuses(),
            ),
            options=[
                ("grpc.max_send_message_length", -1),
                (
                    "grpc.max_receive_message_length",
                    self._repository.limits.body,
                ),
                # With it, two servers would share a port without a word.
                ("grpc.so_reuseport", 0),
            ],
        )
        grpc_v2.add_GRPCInferenceServiceServicer_to_server(
            OpenInferenceServicer(
                self._repository,
                data_plane=self._data_plane,
                model_repository_extension=self._model_repository_extension,
            ),
            self._server,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._repository), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self._repository), self._server
        )
        address = f"{self._host}:{self._port}"
        try:
            credentials = self._access.grpc_credentials()
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError:
            raise ServingError(
                f"cannot listen for gRPC on {address}: "
                "give another grpc port, or 0 for a free one"
            ) from None

    async def start(self, max_workers: int = _GRPC_THREADS) -> None:
        """Serves in the background, until `stop`."""
        await self._server.start()


class _Token(aio.ServerInterceptor):
    """UNAUTHENTICATED for calls without the token."""

    def __init__(self, access: Access, refused: Callable[[int], None]) -> None:
        self._access = access
        self._refused = refused

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Lets a call pass, or refuses it."""
        metadata = dict(details.invocation_metadata)
        given = str(metadata.get("authorization", ""))
        if details.method in FREE_CALLS or self._access.allows(given):
            return await continuation(details)

        self._refused(401)

        async def refuse(_: Any, context: aio.ServicerContext) -> None:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "expected the metadata authorization: Bearer TOKEN",
            )

        return grpc.unary_unary_rpc_method_handler(refuse)


class _Statuses(ExceptionToStatusInterceptor):
    """KServe's, with the limits."""

    async def handle_exception(self, ex: Exception, *rest: Any) -> None:
        """Aborts the call with the status that fits."""
        if isinstance(ex, TooLargeError):
            ex = ResourceExhausted(str(ex))
        elif isinstance(ex, OverloadedError):
            ex = Unavailable(str(ex))
        await super().handle_exception(ex, *rest)


async def _too_large(_: Any, error: Exception) -> JSONResponse:
    # The rest of the body is not read: the connection ends.
    headers = {"connection": "close"}
    return JSONResponse({"error": str(error)}, 413, headers)


async def _overloaded(_: Any, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 503, {"retry-after": "1"})


async def _malformed(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        message = f"the body is not JSON: {reason}"
    else:
        where = ".".join(str(part) for part in first["loc"][1:])
        message = f"{where or 'the body'}: {first['msg']}"
    return JSONResponse({"error": printable(message)}, status_code=400)


async def _http_error(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
