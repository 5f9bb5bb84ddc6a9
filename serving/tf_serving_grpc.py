"""TF Serving's gRPC: PredictionService and ModelService."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from grpc.aio import ServicerContext
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.python.framework import dtypes, tensor_util
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import tf_serving_examples
from serving.columns import Array
from serving.errors import BadInputError, shown
from serving.limits import Limits
from serving.model import CtrModel, VersionRepository
from serving.open_inference import check_rows, converted, rows_of
from serving.savedmodel import LoadedModel
from serving.tf_serving import (
    DEFAULT_SIGNATURE,
    check_names,
    find_signature,
    renamed,
)
from serving.tf_serving_examples import values_of

_DEFINITIONS = "signature_def"  # the one metadata field that there is
_FIELDS: dict[int, tuple[np.dtype[Any], str]] = {
    types_pb2.DT_FLOAT: (np.dtype("<f4"), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype("<f8"), "double_val"),
    types_pb2.DT_INT32: (np.dtype("<i4"), "int_val"),
    types_pb2.DT_INT64: (np.dtype("<i8"), "int64_val"),
    types_pb2.DT_BOOL: (np.dtype(bool), "bool_val"),
    types_pb2.DT_STRING: (np.dtype(object), "string_val"),
}
_UNKNOWN_ERROR = 2  # of TensorFlow's error codes


class PredictionService:
    """Predict, Classify, Regress and GetModelMetadata."""

    def __init__(self, repository: VersionRepository) -> None:
        """Answers from the repository."""
        self._repository = repository

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Asks a signature with one tensor an input."""
        spec = request.model_spec
        signature = spec.signature_name or DEFAULT_SIGNATURE

        def read(loaded: LoadedModel) -> tuple[str, dict[str, Array]]:
            inputs = find_signature(signature, loaded.inputs)
            given = renamed(dict(request.inputs), loaded.aliases)
            if self._repository.ignore_unknown:
                given = {k: v for k, v in given.items() if k in inputs}
            check_names(given, inputs)
            columns = {
                name: converted(
                    name,
                    inputs[name],
                    _array(name, tensor, self._repository.limits),
                )
                for name, tensor in given.items()
            }
            check_rows(columns)
            return signature, columns

        def write(
            loaded: LoadedModel, outputs: dict[str, Array]
        ) -> predict_pb2.PredictResponse:
            names = list(request.output_filter) or list(outputs)
            for name in names:
                if name not in outputs:
                    raise BadInputError(
                        f"unknown output {shown(name)}."
                        f" Accepted: {', '.join(outputs)}"
                    )
            return predict_pb2.PredictResponse(
                model_spec=_spec(spec.name, loaded, signature),
                outputs={name: _tensor(outputs[name]) for name in names},
            )

        model = _find(self._repository, spec)
        return await model.answer(
            read, write, request.ByteSize(), lambda: request_id(context)
        )

    async def Classify(
        self,
        request: classification_pb2.ClassificationRequest,
        context: ServicerContext,
    ) -> classification_pb2.ClassificationResponse:
        """The scores of the classes 0 and 1 of each example."""

        def write(
            loaded: LoadedModel, outputs: dict[str, Array]
        ) -> classification_pb2.ClassificationResponse:
            response = classification_pb2.ClassificationResponse(
                model_spec=_spec_of(request, loaded)
            )
            values = tf_serving_examples.probabilities(outputs)
            for scores in tf_serving_examples.classes(values).tolist():
                row = response.result.classifications.add()
                for label, score in zip(
                    tf_serving_examples.CLASSES, scores, strict=True
                ):
                    row.classes.add(label=label, score=score)
            return response

        return await self._examples(request, context, write)

    async def Regress(
        self,
        request: regression_pb2.RegressionRequest,
        context: ServicerContext,
    ) -> regression_pb2.RegressionResponse:
        """The click probability of each example."""

        def write(
            loaded: LoadedModel, outputs: dict[str, Array]
        ) -> regression_pb2.RegressionResponse:
            response = regression_pb2.RegressionResponse(
                model_spec=_spec_of(request, loaded)
            )
            values = tf_serving_examples.probabilities(outputs)
            for value in values.tolist():
                response.result.regressions.add(value=value)
            return response

        return await self._examples(request, context, write)

    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        if list(request.metadata_field) != [_DEFINITIONS]:
            raise BadInputError(
                f"metadata_field: expected [{_DEFINITIONS!r}]."
                f" Received: {shown(list(request.metadata_field))}"
            )
        loaded = _find(self._repository, request.model_spec).loaded
        assert loaded is not None
        definitions = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in loaded.signature_defs.items():
            definitions.signature_def[name].CopyFrom(definition)
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=_spec(request.model_spec.name, loaded)
        )
        response.metadata[_DEFINITIONS].Pack(definitions)
        return response

    async def _examples(
        self, request: Any, context: ServicerContext, write: Any
    ) -> Any:
        model = _find(self._repository, request.model_spec)

        def read(loaded: LoadedModel) -> tuple[str, dict[str, Array]]:
            find_signature(request.model_spec.signature_name, loaded.inputs)
            inputs = loaded.inputs[DEFAULT_SIGNATURE]
            rows = _rows(request.input)
            return DEFAULT_SIGNATURE, tf_serving_examples.to_columns(
                rows, inputs, loaded.aliases, loaded.lists
            )

        return await model.answer(
            read, write, request.ByteSize(), lambda: request_id(context)
        )


