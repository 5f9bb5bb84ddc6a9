"""The ways in which the server refuses to start, or a request."""

import reprlib

_WIDEST = 60  # characters of a value in a message
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 2 * _WIDEST


class ServingError(ValueError):
    """The server cannot start: the model directory or a port is wrong."""

    exit_code = 2  # of `lionctr serve`


class RequestError(Exception):
    """A request is refused, by a status of HTTP and one of gRPC."""

    http = 400
    grpc = "INVALID_ARGUMENT"


class BadInputError(RequestError, ValueError):
    """A request does not fit the model's signature; names the feature."""


class TooLargeError(BadInputError):
    """A request is larger than the server's limits."""

    http = 413
    grpc = "RESOURCE_EXHAUSTED"


class UnknownModelError(RequestError):
    """A request names a model or a version that is not served."""

    http = 404
    grpc = "NOT_FOUND"


class NotReadyError(RequestError):
    """No version is loaded to answer with."""

    http = 503
    grpc = "UNAVAILABLE"


class OverloadedError(NotReadyError):
    """Too much waits to be answered; the client may try again."""


def printable(text: str) -> str:
    """The same without lone surrogates, which no answer can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A received value in a message: however large or deep, it is short."""
    text = _SHORT.repr(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
