"""Open Inference Protocol v2 over HTTP: JSON, with binary data after it."""

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from serving.columns import Array
from serving.errors import BadInputError, shown
from serving.open_inference import (
    SIGNATURE,
    InferRequest,
    Tensor,
    check_outputs,
    datatype_of,
    rows_of,
)
from serving.tf_serving import load_json

LENGTH_HEADER = "inference-header-content-length"


def read(body: bytes, header_length: str | None) -> InferRequest:
    """Reads the body of an `infer` call, whatever its content type.

    Args:
        body: JSON, and the bytes of binary tensors after it.
        header_length: of the JSON; None: the body is nothing else.

    Raises:
        BadInputError: it is not what the protocol describes.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit()):
            raise BadInputError(
                f"header {LENGTH_HEADER}: expected a number of bytes."
                f" Received: {shown(header_length)}"
            )
        length = min(int(header_length), length)
    document = load_json(body[:length])
    if not isinstance(document, dict) or "inputs" not in document:
        raise BadInputError(
            "expected a JSON object with 'inputs'"
            + f" in the first {length} bytes ({LENGTH_HEADER})"
            * (header_length is not None)
            + f". Received: {shown(document)}"
        )
    parameters = _parameters("parameters", document)
    binary = _Bytes(body[length:])
    tensors = [_tensor(item, binary) for item in _items("inputs", document)]
    binary.check_end()
    default = _flag("parameters", parameters, "binary_data_output", False)
    return InferRequest(
        _text("id", document.get("id") or ""),
        parameters.get(SIGNATURE),
        tensors,
        {
            _text("outputs: name", item.get("name")): _flag(
                "outputs", _parameters("outputs", item), "binary_data", default
            )
            for item in _items("outputs", document)
        },
        default,
    )


def write(
    request: InferRequest,
    model: str,
    version: int,
    outputs: Mapping[str, Array],
) -> tuple[bytes, int | None]:
    """The response, and the length of its JSON if bytes follow.

    Raises:
        BadInputError: the request asks for an output that there is not.
    """
    check_outputs(request, outputs)
    tensors, binary = [], []
    for name in request.outputs or outputs:
        array = outputs[name]
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": list(array.shape),
        }
        if request.is_binary(name):
            binary.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = array.ravel()
        tensors.append(tensor)
    head = orjson.dumps(
        {
            "model_name": model,
            "model_version": str(version),
            "id": request.id or str(uuid.uuid4()),
            "outputs": tensors,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    return b"".join([head, *binary]), len(head) if binary else None


class _Bytes:
    """The bytes after the JSON, taken tensor by tensor."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._start : self._start + size]
        self._start += size
        return part

    def check_end(self) -> None:
        if self._start < len(self._data):
            raise BadInputError(
                f"{len(self._data) - self._start} bytes are left after the"
                f" last input; is {LENGTH_HEADER} right?"
            )


def _tensor(item: dict[str, Any], binary: _Bytes) -> Tensor:
    name = item.get("name", "without a name")
    for key in ("name", "shape", "datatype"):
        if key not in item:
            raise BadInputError(
                f"feature {shown(name)}: {key!r} is missing, and required"
            )
    size = _parameters(f"feature {shown(name)}", item).get("binary_data_size")
    data, raw = item.get("data", ()), None
    if "data" not in item:
        if type(size) is not int or size < 0:
            raise BadInputError(
                f"feature {shown(name)}: expected 'data', or a number of bytes"
                f" in parameters.binary_data_size. Received: {shown(size)}"
            )
        raw = binary.take(size)
    elif not isinstance(data, list):
        raise BadInputError(
            f"feature {shown(name)}: expected a list of values in 'data'."
            f" Received: {shown(data)}"
        )
    rows_of(name, item["shape"])
    return Tensor(
        _text("inputs: name", name),
        _text(f"feature {shown(name)}: datatype", item["datatype"]),
        item["shape"],
        data,
        raw,
    )


def _items(key: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    items = document.get(key) or []
    if isinstance(items, list) and all(type(item) is dict for item in items):
        return items
    raise BadInputError(
        f"{key}: expected a list of objects. Received: {shown(items)}"
    )


def _parameters(where: str, document: dict[str, Any]) -> dict[str, Any]:
    parameters = document.get("parameters") or {}
    if isinstance(parameters, dict):
        return parameters
    raise BadInputError(
        f"{where}: expected an object of parameters."
        f" Received: {shown(parameters)}"
    )


def _flag(
    where: str, parameters: dict[str, Any], key: str, default: bool
) -> bool:
    flag = parameters.get(key, default)
    if isinstance(flag, bool):
        return flag
    raise BadInputError(
        f"{where}: {key}: expected true or false. Received: {shown(flag)}"
    )


def _text(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise BadInputError(f"{where}: expected text. Received: {shown(value)}")
