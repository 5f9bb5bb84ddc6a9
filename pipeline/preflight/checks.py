"""Checks before a run: what would stop it later, found in a second or two.

`quick` imports neither TensorFlow, nor TFX, nor Beam; `slow` does.
"""

from __future__ import annotations

import inspect
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.click_log_gen.config.log_formats import FORMATS
from components.serving_gate.config import lacking
from models.config.paths import is_local
from models.errors import InputError
from models.preprocessing import pretrained
from models.training.cluster import tf_config, workers
from optimizers import extension
from pipeline import extensions
from pipeline.config import PipelineConfig, load
from pipeline.console import quiet
from pipeline.preflight import logs, sizes, stores

Problem = tuple[str, str]  # field, and what is wrong with it


def quick(config: PipelineConfig) -> None:
    """Looks at paths, columns, sizes and the machine.

    Raises:
        InputError: one line for each problem.
    """
    _raise(config, _quick(config))


def slow(config: PipelineConfig) -> None:
    """Imports the user's own code, and looks at how it can be called.

    Looks for the file systems of other machines too.

    Raises:
        InputError: one line for each problem.
    """
    _raise(config, [*_own_code(config), *stores.problems(config)])


def check(path: Path, overrides: list[str]) -> int:
    """`lionctr check`: prints that the config is right, or raises why not.

    Raises:
        ConfigError, InputError: one line for each problem.
    """
    config = load(path, overrides)
    quick(config)
    with quiet(Path(os.devnull)):  # importing TensorFlow is not
        slow(config)
    print(
        f"{path}: no problem found. {config.name} pushes to"
        f" {config.push.to}/{config.name}"
    )
    return 0


def _raise(config: PipelineConfig, problems: Any) -> None:
    lines = [config.problem(field, text) for field, text in problems]
    if lines:
        raise InputError("\n".join(lines))


def _quick(config: PipelineConfig) -> Iterator[Problem]:
    yield from logs.problems(config)
    yield from _folders(config)
    key = config.push.sign
    if key is not None and not Path(key).is_file():
        yield "push.sign", f"no file {key!r}"
    if config.serving_gate.enabled and (text := lacking()):
        yield "serving_gate", text
    yield from _curated_schema(config.data.curated_schema)
    yield from _warm_start(config.train.warm_start)
    yield from _pretrained(config)
    yield from _strategy(config.train.strategy)
    yield from sizes.problems(config)
    for field, kind, name in extensions.named(config):
        if not kind.is_own(name):
            continue
        module = name.partition(":")[0]
        top = module.partition(".")[0]
        if not extension.is_ours(top):
            # Looking for a module inside a package imports the package.
            module = top
        if extension.find(module) is None:
            yield (
                field,
                (
                    f"received {name!r}, but there is no module {module!r} in"
                    f" the environment or in {extension.places()}"
                ),
            )


def _pretrained(config: PipelineConfig) -> Iterator[Problem]:
    """Files of embeddings that are not there, or of another width."""
    for number, f in enumerate(config.features.categorical):
        if f.pretrained is None:
            continue
        field = f"features.categorical.{number}.pretrained"
        paths = {"path": f.pretrained.path, "ids": f.pretrained.ids}
        missing = {
            name: path
            for name, path in paths.items()
            if path is not None and is_local(path) and not Path(path).is_file()
        }
        for name, path in missing.items():
            yield f"{field}.{name}", f"no file {path!r}"
        if missing or not is_local(f.pretrained.path):
            continue
        try:
            width = pretrained.width(f.pretrained)
        except InputError as error:
            yield field, str(error)
            continue
        if width not in (None, f.dim):
            path = f.pretrained.path
            text = f"{path} has vectors of {width} numbers; received dim:"
            yield field, f"{text} {f.dim}. Accepted: dim: {width}"


def _folders(config: PipelineConfig) -> Iterator[Problem]:
    folders = {
        "root": config.root,
        "push.to": config.push.to,
        "transform.cache": config.transform.cache,
    }
    for field, folder in folders.items():
        if folder is not None and is_local(folder):
            why = _not_writable(Path(folder))
            if why:
                yield (
                    field,
                    (
                        f"received {folder!r}: {why}. Accepted: a folder that"
                        " can be written to, or one that can be made"
                    ),
                )


