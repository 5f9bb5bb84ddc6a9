"""HTTP routes: TF Serving's, and the Open Inference Protocol's."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from google.protobuf import json_format
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import (
    open_inference,
    open_inference_json,
    openapi,
    tf_serving,
    tf_serving_examples,
)
from serving.columns import Array
from serving.errors import TooLargeError
from serving.limits import Limits
from serving.model import VersionRepository
from serving.savedmodel import LoadedModel
from serving.tf_serving import DEFAULT_SIGNATURE

REQUEST_ID = "x-request-id"  # names a request in the request log
GONE = 499  # nginx' status for a client that left before the end
_JSON = (b"content-type", b"application/json")
_ENCODERS = {
    "classify": tf_serving_examples.encode_classes,
    "regress": tf_serving_examples.encode_values,
}


class _Json(Response):
    """As Starlette's, whose way to its headers costs more than they do."""

    def __init__(self, body: bytes) -> None:
        self.status_code, self.body, self.background = 200, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON]


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request itself, and nothing else."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The endpoint: FastAPI reads no body and no parameters for it."""
        endpoint: Callable[[Request], Any] = self.endpoint
        return endpoint


def tf_serving_router(repository: VersionRepository) -> APIRouter:
    """`/v1/models/...` as TF Serving has it."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["TF Serving"])

    async def ask(request: Request, read: Any, write: Any) -> Response:
        body = await _body(request, repository)
        # The request holds this version to its end, whatever is switched in.
        model = repository.find(**request.path_params)
        answer = await model.answer(
            lambda loaded: read(body, loaded),
            write,
            len(body),
            lambda: request.headers.get(REQUEST_ID, ""),
        )
        return _Json(answer)

    async def predict(request: Request) -> Response:
        by_row = True

        def read(body: bytes, loaded: LoadedModel) -> Any:
            nonlocal by_row
            decoded = tf_serving.decode(
                body,
                loaded.inputs,
                loaded.aliases,
                repository.ignore_unknown,
                loaded.lists or {},
            )
            by_row = decoded.by_row
            return decoded.signature, decoded.columns

        def write(_: LoadedModel, outputs: Mapping[str, Array]) -> bytes:
            return tf_serving.encode(outputs, by_row)

        return await ask(request, read, write)

    def examples(encode: Callable[[Mapping[str, Array]], bytes]) -> Any:
        def read(body: bytes, loaded: LoadedModel) -> Any:
            columns = tf_serving_examples.decode(
                body, loaded.inputs, loaded.aliases, loaded.lists
            )
            return DEFAULT_SIGNATURE, columns

        async def answer(request: Request) -> Response:
            return await ask(request, read, lambda _, out: encode(out))

        return answer

    def status(name: str, version: str | None = None) -> JSONResponse:
        states = {str(v): state for v, state in repository.states().items()}
        if version is None:
            repository.get_model(name)
        elif name != repository.name or version not in states:
            repository.get_model(f"{name}/versions/{version}")
        else:
            states = {version: states[version]}
        return JSONResponse({"model_version_status": _statuses(states)})

    def metadata(
        name: str, version: str | None = None, label: str | None = None
    ) -> JSONResponse:
        loaded = repository.find(name, version, label).loaded
        assert loaded is not None
        spec = {
            "name": name,
            "signature_name": "",
            "version": str(loaded.version),
        }
        definitions = {
            name: json_format.MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in loaded.signature_defs.items()
        }
        return JSONResponse(
            {
                "model_spec": spec,
                "metadata": {"signature_def": {"signature_def": definitions}},
            }
        )

    for where in ("", "/versions/{version}", "/labels/{label}"):
        router.add_api_route(
            f"{where}:predict",
            predict,
            methods=["POST"],
            route_class_override=DirectRoute,
            openapi_extra=openapi.operation(
                router.prefix + where, openapi.PREDICT
            ),
        )
        for verb, encode in _ENCODERS.items():
            router.add_api_route(
                f"{where}:{verb}",
                examples(encode),
                methods=["POST"],
                route_class_override=DirectRoute,
                openapi_extra=openapi.operation(
                    router.prefix + where, openapi.EXAMPLES
                ),
            )
        router.add_api_route(f"{where}/metadata", metadata)
    for where in ("", "/versions/{version}"):
        router.add_api_route(where, status)
    return router


def open_inference_router(repository: VersionRepository) -> APIRouter:
    """`/v2/models/<name>...`, with and without a version."""
    router = APIRouter(prefix="/v2/models/{name}", tags=["V2"])

    async def infer(request: Request) -> Response:
        body = await _body(request, repository)
        model = repository.find(**request.path_params)
        asked: open_inference.InferRequest | None = None

        def read(loaded: LoadedModel) -> tuple[str, dict[str, Array]]:
            nonlocal asked
            length = request.headers.get(open_inference_json.LENGTH_HEADER)
            asked = open_inference_json.read(body, length)
            return open_inference.decode(
                asked,
                loaded.inputs,
                loaded.aliases,
                repository.ignore_unknown,
            )

        def write(loaded: LoadedModel, outputs: dict[str, Array]) -> Any:
            assert asked is not None
            return open_inference_json.write(
                asked, model.name, loaded.version, outputs
            )

        def identify() -> str:
            header = request.headers.get(REQUEST_ID, "")
            return header if asked is None else asked.id or header

        answer, length = await model.answer(read, write, len(body), identify)
        if length is None:
            return Response(answer, media_type="application/json")
        header = {open_inference_json.LENGTH_HEADER: str(length)}
        return Response(
            answer, headers=header, media_type="application/octet-stream"
        )

    async def ready(name: str, version: str | None = None) -> JSONResponse:
        model = repository.find(name, version)
        return JSONResponse({"name": model.name, "ready": True})

    async def metadata(name: str, version: str | None = None) -> JSONResponse:
        key = name if version is None else f"{name}/versions/{version}"
        return JSONResponse(repository.metadata(key))

    for where in ("", "/versions/{version}"):
        router.add_api_route(
            f"{where}/infer",
            infer,
            methods=["POST"],
            route_class_override=DirectRoute,
            openapi_extra=openapi.operation(
                router.prefix + where, openapi.INFER
            ),
        )
        router.add_api_route(f"{where}/ready", ready)
        router.add_api_route(where, metadata)
    return router


async def _body(request: Request, repository: VersionRepository) -> bytes:
    """As `read_body`; what is refused is counted."""
    try:
        return await read_body(request, repository.limits)
    except HTTPException as error:
        repository.refused(error.status_code)
        raise
    except TooLargeError:
        repository.refused(413)
        raise
    except ClientDisconnect:
        repository.refused(GONE)
        raise


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body, decompressed.

    Raises:
        HTTPException: 408, it takes too long; 400 or 415, it is compressed
            in another way than its header says.
        TooLargeError: it is larger than the limit.
    """
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                limits.check_body(size)
                chunks.append(chunk)
    except TimeoutError:
        raise HTTPException(
            408, f"the body took more than {limits.body_seconds:g} seconds"
        ) from None
    body = b"".join(chunks)
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        return body
    if coding not in ("gzip", "deflate"):
        raise HTTPException(
            415,
            "content-encoding: accepted: gzip, deflate."
            f" Received: {coding[:20]!r}",
        )
    decompress = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either of them
    try:
        body = decompress.decompress(body, limits.body + 1)
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {coding}: {error}") from None
    limits.check_body(len(body))
    if not decompress.eof or decompress.unused_data:
        raise HTTPException(400, f"the body is not one whole {coding} stream")
    return body


def _statuses(states: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "version": version,
            "state": state,
            "status": {
                "error_code": "UNKNOWN" if reason else "OK",
                "error_message": reason,
            },
        }
        for version, (state, reason) in states.items()
    ]
