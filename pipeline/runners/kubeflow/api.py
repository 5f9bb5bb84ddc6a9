"""The API of Kubeflow Pipelines over HTTP: who asks, and what was answered."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError
from pipeline.config import ConfigError

_API = "/apis/v2beta1"
_SECONDS = (10.0, 60.0)  # to connect, to answer
# Where Kubeflow's notebooks find a token for its API.
_SA_TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"
_SA_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LOGIN = (
    "Give --token, --token-file or KFP_TOKEN (a bearer token of a service"
    " account or of the proxy), or --cookies with those of a browser that has"
    " logged in"
)
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class KubeflowError(UserError):
    """Kubeflow cannot be reached, refused, or a part of it is missing here."""


class UnavailableError(KubeflowError):
    """No answer now; the same question may be answered later."""


class NotFoundError(KubeflowError):
    """There is no such object."""


@dataclass(frozen=True)
class Access:
    """Where Kubeflow's API is, and with what it lets one in.

    Args:
        host: its address; https:// where no scheme is given.
        namespace: of a Kubeflow with several users.
        token: a bearer token; without one, that of `token_file`, of the
            variable KFP_TOKEN, or of a Kubeflow notebook.
        token_file: read again for each request, since tokens end.
        cookies: "NAME=VALUE; ...", or a file with that.
        ca_file: certificates that sign the server's.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    token_file: Path | None = None
    cookies: str | None = None
    ca_file: Path | None = None

    @property
    def address(self) -> str:
        """With a scheme, without a slash at the end."""
        host = self.host if "://" in self.host else f"https://{self.host}"
        return host.rstrip("/")

    def headers(self) -> dict[str, str]:
        """Those that say who asks.

        Raises:
            ConfigError: a file cannot be read, or holds nothing.
        """
        headers = {}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self.cookies:
            headers["Cookie"] = self._cookies(self.cookies)
        return headers

    def _token(self) -> str | None:
        if self.token:
            return self.token.strip()
        if self.token_file:
            return _read("--token-file", self.token_file)
        token = os.environ.get("KFP_TOKEN", "").strip()
        path = Path(os.environ.get(_SA_TOKEN_PATH, _SA_TOKEN))
        if not token and path.is_file():
            return _read(_SA_TOKEN_PATH, path)
        return token or None

    @staticmethod
    def _cookies(given: str) -> str:
        if "=" not in given or Path(given).is_file():
            given = _read("--cookies", Path(given))
        if "=" not in given or "\n" in given:
            raise ConfigError(
                "--cookies: accepted: NAME=VALUE[; NAME=VALUE...]"
            )
        return given


