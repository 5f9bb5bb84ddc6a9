"""The HTTP server: uvicorn, with our routes, on a socket that is bound."""

import asyncio
import importlib.metadata
import socket
import ssl
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.access import Access, RequireToken
from serving.connection import Connection
from serving.errors import RequestError, TooLargeError, printable
from serving.model import VersionRepository
from serving.routes import (
    DirectRoute,
    open_inference_router,
    tf_serving_router,
)
from serving.server_routes import SERVER_NAME, server_router
from serving.shortcut import Shortcut

GRACE_SECONDS = 30
_KEEP_ALIVE_SECONDS = 65
_CERTIFICATE_SECONDS = 10.0  # between looks at the certificate's files


class HttpServer:
    """Answers HTTP from a repository."""

    def __init__(
        self,
        listener: socket.socket,
        repository: VersionRepository,
        access: Access,
    ) -> None:
        """Serves on a socket that is bound already."""
        self._listener = listener
        self._access = access
        limits = repository.limits
        self._config = uvicorn.Config(
            application(repository, access),
            http=type("LimitedConnection", (Connection,), {"limits": limits}),
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            server_header=False,
            headers=[("server", SERVER_NAME)],
            ssl_certfile=access.certificate,
            ssl_keyfile=access.key,
        )
        if access.client_ca is not None:
            self._config.ssl_ca_certs = str(access.client_ca)
            self._config.ssl_cert_reqs = ssl.CERT_REQUIRED
        self._server = uvicorn.Server(self._config)

    @property
    def started(self) -> bool:
        """True if requests are answered."""
        return bool(self._server.started)

    async def start(self) -> None:
        """Serves until `stop` or a signal, then finishes what is open."""
        self._config.load()
        watch = asyncio.create_task(self._follow_certificate())
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            watch.cancel()

    def stop(self, *_: object) -> None:
        """Asks `start` to finish; fit for a signal handler."""
        self._server.should_exit = True

    async def _follow_certificate(self) -> None:
        """Loads the certificate again when its files change."""
        context, pair = self._config.ssl, self._access.pair()
        if context is None or pair is None:
            return
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            if pair.renewed():
                with suppress(OSError, ValueError):  # replaced once more
                    context.load_cert_chain(pair.certificate, pair.key)


def application(repository: VersionRepository, access: Access) -> Any:
    """The ASGI application."""
    app = FastAPI(
        title=SERVER_NAME,
        version=importlib.metadata.version(SERVER_NAME),
        docs_url=None,
        redoc_url=None,
    )
    routers = (
        tf_serving_router(repository),
        open_inference_router(repository),
        server_router(repository),
    )
    direct = []
    for router in routers:
        app.include_router(router)
        direct += [r for r in router.routes if isinstance(r, DirectRoute)]
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(Exception, _fault)
    shortcut = Shortcut(app, direct)
    if access.token:
        return RequireToken(shortcut, access, repository.refused)
    return shortcut


async def _refused(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    headers = {}
    if isinstance(error, TooLargeError):
        # The rest of the body is not read: the connection ends.
        headers["connection"] = "close"
    elif error.http == 503:
        headers["retry-after"] = "1"
    content = {"error": printable(str(error))}
    return JSONResponse(content, error.http, headers)


async def _fault(_: Any, error: Exception) -> JSONResponse:
    content = f"{type(error).__name__} : {error}"
    return JSONResponse({"error": printable(content)}, 500)


async def _malformed(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    message = f"{where or 'the body'}: {first['msg']}"
    return JSONResponse({"error": printable(message)}, 400)


async def _http_error(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
