"""Open Inference Protocol v2: KServe's requests to columns and back.

https://github.com/kserve/open-inference-protocol
"""

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import to_http_parameters
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype

from serving.columns import Array, to_column
from serving.errors import BadInputError, printable, shown
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
    if printable(str(request.id or "")) != str(request.id or ""):
        raise BadInputError(f"id: not Unicode text. Received: {request.id!r}")
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
    """The response; binary where the request asked for it.

    Raises:
        BadInputError: the request asks for an output that there is not.
    """
    for requested in request.request_outputs or ():
        if requested.name not in outputs:
            raise BadInputError(
                f"unknown output {shown(requested.name)}."
                f" Accepted: {', '.join(outputs)}"
            )
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


def fault_of(body: object, header_length: object, error: Exception) -> str:
    """Why KServe cannot decode a request; names the input where it can.

    Args:
        body: of a request with binary data.
        header_length: of its JSON, as its HTTP header says.
        error: what KServe raised.
    """
    if not isinstance(body, bytes):
        return f"the request cannot be read: {shown(str(error))}"
    try:
        length = int(str(header_length))
        document = orjson.loads(body[:length])
        start = length
        for number, tensor in enumerate(document["inputs"]):
            name = shown(tensor.get("name", f"number {number}"))
            for key in ("name", "shape", "datatype"):
                if key not in tensor:
                    return f"feature {name}: {key!r} is missing"
            shape, size = tensor["shape"], None
            if "data" not in tensor:
                size = tensor["parameters"]["binary_data_size"]
            if not _is_shape(shape):
                return (
                    f"feature {name}: expected shape [rows]."
                    f" Received: {shown(shape)}"
                )
            if size is None:
                continue
            part = body[start : start + size]
            start += size
            if _wrong_size(part, tensor["datatype"], shape[0]):
                return (
                    f"feature {name}: {len(part)} bytes of binary data are"
                    f" not {shape[0]} values of {shown(tensor['datatype'])}"
                )
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        error = problem
    return (
        "the request with binary data cannot be read: expected the header"
        " inference-header-content-length, and JSON of so many bytes with"
        f" 'inputs'. {type(error).__name__}: {shown(str(error))}"
    )


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == 1
        and isinstance(shape[0], int)
        and shape[0] >= 0
    )


def _wrong_size(part: bytes, datatype: object, rows: int) -> bool:
    """Whether bytes are not so many values."""
    if datatype != "BYTES":
        dtype = to_np_dtype(datatype) if isinstance(datatype, str) else None
        return dtype is None or len(part) != rows * np.dtype(dtype).itemsize
    offset, count = 0, 0
    while offset + 4 <= len(part):
        offset += 4 + int.from_bytes(part[offset : offset + 4], "little")
        count += 1
    return (offset, count) != (len(part), rows)


def _column(tensor: InferInput, dtype: np.dtype[Any]) -> Array:
    name = tensor.name
    if not _is_shape(list(tensor.shape)):
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
    except (InvalidInput, ValueError, TypeError, struct.error) as error:
        raise BadInputError(f"feature {name!r}: {error}") from None
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise BadInputError(
            f"feature {name!r}: expected datatype {from_np_dtype(dtype)}. "
            f"Received: {tensor.datatype}"
        )
    return array.astype(dtype)