class Api:
    """KFP's API v2beta1. Redirects are not followed: they lead to a login."""

    def __init__(self, access: Access) -> None:
        """Raises ConfigError if `access` names no file that can be read."""
        import urllib3

        self.access = access
        access.headers()
        ca_file = access.ca_file
        if ca_file is not None and not ca_file.is_file():
            raise ConfigError(f"--ca-file: no file {str(ca_file)!r}")
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_SECONDS[0], read=_SECONDS[1]),
            retries=False,
            ca_certs=str(ca_file) if ca_file else None,
        )

    def get(self, path: str, **query: str | None) -> dict[str, Any]:
        """Answer to a GET; see `call`."""
        return self.call("GET", path, query=query)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Answer to a POST of JSON; see `call`."""
        return self.call("POST", path, body=json.dumps(body or {}).encode())

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Sends a request; returns the JSON object of the answer.

        Raises:
            UnavailableError: the server is not there, or too busy.
            KubeflowError: it refused, or something else answered in its place.
        """
        response = self._send(method, _API + path, query, body, content_type)
        if response.status >= 300:
            raise self._refused(response)
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KubeflowError(
                f"{self._who()} answered {method} {path} with"
                f" {_shown(response)} instead of JSON: a login page, or another"
                f" address. {_LOGIN}. With the whole of Kubeflow the address"
                " ends in /pipeline"
            )
        return answer

    def namespace(self) -> str | None:
        """The user's; asking for it shows whether the API lets us in.

        Raises:
            ConfigError: it is missing, and Kubeflow has several users.
        """
        several = self.get("/healthz").get("multi_user") is True
        namespace = self.access.namespace
        if namespace is None and several and _NAMESPACE.is_file():
            namespace = _NAMESPACE.read_text("utf-8").strip()
        if namespace is None and several:
            raise ConfigError(
                f"--namespace: missing; Kubeflow at {self.access.host} has"
                " several users. Accepted: the namespace of your profile"
            )
        return namespace

    def identity(self, made: Mapping[str, Any], name: str) -> str:
        """The id of what the API says that it has made."""
        identity = made.get(name)
        if not isinstance(identity, str) or not identity:
            raise KubeflowError(
                f"{self._who()}: the answer has no {name}; received:"
                f" {_short(json.dumps(made), 200)}"
            )
        return identity

    def log(self, run: str, node: str) -> str:
        """The log of a task's pod, or "" where the server has none."""
        path = f"/apis/v1alpha1/runs/{run}/nodes/{node}/log"
        try:
            response = self._send("GET", path, None, None, "application/json")
        except KubeflowError:
            return ""
        if response.status != 200 or _is_html(response):
            return ""
        return str(response.data.decode("utf-8", "replace"))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None,
        body: bytes | None,
        content_type: str,
    ) -> Any:
        from urllib.parse import urlencode

        import urllib3

        url = self.access.address + path
        given = {k: v for k, v in (query or {}).items() if v is not None}
        if given:
            url += f"?{urlencode(given)}"
        headers = {"Accept": "application/json", **self.access.headers()}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            return self._pool.request(method, url, body=body, headers=headers)
        except urllib3.exceptions.SSLError as error:
            raise KubeflowError(
                f"{self._who()}: {error}. --ca-file: certificates that sign"
                " the server's"
            ) from error
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise UnavailableError(
                "--host: cannot reach Kubeflow Pipelines at"
                f" {self.access.host}: {_short(str(error))}. Accepted: the"
                " address of its API, such as http://localhost:8080 after"
                " `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`"
            ) from error

    def _refused(self, response: Any) -> KubeflowError:
        status = response.status
        if status < 400:
            target = response.headers.get("Location", "").partition("?")[0]
            return KubeflowError(
                f"{self._who()} sends elsewhere ({status} to {target!r}), as"
                f" to a login. {_LOGIN}"
            )
        text = (
            f"{self._who()}: {status} {response.reason}: {_message(response)}"
        )
        if status == 401:
            return KubeflowError(f"{text}. {_LOGIN}")
        if status == 403:
            return KubeflowError(
                f"{text}. The token's account needs Kubeflow's role"
                " kubeflow-edit (kubeflow-pipelines-edit) in --namespace"
            )
        if status == 404:
            return NotFoundError(text)
        if "namespace" in text and not self.access.namespace:
            text += ". --namespace says which, with several users"
        return (UnavailableError if status in _BUSY else KubeflowError)(text)

    def _who(self) -> str:
        return f"Kubeflow Pipelines at {self.access.host}"


def _read(option: str, path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{option}: cannot read {str(path)!r}: {reason}"
        ) from error
    if not text:
        raise ConfigError(f"{option}: {str(path)!r} is empty")
    return text


def _message(response: Any) -> str:
    """The server's own words."""
    text = response.data.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        return _shown(response) if _is_html(response) else _short(text)
    if isinstance(found, dict):
        for name in ("message", "error", "error_message"):
            if isinstance(found.get(name), str) and found[name]:
                return _short(found[name])
    return _short(text)


def _is_html(response: Any) -> bool:
    return "html" in response.headers.get("Content-Type", "") or (
        response.data.lstrip()[:1] == b"<"
    )


def _shown(response: Any) -> str:
    """Describe an answer that is not JSON in a few words."""
    text = response.data.decode("utf-8", "replace")
    if _is_html(response):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.S | re.I)
        name = f" {html.unescape(_short(title[1]))!r}" if title else ""
        return f"a web page{name}"
    return repr(_short(text, 80))


def _short(text: str, width: int = 500) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[:width]}..."
