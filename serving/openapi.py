"""Describe in OpenAPI the bodies that our routes read themselves."""

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_SCALAR: Schema = {"type": ["string", "number", "boolean", "null", "object"]}
_SIGNATURE: Schema = {
    "type": "string",
    "description": "Signature; by default `serving_default`.",
}
# Feature -> value; of the signature `examples` {"b64": ...}.
_ROWS: Schema = {"type": "array", "items": _SCALAR}
_COLUMNS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": _SCALAR},
}
PREDICT: Schema = {
    "type": "object",
    "properties": {
        "signature_name": _SIGNATURE,
        "instances": _ROWS,
        "inputs": _COLUMNS,
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
EXAMPLES: Schema = {
    "type": "object",
    "properties": {
        "signature_name": _SIGNATURE,
        "context": {"type": "object"},
        "examples": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["examples"],
}
_DATATYPES = (
    *("BOOL", "BYTES", "FP16", "FP32", "FP64"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
)
INFER: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"type": "string", "enum": list(_DATATYPES)},
                    "parameters": {"type": "object"},
                    "data": {"type": "array"},
                },
                "required": ["name", "shape", "datatype"],
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            },
        },
    },
    "required": ["inputs"],
}
_ERRORS = {
    "400": "A value, or the body, does not fit; the message names it.",
    "404": "There is no such model or version.",
    "408": "The body took too long.",
    "413": "Too many bytes or rows.",
    "415": "Another content-encoding than gzip or deflate.",
    "503": "Too many rows wait, or no version is loaded.",
}


def operation(path: str, body: Schema) -> dict[str, Any]:
    """`openapi_extra` of a POST route.

    Args:
        path: with its parameters in braces.
        body: of the request.
    """
    return {
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }
            for name in re.findall(r"{(\w+)}", path)
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": dict(body)}},
        },
        "responses": {
            code: {"description": text} for code, text in _ERRORS.items()
        },
    }
