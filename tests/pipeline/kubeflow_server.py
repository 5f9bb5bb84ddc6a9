"""A stand-in for KFP's API server, and for the proxies before it.

It answers as KFP 2.16 behind Dex or an OAuth proxy: JSON to those who may ask,
a login page with 200 or a redirect to others, google.rpc.Status for errors.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOGIN = b"<!DOCTYPE html><html><head><title>Log in to Your Account</title>"


class Kubeflow:
    """A running server; a context. What it has received is in `requests`.

    Args:
        token: the one accepted, as a bearer token or a cookie; None: all.
        guard: what those without it see: `page`, `redirect`, `unauthorized`.
        multi_user: whether requests must name a namespace.
        states: of the run, one an answer, the last again and again; a number
            is an HTTP status in its place.
        details: the run's `run_details` once it has ended.
        logs: pod -> its log.
        certificate: PEM of a key and its certificate; None for plain HTTP.
    """

    def __init__(
        self,
        token: str | None = None,
        guard: str = "page",
        multi_user: bool = False,
        states: list[str | int] | None = None,
        details: dict[str, Any] | None = None,
        logs: dict[str, str] | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.token, self.guard, self.multi_user = token, guard, multi_user
        self.states = list(states or ["SUCCEEDED"])
        self.details, self.logs = details, logs or {}
        self.refusal: dict[str, Any] | None = None
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.made: dict[str, list[dict[str, Any]]] = {}
        kubeflow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kubeflow.answer(self, "GET")

            def do_POST(self) -> None:
                kubeflow.answer(self, "POST")

            def do_DELETE(self) -> None:
                kubeflow.answer(self, "DELETE")

            def log_message(self, *_: Any) -> None:
                """Prints nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True
            )
            self.host = self.host.replace("http:", "https:")

    def __enter__(self) -> Kubeflow:
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        ).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        """Answers one request."""
        size = int(request.headers.get("Content-Length") or 0)
        raw = request.rfile.read(size)
        url = urlsplit(request.path)
        body: dict[str, Any] = {}
        if raw and "json" in request.headers.get("Content-Type", ""):
            body = json.loads(raw)
        elif raw:
            body = {"raw": raw}
        query = {
            name: values[0] for name, values in parse_qs(url.query).items()
        }
        self.requests.append((method, url.path, query | body))
        if not self._may(request):
            return self._deny(request)
        found = self._route(method, url.path, query, body)
        if isinstance(found, str):
            return _reply(request, 200, found.encode(), "text/plain")
        status, value = found
        return _reply(request, status, json.dumps(value).encode())

    def _may(self, request: BaseHTTPRequestHandler) -> bool:
        given = request.headers.get("Authorization") or ""
        cookie = request.headers.get("Cookie") or ""
        return self.token is None or (
            given == f"Bearer {self.token}"
            or cookie == f"oauth2_proxy_kubeflow={self.token}"
        )

    def _deny(self, request: BaseHTTPRequestHandler) -> None:
        if self.guard == "redirect":
            request.send_response(302)
            request.send_header("Location", "/dex/auth?client_id=kubeflow")
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif self.guard == "unauthorized":
            text = b"Jwt verification fails"
            _reply(request, 401, text, "text/plain")
        else:
            _reply(request, 200, LOGIN, "text/html; charset=utf-8")

    def _route(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: dict[str, Any],
    ) -> Any:
        if path.startswith("/apis/v1alpha1/runs/r1/nodes/"):
            pod = path.split("/")[-2]
            if pod in self.logs:
                return self.logs[pod]
            return status(13, f"pod {pod} not found", 500)
        name = path.removeprefix("/apis/v2beta1/")
        assert name != path, path
        if name == "healthz":
            return 200, {"multi_user": self.multi_user}
        if self.refusal is not None and method == "POST" and name == "runs":
            return 400, self.refusal
        several = name == "experiments" and self.multi_user
        if several and not (query | body).get("namespace"):
            return status(
                3, "Invalid input error: namespace cannot be empty", 400
            )
        if name == "experiments" and method == "GET":
            return 200, {}
        if name == "runs/r1":
            return self._run()
        handler: Callable[..., Any] | None = getattr(
            self, f"{method.lower()}_{name.partition('/')[0]}", None
        )
        if handler is not None:
            return handler(name, query, body)
        if method == "POST" and name in ("experiments", "runs"):
            kind = name.removesuffix("s")
            self.made.setdefault(name, []).append(body)
            return 200, {f"{kind}_id": f"{kind[0]}1", **body}
        return status(5, f"{name} not found", 404)

    def get_pipelines(self, name: str, query: Any, body: Any) -> Any:
        """A pipeline by its name, or its versions."""
        pipelines = self.made.get("pipelines", [])
        if name.endswith("/versions"):
            made = list(self.made.get("versions", []))
            if "filter" in query:
                (predicate,) = json.loads(query["filter"])["predicates"]
                wanted = predicate["stringValue"]
                made = [
                    version for version in made if version["name"] == wanted
                ]
            if query.get("sort_by") == "created_at desc":
                made.reverse()
            found = [
                {k: v for k, v in version.items() if k != "content"}
                for version in made
            ]
            return 200, {"pipeline_versions": found} if found else {}
        wanted = name.rpartition("/")[2]
        for pipeline in pipelines:
            if pipeline["name"] == wanted:
                return 200, pipeline
        return status(5, f"pipeline {wanted} not found", 404)

    def post_pipelines(self, name: str, query: Any, body: Any) -> Any:
        """Makes an empty pipeline, or uploads a version of one."""
        if name == "pipelines":
            made = self.made.setdefault("pipelines", [])
            made.append({"pipeline_id": f"p{len(made) + 1}", **body})
            return 200, made[-1]
        assert name == "pipelines/upload_version", name
        made = self.made.setdefault("versions", [])
        made.append(
            {
                "pipeline_id": query["pipelineid"],
                "pipeline_version_id": f"v{len(made) + 1}",
                "name": query["name"],
                "content": body["raw"],
            }
        )
        return 200, {k: v for k, v in made[-1].items() if k != "content"}

    def get_recurringruns(self, name: str, query: Any, body: Any) -> Any:
        """All of them, on two pages."""
        made = self.made.get("recurringruns", [])
        if query.get("page_token"):
            return 200, {"recurringRuns": made[1:]}
        return 200, {"recurringRuns": made[:1], "next_page_token": "2"}

    def post_recurringruns(self, name: str, query: Any, body: Any) -> Any:
        """Makes one, or turns one on or off."""
        made = self.made.setdefault("recurringruns", [])
        identity, _, verb = name.rpartition("/")[2].partition(":")
        if verb:
            (run,) = [r for r in made if r["recurring_run_id"] == identity]
            run["status"] = f"{verb.upper()}D"
            return 200, {}
        made.append({"recurring_run_id": f"rr{len(made) + 1}", **body})
        made[-1]["status"] = "ENABLED"
        return 200, made[-1]

    def delete_recurringruns(self, name: str, query: Any, body: Any) -> Any:
        """Removes one."""
        identity = name.rpartition("/")[2]
        kept = [
            run
            for run in self.made["recurringruns"]
            if run["recurring_run_id"] != identity
        ]
        self.made["recurringruns"] = kept
        return 200, {}

    def _run(self) -> tuple[int, dict[str, Any]]:
        state = self.states[0]
        if len(self.states) > 1:
            self.states.pop(0)
        if isinstance(state, int):
            return status(14, "upstream connect error", state)
        return 200, {
            "run_id": "r1",
            "state": state,
            "run_details": self.details,
        }


def status(code: int, message: str, http: int) -> tuple[int, dict[str, Any]]:
    """An error as the API gives it: google.rpc.Status."""
    return http, {"code": code, "message": message, "details": []}


def _reply(
    request: BaseHTTPRequestHandler,
    code: int,
    data: bytes,
    kind: str = "application/json",
) -> None:
    request.send_response(code)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
