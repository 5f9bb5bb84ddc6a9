"""A small client of TF Serving's REST API, of the standard library only."""

import base64
import http.client
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

Row = Mapping[str, float | int | str | bool | None]


class PredictError(RuntimeError):
    """A prediction failed; `status` is HTTP's, or None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keeps the server's message and status."""
        super().__init__(message)
        self.status = status


class Client:
    """Asks one model for click probabilities.

    Keeps a connection per thread, so one client may be shared.

    ```python
    Client("http://127.0.0.1:8501", "ctr").predict([{"I1": 3.0, "C1": "a"}])
    ```
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Connects with the first request.

        Args:
            url: of the server, such as http://127.0.0.1:8501.
            model: name of the model.
            version: a given version; the newest one by default.
            timeout: seconds, for each read from the socket.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected an http(s) URL. Received: {url!r}")
        self._parts = parts
        self._timeout = timeout
        self._path = f"{parts.path.rstrip('/')}/v1/models/{quote(model)}"
        if version is not None:
            self._path += f"/versions/{version}"
        self._local = threading.local()

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Scores rows.

        Args:
            rows: feature -> value; every feature of the model, None where
                the value is unknown.

        Returns:
            One probability a row; of a model of several labels a mapping of
            them: ctr, cvr, ctcvr.

        Raises:
            PredictError: the server refused, failed or cannot be reached.
        """
        return self._predict({"instances": list(rows)})

    def predict_examples(self, examples: Sequence[bytes]) -> list[Any]:
        """Scores serialized `tf.Example` messages; see `predict`."""
        encoded = [
            {"b64": base64.b64encode(example).decode()} for example in examples
        ]
        return self._predict(
            {"signature_name": "examples", "instances": encoded}
        )

    def _predict(self, request: Mapping[str, object]) -> list[Any]:
        body = json.dumps(request, default=_from_numpy).encode()
        answer = self._post(f"{self._path}:predict", body)
        if not isinstance(answer, dict) or "predictions" not in answer:
            raise PredictError(f"unexpected answer: {str(answer)[:200]}")
        predictions: list[Any] = answer["predictions"]
        return predictions

    def _post(self, path: str, body: bytes) -> Any:
        where = f"{self._parts.scheme}://{self._parts.netloc}{path}"
        try:
            status, content = self._exchange(path, body)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise PredictError(f"no answer from {where}: {reason}") from error
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status != 200:
            detail = answer.get("error") if isinstance(answer, dict) else None
            text = detail or content[:200].decode(errors="replace")
            raise PredictError(f"{where} answered {status}: {text}", status)
        return answer

    def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        kept: http.client.HTTPConnection | None = getattr(
            self._local, "connection", None
        )
        if kept is not None:
            try:
                return _round_trip(kept, path, body)
            except (ConnectionError, http.client.BadStatusLine):
                # The server closed the idle connection; scoring twice does
                # no harm, so try once more on a new one.
                kept.close()
            except BaseException:
                self._local.connection = None
                kept.close()
                raise
        secure = self._parts.scheme == "https"
        kind = (
            http.client.HTTPSConnection
            if secure
            else http.client.HTTPConnection
        )
        assert self._parts.hostname is not None
        self._local.connection = kind(
            self._parts.hostname, self._parts.port, timeout=self._timeout
        )
        try:
            return _round_trip(self._local.connection, path, body)
        except BaseException:
            self._local.connection.close()
            self._local.connection = None
            raise


def _round_trip(
    connection: http.client.HTTPConnection, path: str, body: bytes
) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def _from_numpy(value: object) -> object:
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"cannot send a {type(value).__name__}: {value!r}")
    return item()
