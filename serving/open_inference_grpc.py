"""Open Inference Protocol v2 over gRPC: its messages to requests and back."""

import uuid
from typing import Any

from grpc.aio import ServicerContext

from serving import open_inference
from serving import open_inference_pb2 as pb
from serving.columns import Array
from serving.errors import BadInputError, UnknownModelError
from serving.model import VersionRepository
from serving.open_inference import SIGNATURE, InferRequest, Tensor
from serving.savedmodel import LoadedModel
from serving.server_routes import about
from serving.tf_serving_grpc import request_id

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}


class OpenInferenceServicer:
    """The service inference.GRPCInferenceService."""

    def __init__(self, repository: VersionRepository) -> None:
        """Answers from the repository."""
        self._repository = repository

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: ServicerContext
    ) -> pb.ServerLiveResponse:
        """Answers that the process runs."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: ServicerContext
    ) -> pb.ServerReadyResponse:
        """Answers if a version is loaded."""
        return pb.ServerReadyResponse(ready=self._repository.ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Names the server."""
        return pb.ServerMetadataResponse(**about())

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: ServicerContext
    ) -> pb.ModelReadyResponse:
        """Answer if a model, or one version of it, is ready."""
        try:
            model = self._find(request.name, request.version, ready=False)
        except UnknownModelError:
            if request.name == self._repository.name:
                return pb.ModelReadyResponse(ready=False)
            raise
        return pb.ModelReadyResponse(ready=bool(model.ready))

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Answer with the inputs and outputs of a version, and all versions."""
        key = request.name
        if request.version:
            key = f"{key}/versions/{request.version}"
        return pb.ModelMetadataResponse(**self._repository.metadata(key))

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        """Accepts a load that is done."""
        name = request.model_name
        self._repository.load(name)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Refuses: versions follow the directory."""
        name = request.model_name
        self._repository.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: ServicerContext
    ) -> pb.ModelInferResponse:
        """Answers one request."""
        model = self._find(request.model_name, request.model_version)
        asked: InferRequest | None = None

        def read(loaded: LoadedModel) -> tuple[str, dict[str, Array]]:
            nonlocal asked
            asked = _read(request)
            return open_inference.decode(
                asked,
                loaded.inputs,
                loaded.aliases,
                self._repository.ignore_unknown,
            )

        def write(
            loaded: LoadedModel, outputs: dict[str, Array]
        ) -> pb.ModelInferResponse:
            assert asked is not None
            return _write(asked, model.name, loaded.version, outputs)

        return await model.answer(
            read,
            write,
            request.ByteSize(),
            lambda: request.id or request_id(context),
        )

    def _find(self, name: str, version: str, ready: bool = True) -> Any:
        if ready:
            return self._repository.find(name, version or None)
        key = f"{name}/versions/{version}" if version else name
        return self._repository.get_model(key)


def _read(request: pb.ModelInferRequest) -> InferRequest:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadInputError(
            f"raw_input_contents: expected {len(request.inputs)} of them, one"
            f" an input. Received: {len(raw)}"
        )
    tensors = []
    for number, tensor in enumerate(request.inputs):
        if raw and tensor.HasField("contents"):
            raise BadInputError(
                f"feature {tensor.name!r}: has contents beside"
                " raw_input_contents; send one of them"
            )
        field = _CONTENTS.get(tensor.datatype)
        tensors.append(
            Tensor(
                tensor.name,
                tensor.datatype,
                list(tensor.shape),
                () if raw or not field else getattr(tensor.contents, field),
                raw[number] if raw else None,
            )
        )
    return InferRequest(
        request.id,
        _parameter(request.parameters, SIGNATURE),
        tensors,
        {output.name: bool(raw) for output in request.outputs},
        bool(raw),
    )


def _parameter(parameters: Any, name: str) -> object:
    if name not in parameters:
        return None
    parameter = parameters[name]
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None


def _write(
    request: InferRequest,
    model: str,
    version: int,
    outputs: dict[str, Array],
) -> pb.ModelInferResponse:
    open_inference.check_outputs(request, outputs)
    response = pb.ModelInferResponse(
        model_name=model,
        model_version=str(version),
        id=request.id or str(uuid.uuid4()),
    )
    for name in request.outputs or outputs:
        array = outputs[name]
        datatype = open_inference.datatype_of(array.dtype)
        tensor = response.outputs.add(
            name=name, datatype=datatype, shape=array.shape
        )
        if request.binary or datatype not in _CONTENTS:
            response.raw_output_contents.append(array.tobytes())
        else:
            field = getattr(tensor.contents, _CONTENTS[datatype])
            field.extend(array.ravel().tolist())
    return response