def _not_writable(folder: Path) -> str:
    """Why no file can be made in a folder; "" if one can."""
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        return f"{there} is not a folder"
    try:
        with tempfile.TemporaryDirectory(prefix=".lionctr-", dir=there):
            return ""
    except OSError as error:
        return f"cannot write to {there}: {error.strerror}"


def _curated_schema(path: str | None) -> Iterator[Problem]:
    if path is None or not is_local(path):
        return
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        text = Path(path).read_text("utf-8")
        text_format.Parse(text, schema_pb2.Schema())
    except FileNotFoundError:
        yield "data.curated_schema", f"no file {path!r}"
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        yield (
            "data.curated_schema",
            (
                f"{path!r} is no schema: {error}. Accepted: the schema.pbtxt of"
                " an earlier run, edited"
            ),
        )


def _warm_start(path: str | None) -> Iterator[Problem]:
    if path in (None, "latest_blessed") or not is_local(str(path)):
        return
    model = Path(str(path))
    inside = [model, model / "Format-Serving"]
    if not any((folder / "saved_model.pb").exists() for folder in inside):
        yield (
            "train.warm_start",
            (
                f"no model in {str(path)!r}. Accepted: latest_blessed, null, or"
                " the folder of a pushed version or of a Model artifact"
            ),
        )


_TPUS = ("/dev/accel0", "/dev/vfio/0")


def _strategy(name: str) -> Iterator[Problem]:
    field = "train.strategy"
    try:
        count = workers()
    except InputError as error:
        yield field, str(error)
        return
    if name == "multi_worker" and count < 2:
        yield (
            field,
            (
                "multi_worker needs the environment variable TF_CONFIG with two"
                " workers or more, as Kubeflow's training operator sets it."
                f" Received: {os.environ.get('TF_CONFIG')!r}"
            ),
        )
    if name in ("auto", "multi_worker") and count > 1:
        address = _own_address(tf_config())
        if address and not _is_free(address):
            yield (
                field,
                (
                    f"the port of {address}, this process's address in"
                    " TF_CONFIG, is in use"
                ),
            )
    on_tpu = "TPU_NAME" in os.environ or any(map(os.path.exists, _TPUS))
    if name == "tpu" and not on_tpu:
        yield (
            field,
            (
                "there is no TPU. Accepted: a TPU on this machine, or its name"
                " in the environment variable TPU_NAME"
            ),
        )


def _own_address(config: Mapping[str, Any]) -> str:
    task = config.get("task", {})
    addresses = config["cluster"].get(task.get("type"), [])
    index = int(task.get("index", 0))
    return str(addresses[index]) if index < len(addresses) else ""


def _is_free(address: str) -> bool:
    port = address.rpartition(":")[2]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
        except (OSError, OverflowError, ValueError):
            return False
    return True


def _own_code(config: PipelineConfig) -> Iterator[Problem]:
    """Problems of the user's own code, as far as they can be told."""
    for field, kind, name in extensions.named(config):
        if not kind.is_own(name):
            continue
        try:
            found = kind.load(name, field)
        except ValueError as error:
            yield field, str(error).removeprefix(f"{field}: ")
            continue
        text = _misfit(found, *_call(config, field))
        if text and not (kind is FORMATS and not callable(found)):
            yield field, f"received {name!r}; {text}. Accepted: {kind.wanted}"


def _call(
    config: PipelineConfig, field: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with which a setting's extension is called."""
    section, *rest = field.split(".")
    if section == "model":
        return (None, config.model, 0.5), {}
    if section == "optimizer":
        spec = config.optimizer.spec()
        spec = spec["groups"][int(rest[1])] if rest[0] == "groups" else spec
        return (), {k: v for k, v in spec.items() if k not in _OF_A_SPEC}
    if field == "train.loss":
        return (), config.train.loss.options
    if section == "train":
        return (), dict(config.train.callbacks[int(rest[1])].model_extra or {})
    if rest[0] == "gates":
        return ({},), config.evaluate.gates[int(rest[1])].options
    return (), {}


_OF_A_SPEC = ("name", "match", "schedule")


def _misfit(
    found: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> str:
    """Why an extension cannot be called with these arguments; "" if it can."""
    if not callable(found):
        return f"a {type(found).__name__} cannot be called"
    try:
        signature = inspect.signature(found)
    except ValueError:  # of built-in functions, which do not say
        return ""
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        return f"{signature} cannot be called: {error}"
    return ""
