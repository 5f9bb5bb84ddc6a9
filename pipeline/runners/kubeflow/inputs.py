"""How a task on Kubeflow gets what no ExecutorInput holds at compile time.

`kubeflow.ir` writes these into the IR. `kubeflow.task` puts the values back
before TFX reads its parameters:

- versions (of the logs, of the base model ...): output parameters of the task
  `Versions`, which stand in other tasks' parameters as a mark;
- `until`, a parameter of the pipeline: the last span of the logs;
- `set`, another one: settings of this run only, `{"path": value}`;
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

from models.errors import InputError

FOLDERS = {"gs": "gcs", "minio": "minio", "s3": "s3"}
VERSION, FILE = "lionctr_version_", "lionctr_parameters_"
UNTIL, SET = "until", "set"
# Output parameters of Versions: the part of `set` that a task depends on. One
# parameter for all would have KFP's cache read the logs anew for a new rate.
SET_PARTS = {
    "set_data": ("data",),
    "set_training": ("model", "optimizer", "train"),
}
# Settings that reach their tasks only as values; the rest is the IR's shape.
SETTABLE = (
    "data.impressions.path",
    "data.clicks.path",
    "data.spans.",
    "model.",
    "optimizer.",
    "train.",
)
_FIXED = ("model.name", "optimizer.name", "train.callbacks", "train.warm_start")
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
    changes = changes_of(values.pop(SET, ""))
    for name in SET_PARTS:
        changes |= changes_of(values.pop(f"lionctr_{name}", ""))
    until = values.pop(UNTIL, "")
    if until:
        number = int(until) if until.isdecimal() else until
        changes[f"data.spans.{UNTIL}"] = number
    _change(values, changes)
    for name, value in values.items():
        for sign, version in versions.items():
            if isinstance(value, str):
                value = value.replace(sign, version)
        values[name] = value
    return task


def changes_of(text: str) -> dict[str, Any]:
    """Path -> value, of the parameter `set`.

    Raises:
        InputError: `text` is something else, or a path cannot be set in a run.
    """
    try:
        changes = json.loads(text or "{}")
    except ValueError:
        changes = None
    if not isinstance(changes, dict):
        raise InputError(
            f'set: received {text!r}; accepted: JSON, such as {{"train.epochs":'
            " 2}"
        )
    for path in changes:
        check_settable(path)
    return changes


def check_settable(path: str) -> None:
    """Raises InputError if `path` is part of what was compiled."""
    fits = any(
        path.startswith(name) if name.endswith(".") else path == name
        for name in SETTABLE
    )
    if not fits or path.startswith(_FIXED):
        raise InputError(
            f"set: received {path!r}; accepted: {', '.join(SETTABLE)} but for"
            f" {', '.join(_FIXED)}. Others are compiled into the pipeline"
        )


def _change(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Puts settings into the parameters that hold the config's sections."""
    from models.config.search_space import put

    for name in _HOLDERS & values.keys() if changes else ():
        found = json.loads(values[name] or "null")
        if not isinstance(found, dict):
            continue
        for path, value in changes.items():
            section, _, rest = path.partition(".")
            try:
                if section == name:
                    put(found, rest, value)
                elif section in found:
                    put(found, path, value)
            except ValueError as error:
                raise InputError(f"set: {path}: {error}") from error
        values[name] = json.dumps(found)


_HOLDERS = {"config", "custom_config", "data", "training"}


def local_copy(uri: str, copies: Path) -> Path | None:
    """Where the launcher keeps its copy of `uri`."""
    scheme, sign, rest = uri.partition("://")
    if not sign or scheme not in FOLDERS:
        return None
    return copies / FOLDERS[scheme] / rest


def written(uri: str, text: str, copies: Path) -> None:
    """Writes an output that is one file, where the launcher looks for it."""
    path = local_copy(uri, copies)
    if path is not None and path.parent.is_dir():
        path.write_text(text, "utf-8")
        return
    from tfx.dsl.io import fileio

    with fileio.open(uri, "w") as file:
        file.write(text)


def _read(uri: str, copies: Path) -> str:
    path = local_copy(uri, copies)
    if path is None or not path.is_file():
        from tfx.dsl.io import fileio

        with fileio.open(uri, "r") as file:
            return str(file.read())
    return path.read_text("ascii")
