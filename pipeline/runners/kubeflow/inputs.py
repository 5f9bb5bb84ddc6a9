"""How a task on Kubeflow gets what no ExecutorInput holds at compile time.

`kubeflow.ir` writes these into the IR. `kubeflow.task` puts the values back
before TFX reads its parameters:

- versions (of the logs, of the base model ...): output parameters of the task
  `Versions`, which stand in other tasks' parameters as a mark;
- `until`, a parameter of the pipeline: the last span of the logs;
- parameters that are too long for an argument of a process (128 KiB): text
  of the tasks' `<task>-parameters`, compressed, in files.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDERS = {"gs": "gcs", "minio": "minio", "s3": "s3"}
VERSION, FILE = "lionctr_version_", "lionctr_parameters_"
UNTIL = "until"
WEBHOOK = "LIONCTR_WEBHOOK"  # variable of the task Notify
_CHUNK = 80_000  # characters: the container of a task is one argument too


def mark(name: str) -> str:
    """Placeholder of the version `name` in a parameter."""
    return f"@{VERSION}{name}@"


def packed(parameters: Mapping[str, Any]) -> Iterator[str]:
    """`parameters` as text, cut into pieces that a task's arguments hold."""
    data = zlib.compress(json.dumps(parameters, sort_keys=True).encode(), 9)
    text = base64.b64encode(data).decode()
    for start in range(0, len(text), _CHUNK):
        yield text[start : start + _CHUNK]


def restored(task: dict[str, Any], copies: Path) -> dict[str, Any]:
    """`task` (an ExecutorInput) with the parameters that its component has.

    Args:
        task: as the driver made it of the IR.
        copies: where the launcher keeps its copies of artifacts.
    """
    task = json.loads(json.dumps(task))
    inputs = task.setdefault("inputs", {})
    artifacts = inputs.get("artifacts", {})
    # TFX would read a null as the number 0.
    values: dict[str, Any] = {
        name: value
        for name, value in inputs.get("parameterValues", {}).items()
        if value is not None
    }
    inputs["parameterValues"] = values
    files = sorted(name for name in artifacts if name.startswith(FILE))
    text = "".join(
        _read(artifacts.pop(name)["artifacts"][0]["uri"], copies)
        for name in files
    )
    if text:
        values |= json.loads(zlib.decompress(base64.b64decode(text)))
    versions = {
        mark(name.removeprefix(VERSION)): json.dumps(values.pop(name))[1:-1]
        for name in sorted(values)
        if name.startswith(VERSION)
    }
    until = values.pop(UNTIL, "")
    if until:
        data = json.loads(values["data"])
        data["spans"][UNTIL] = int(until) if until.isdigit() else until
        values["data"] = json.dumps(data)
    for name, value in values.items():
        for sign, version in versions.items():
            if isinstance(value, str):
                value = value.replace(sign, version)
        values[name] = value
    return task


def local_copy(uri: str, copies: Path) -> Path | None:
    """Where the launcher keeps its copy of `uri`."""
    scheme, sign, rest = uri.partition("://")
    if not sign or scheme not in FOLDERS:
        return None
    return copies / FOLDERS[scheme] / rest


def _read(uri: str, copies: Path) -> str:
    path = local_copy(uri, copies)
    if path is None or not path.is_file():
        from tfx.dsl.io import fileio

        with fileio.open(uri, "r") as file:
            return str(file.read())
    return path.read_text("ascii")
