"""The gRPC server: TF Serving's services and Open Inference v2's."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import open_inference_pb2
from serving.access import FREE_CALLS, Access
from serving.errors import RequestError, ServingError, printable
from serving.http_server import GRACE_SECONDS
from serving.model import VersionRepository
from serving.open_inference_grpc import OpenInferenceServicer
from serving.tf_serving_grpc import ModelService, PredictionService

_OPEN_INFERENCE = {
    name: getattr(open_inference_pb2, f"{name}Request")
    for name in (
        *("ServerLive", "ServerReady", "ServerMetadata"),
        *("ModelReady", "ModelMetadata", "ModelInfer"),
        *("RepositoryModelLoad", "RepositoryModelUnload"),
    )
}
_PREDICTION = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
}
_MODEL = {"GetModelStatus": get_model_status_pb2.GetModelStatusRequest}
_logger = logging.getLogger("serving.requests")


class GrpcServer:
    """Answers gRPC from a repository."""

    def __init__(
        self,
        host: str,
        port: int,
        repository: VersionRepository,
        access: Access,
    ) -> None:
        """Binds with `start`, which needs a running event loop."""
        self._repository = repository
        self._access = access
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: aio.Server | None = None

    async def start(self) -> int:
        """Serves in the background until `stop`; returns the port.

        Raises:
            ServingError: the port cannot be bound.
        """
        # An interceptor costs each call time.
        token = [_Token(self._access, self._repository.refused)]
        server = aio.server(
            interceptors=token if self._access.token else [],
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
        repository = self._repository
        for service, servicer, methods in (
            (
                "inference.GRPCInferenceService",
                OpenInferenceServicer(repository),
                _OPEN_INFERENCE,
            ),
            (
                "tensorflow.serving.PredictionService",
                PredictionService(repository),
                _PREDICTION,
            ),
            (
                "tensorflow.serving.ModelService",
                ModelService(repository),
                _MODEL,
            ),
        ):
            handlers = {
                name: _handler(getattr(servicer, name), request)
                for name, request in methods.items()
            }
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        try:
            credentials = self._access.grpc_credentials()
            if credentials is None:
                port = server.add_insecure_port(self._address)
            else:
                port = server.add_secure_port(self._address, credentials)
        except RuntimeError:
            raise ServingError(
                f"cannot listen for gRPC on {self._address}: "
                "give another grpc port, or 0 for a free one"
            ) from None
        await server.start()
        self._server = server
        return int(port)

    async def stop(self) -> None:
        """Finishes the calls that are under way."""
        if self._server is not None:
            await self._server.stop(grace=GRACE_SECONDS)


def _handler(
    method: Callable[[Any, aio.ServicerContext], Awaitable[Any]], request: Any
) -> grpc.RpcMethodHandler:
    """A method as grpc calls it: bytes to bytes, errors to statuses.

    Where grpc decodes itself, it logs bytes that are no message as a fault of
    the server.
    """

    async def call(sent: bytes, context: aio.ServicerContext) -> bytes:
        try:
            answer = await method(request.FromString(sent), context)
            return bytes(answer.SerializeToString())
        except RequestError as error:
            code, reason = grpc.StatusCode[error.grpc], printable(str(error))
        except DecodeError:
            code = grpc.StatusCode.INVALID_ARGUMENT
            reason = f"the bytes are no {request.DESCRIPTOR.name}"
        except Exception:
            _logger.exception("%s failed", request.DESCRIPTOR.name)
            code, reason = grpc.StatusCode.INTERNAL, "Internal server error"
        await context.abort(code, reason)
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(call)


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