class ModelService:
    """GetModelStatus; versions follow the directory, and no request."""

    def __init__(self, repository: VersionRepository) -> None:
        """Answers from the repository."""
        self._repository = repository

    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of all versions, or of the one that is named."""
        spec = request.model_spec
        states = self._repository.states()
        wanted = spec.WhichOneof("version_choice")
        if wanted is None:
            self._repository.get_model(spec.name)
        elif wanted == "version" and spec.version.value in states:
            self._repository.get_model(spec.name)
            states = {spec.version.value: states[spec.version.value]}
        else:
            loaded = _find(self._repository, spec).loaded
            assert loaded is not None
            states = {loaded.version: states[loaded.version]}
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, (state, reason) in states.items():
            status = response.model_version_status.add(
                version=version, state=state
            )
            status.status.error_code = _UNKNOWN_ERROR if reason else 0
            status.status.error_message = reason
        return response


def request_id(context: ServicerContext) -> str:
    """The metadata x-request-id of a call; "" without it."""
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get("x-request-id", ""))


def _find(repository: VersionRepository, spec: model_pb2.ModelSpec) -> CtrModel:
    choice = spec.WhichOneof("version_choice")
    return repository.find(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _spec(
    name: str, loaded: LoadedModel, signature: str = ""
) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = loaded.version
    return spec


def _spec_of(request: Any, loaded: LoadedModel) -> model_pb2.ModelSpec:
    spec = request.model_spec
    return _spec(spec.name, loaded, spec.signature_name)


def _array(name: str, tensor: Any, limits: Limits) -> Array:
    """The values of a TensorProto, [rows]."""
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    rows = rows_of(name, shape)
    # One value stands for as many as the shape says.
    limits.check_rows(rows)
    column = _column(tensor, rows)
    if column is not None:
        return column
    try:
        array: Array = tensor_util.MakeNdarray(tensor)
    except (TypeError, ValueError, KeyError) as error:
        raise BadInputError(f"feature {name!r}: {error}") from None
    if array.dtype.kind not in "fiubO":
        raise BadInputError(
            f"feature {name!r}: expected numbers or text."
            f" Received: {array.dtype}"
        )
    return array.reshape(rows)


def _column(tensor: Any, rows: int) -> Array | None:
    """The values of the usual kinds, without the cost of TensorFlow's reader.

    None for other kinds, and where one value stands for several.
    """
    dtype, field = _FIELDS.get(tensor.dtype, (None, ""))
    content = tensor.tensor_content
    if dtype is None:
        return None
    if content:
        if dtype.hasobject or len(content) != rows * dtype.itemsize:
            return None
        return np.frombuffer(content, dtype)
    values = getattr(tensor, field)
    if len(values) != rows:
        return None
    column = np.empty(rows, dtype)
    column[:] = values
    return column


def _tensor(array: Array) -> tensor_pb2.TensorProto:
    """An output, its values in the field of their kind, as TF Serving does."""
    kind = dtypes.as_dtype(array.dtype)
    if kind.as_datatype_enum not in _FIELDS:
        return tensor_util.make_tensor_proto(array)
    tensor = tensor_pb2.TensorProto(dtype=kind.as_datatype_enum)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    _, field = _FIELDS[kind.as_datatype_enum]
    getattr(tensor, field).extend(array.ravel().tolist())
    return tensor


def _rows(given: input_pb2.Input) -> Iterator[Mapping[str, Any]]:
    if given.WhichOneof("kind") == "example_list_with_context":
        part = given.example_list_with_context
        context = values_of(part.context)
        for example in part.examples:
            yield {**context, **values_of(example)}
    else:
        yield from map(values_of, given.example_list.examples)
