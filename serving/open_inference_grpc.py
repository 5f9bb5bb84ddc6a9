"""Open Inference Protocol v2 over gRPC: its messages to requests and back."""

import uuid
from typing import Any

from grpc.aio import ServicerContext
from grpc_interceptor.exceptions import NotFound
from kserve.errors import ModelNotFound
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.infer_type import to_http_parameters

from serving import open_inference
from serving.columns import Array
from serving.errors import BadInputError
from serving.model import VersionRepository
from serving.open_inference import SIGNATURE, InferRequest, Tensor
from serving.savedmodel import LoadedModel
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


class OpenInferenceServicer(InferenceServicer):
    """KServe's service, which knows about versions."""

    def __init__(self, repository: VersionRepository, **parts: Any) -> None:
        """Answers from the repository."""
        super().__init__(**parts)
        self._repository = repository

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: ServicerContext
    ) -> pb.ModelReadyResponse:
        """Answer if a model, or one version of it, is ready."""
        try:
            model = self._find(request.name, request.version, ready=False)
        except ModelNotFound as error:
            if request.name == self._repository.name:
                return pb.ModelReadyResponse(ready=False)
            raise NotFound(str(error)) from None
        return pb.ModelReadyResponse(ready=bool(model.ready))

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Answer with the inputs and outputs of a version, and all versions."""
        key = request.name
        if request.version:
            key = f"{key}/versions/{request.version}"
        metadata = await self._data_plane.model_metadata(key)
        return pb.ModelMetadataResponse(**metadata)

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
    parameters = to_http_parameters(request.parameters)
    return InferRequest(
        request.id,
        parameters.get(SIGNATURE),
        tensors,
        {output.name: bool(raw) for output in request.outputs},
        bool(raw),
    )


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
