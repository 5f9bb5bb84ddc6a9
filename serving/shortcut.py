"""Answer requests to a model without FastAPI's layers, which cost as much."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

_PATHS = 1024  # that are kept in mind; clients choose them


class Shortcut:
    """ASGI application: some routes of an app first, then the app itself.

    The endpoints take the request alone. Their errors are answered by the
    app's exception handlers.
    """

    def __init__(self, app: FastAPI, routes: Iterable[APIRoute]) -> None:
        """Takes POST requests to the routes."""
        self._app = app
        self._routes = list(routes)
        self._find = functools.lru_cache(_PATHS)(self._find_route)

    def _find_route(
        self, path: str
    ) -> tuple[APIRoute, Mapping[str, str]] | None:
        for route in self._routes:
            if found := route.path_regex.match(path):
                return route, found.groupdict()
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers, or lets the app answer."""
        found = None
        if scope["type"] == "http" and scope["method"] == "POST":
            found = self._find(scope["path"])
        if found is None:
            await self._app(scope, receive, send)
            return
        route, parameters = found
        scope["path_params"] = dict(parameters)
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception as error:
            handlers: Mapping[Any, Any] = self._app.exception_handlers
            kind = next(k for k in type(error).__mro__ if k in handlers)
            response = await handlers[kind](request, error)
            await response(scope, receive, send)
            if kind is Exception:
                raise  # uvicorn logs what is nobody's fault but ours
            return
        await response(scope, receive, send)
