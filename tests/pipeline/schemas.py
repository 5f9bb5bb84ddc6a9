"""Kubernetes objects against the models of their own Python packages.

The packages are generated of the CRDs' schemas, but ignore fields that they do
not know; an API server drops those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def problems(
    value: Any, kind: str, *packages: Any, path: str = ""
) -> Iterator[str]:
    """Problems of `value` as an object of type `kind`.

    packages: those that have the models, such as `kubernetes.client`.
    """
    items = re.fullmatch(r"list\[(.+)\]", kind)
    values = re.fullmatch(r"dict\(str, (.+)\)", kind)
    if items or values:
        wanted = list if items else dict
        if not isinstance(value, wanted):
            yield f"{path}: {value!r} is no {wanted.__name__}"
            return
        inner = (items or values)[1]  # type: ignore[index]
        pairs = value.items() if values else enumerate(value)
        for key, one in pairs:
            yield from problems(one, inner, *packages, path=f"{path}.{key}")
        return
    if kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]):
            yield f"{path}: {value!r} is no {kind}"
        return
    models = [getattr(p, kind) for p in packages if hasattr(p, kind)]
    if not models:  # object, datetime, IntOrString
        return
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no {kind}"
        return
    names = {json: name for name, json in models[0].attribute_map.items()}
    types = models[0].openapi_types
    for key, one in value.items():
        if key not in names:
            yield f"{path}.{key}: {kind} has no such field"
            continue
        inner = types[names[key]]
        yield from problems(one, inner, *packages, path=f"{path}.{key}")
