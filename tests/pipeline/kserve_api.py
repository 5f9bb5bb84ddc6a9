"""A stand-in for Kubernetes with KServe: the API server and the controller.

It allows what the Role in deploy/kserve.yaml allows, refuses objects that are
not as KServe's own models have them, answers with Status objects, and counts
generations. The controller looks at a change one answer later: until then the
status is that of the generation before.
"""

from __future__ import annotations

import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kserve
import yaml
from kubernetes import client

from tests.pipeline.schemas import problems

ROOT = Path(__file__).resolve().parents[2]
_VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "DELETE": "delete"}


def role() -> dict[str, Any]:
    """The rule of the Role that we ship."""
    documents = yaml.safe_load_all((ROOT / "deploy/kserve.yaml").read_text())
    (found,) = [d for d in documents if d["kind"] == "Role"]
    (rule,) = found["rules"]
    return dict(rule)


class KServe:
    """A running API; a context.

    Args:
        folder: for the kubeconfig.
        outcomes: version -> `fails`, or `never`; others become ready.
        verbs: those allowed; None: the Role's.
        installed: whether the API knows InferenceServices.
        away: how many answers are 503.
    """

    def __init__(
        self,
        folder: Path,
        outcomes: dict[str, str] | None = None,
        verbs: set[str] | None = None,
        installed: bool = True,
        away: int = 0,
    ) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.outcomes, self.installed = outcomes or {}, installed
        self.verbs = set(role()["verbs"]) if verbs is None else verbs
        self.away = away
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _go(self) -> None:
                code, body = api.answer(self)
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._go
                raise AttributeError(name)

            def log_message(self, *_: Any) -> None:
                """Prints nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.config = folder / "kubeconfig"
        context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
        self.config.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [context],
                    "clusters": [{"name": "k", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )

    def __enter__(self) -> KServe:
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        ).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        """The status and the body of one answer."""
        place, name = self._place(request.path)
        size = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(size) or "null")
        verb = _VERBS[request.command]
        self.requests.append(verb)
        if not self.installed:
            return 404, "404 page not found"
        if self.away and verb == "get" and self.services:
            self.away -= 1
            return status(503, "ServiceUnavailable", "etcd is away")
        if verb not in self.verbs:
            who = "system:serviceaccount:ads:pipeline-runner"
            message = f'User "{who}" cannot {verb} resource "{place}"'
            return status(403, "Forbidden", message)
        if verb == "create":
            return self._create(body)
        found = self.services.get(name)
        if found is None:
            return status(404, "NotFound", f'{place} "{name}" not found')
        if verb == "get":
            shown = copy.deepcopy(found)
            self._reconcile(found)
            return 200, shown
        if verb == "delete":
            del self.services[name]
            return status(200, "", "")
        kind = request.headers["Content-Type"]
        if kind != "application/merge-patch+json":
            return status(415, "UnsupportedMediaType", f"{kind} of {body}")
        return self._patch(found, body)

    def _place(self, path: str) -> tuple[str, str]:
        rule = role()
        (group,), (plural,) = rule["apiGroups"], rule["resources"]
        start = f"/apis/{group}/v1beta1/namespaces/ads/{plural}"
        assert path.startswith(start), path
        return f"{plural}.{group}", path[len(start) :].strip("/")

    def _create(self, made: dict[str, Any]) -> tuple[int, Any]:
        name = made["metadata"]["name"]
        if name in self.services:
            return status(409, "AlreadyExists", f"{name} already exists")
        made["metadata"]["generation"] = 1
        return self._stored(name, made, 201)

    def _patch(self, found: dict[str, Any], body: Any) -> tuple[int, Any]:
        made = merged(found, body)
        if made["spec"] != found["spec"]:
            made["metadata"]["generation"] += 1
        return self._stored(made["metadata"]["name"], made, 200)

    def _stored(
        self, name: str, made: dict[str, Any], code: int
    ) -> tuple[int, Any]:
        kind = "V1beta1InferenceService"
        shown = {k: v for k, v in made.items() if k != "status"}
        wrong = list(problems(shown, kind, kserve, client))
        if wrong:
            return status(422, "Invalid", "; ".join(wrong))
        self.services[name] = made
        return code, made

    def _reconcile(self, found: dict[str, Any]) -> None:
        """Write as the controller: a new revision, then how it ended."""
        state = found.setdefault("status", {"observedGeneration": 0})
        parts = state.setdefault("components", {}).setdefault("predictor", {})
        name = found["metadata"]["name"]
        if state["observedGeneration"] < found["metadata"]["generation"]:
            state["observedGeneration"] = found["metadata"]["generation"]
            number = state["observedGeneration"]
            newest = f"{name}-predictor-{number:05d}"
            parts["latestCreatedRevision"] = newest
            state.pop("modelStatus", None)
            self._condition(state, "Unknown", "")
            return
        predictor = found["spec"]["predictor"]
        (container,) = predictor["containers"]
        (pin,) = [a for a in container["args"] if a.startswith("--pin=")]
        outcome = self.outcomes.get(pin.removeprefix("--pin="), "ready")
        newest = parts["latestCreatedRevision"]
        if outcome == "ready":
            share = predictor.get("canaryTrafficPercent", 100)
            if share == 100:
                parts["latestRolledoutRevision"] = newest
            parts["latestReadyRevision"] = newest
            parts["traffic"] = [{"revisionName": newest, "percent": share}]
            state["url"] = f"http://{name}.ads.example.com"
            self._condition(state, "True", "")
        elif outcome == "fails":
            state["modelStatus"] = {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": "ads/7 is damaged"},
            }
            self._condition(state, "False", "")
        else:
            why = "Revision has no ready pods"
            self._condition(state, "False", why)

    @staticmethod
    def _condition(state: dict[str, Any], value: str, why: str) -> None:
        ready = {"type": "Ready", "status": value}
        state["conditions"] = [ready | ({"message": why} if why else {})]


def merged(value: Any, patch: Any) -> Any:
    """RFC 7386: a mapping is merged, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for name, one in patch.items():
        if one is None:
            value.pop(name, None)
        else:
            value[name] = merged(value.get(name), one)
    return value


def status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    """Answer of Kubernetes in place of an object."""
    return code, {
        "kind": "Status",
        "status": "Success" if code < 300 else "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
