"""Open Inference Protocol v2: KServe's requests to columns and back.

https://github.com/kserve/open-inference-protocol
"""

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import to_http_parameters
from kserve.utils.numpy_codec import from_np_dtype

from serving.columns import Array, to_column
from serving.errors import BadInputError
from serving.tf_serving import (
    DEFAULT_SIGNATURE,
    Aliases,
    Inputs,
    check_names,
    find_signature,
    renamed,
)

# Parameter of a request that names a signature; the protocol has no field.
_SIGNATURE = "signature_name"
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "O"}


def describe(tensors: Inputs) -> list[dict[str, Any]]:
    """Metadata of a signature's inputs or outputs, one value a row."""
    return [
        {"name": name, "datatype": from_np_dtype(dtype), "shape": [-1]}
        for name, dtype in tensors.items()
    ]


def decode(
    request: InferRequest,
    signatures: Mapping[str, Inputs],
    aliases: Aliases,
) -> tuple[str, dict[str, Array]]:
    """The signature that a request is for, and its columns.

    aliases: other name of an input -> its name.

    Raises:
        BadInputError: the request does not fit the signature.
    """
    parameters = to_http_parameters(request.parameters or {})
    name = parameters.get(_SIGNATURE)
    inputs = find_signature(name, signatures)
    given = {tensor.name: tensor for tensor in request.inputs}
    if len(given) < len(request.inputs):
        raise BadInputError("an input is given twice")
    given = renamed(given, aliases)
    check_names(given, inputs)
    columns = {
        feature: _column(tensor, inputs[feature])
        for feature, tensor in given.items()
    }
    first, *others = columns
    for other in others:
        if len(columns[other]) != len(columns[first]):
            raise BadInputError(
                f"feature {other!r} has {len(columns[other])} values where "
                f"{first!r} has {len(columns[first])}"
            )
    if not len(columns[first]):
        raise BadInputError(f"the request holds no rows: {first!r} is empty")
    return name or DEFAULT_SIGNATURE, columns


def encode(
    request: InferRequest,
    model: str,
    version: int,
    outputs: Mapping[str, Array],
) -> InferResponse:
    """The response; binary where the request asked for it."""
    tensors = []
    for name, array in outputs.items():
        tensor = InferOutput(
            name, list(array.shape), from_np_dtype(array.dtype)
        )
        tensor.set_data_from_numpy(array, binary_data=False)
        tensors.append(tensor)
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=model,
        model_version=str(version),
        infer_outputs=tensors,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def _column(tensor: InferInput, dtype: np.dtype[Any]) -> Array:
    name = tensor.name
    if len(tensor.shape) != 1:
        raise BadInputError(
            f"feature {name!r}: expected shape [rows]. "
            f"Received: {list(tensor.shape)}"
        )
    if tensor.data:
        if len(tensor.data) != tensor.shape[0]:
            raise BadInputError(
                f"feature {name!r}: shape {list(tensor.shape)} but "
                f"{len(tensor.data)} values"
            )
        return to_column(name, dtype, tensor.data)
    try:
        array: Array = tensor.as_numpy()
    except (InvalidInput, ValueError, struct.error) as error:
        raise BadInputError(f"feature {name!r}: {error}") from None
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise BadInputError(
            f"feature {name!r}: expected datatype {from_np_dtype(dtype)}. "
            f"Received: {tensor.datatype}"
        )
    return array.astype(dtype)
