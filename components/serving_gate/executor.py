"""ServingGate's work: serve the model, ask it, and compare."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import model_store
from components.serving_gate.config import ServingGateConfig, lacking
from models.config.labels import Label, labels_of, outputs
from models.errors import InputError, RefusedError
from serving import graph, manifest
from serving.errors import ServingError

log = logging.getLogger("lionctr.serving_gate")
FILE = "serving_gate.json"  # what the server was asked, and its latency
WARM_UP = "tf_serving_warmup_requests"
_BLESSED, _NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"  # TFX's names
_DEFAULT = "serving_default"


@dataclass(frozen=True)
class _Settings:
    """The exec property `settings`.

    gate: the config section.
    name: of the model.
    split: whose rows are asked.
    separators: feature -> what a client puts between the values of a list.
    labels: of the model, where there are several.
    """

    gate: ServingGateConfig
    name: str
    split: str
    separators: Mapping[str, str]
    labels: tuple[Label, ...] = ()

    @classmethod
    def of(cls, text: str) -> _Settings:
        values = json.loads(text)
        gate = ServingGateConfig.model_validate(values["serving_gate"])
        return cls(
            gate,
            values["name"],
            values["split"],
            values["separators"],
            labels_of(values),
        )


class Executor(base_executor.BaseExecutor):
    """Refuses a model that is not served as trained.

    `settings` is JSON: `serving_gate`, the config section, and the other
    fields of `_Settings`; more in it only tells the cache what changed.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            RefusedError: the server does not serve the model as trained, or
                it lacks inputs of the served version.
            InputError: the server is not installed.
        """
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        evaluated = artifact_utils.get_single_instance(
            input_dict["model_blessing"]
        )
        if not model_utils.is_model_blessed(evaluated):
            _mark(blessing, False)  # the Pusher says why
            return
        settings = _Settings.of(exec_properties["settings"])
        if text := lacking():
            raise InputError(f"serving_gate: {text}")
        model = path_utils.serving_model_path(
            artifact_utils.get_single_uri(input_dict["model"])
        )
        folders = artifact_utils.get_split_uris(
            input_dict["examples"], settings.split
        )
        files = sorted(
            file
            for folder in folders
            for file in fileio.glob(io_utils.all_files_pattern(folder))
        )
        words = _graph_faults(
            model, exec_properties["pushed_to"], settings.gate
        )
        if not words:
            result, words = _serve(model, files, settings, blessing.uri)
        if words:
            raise RefusedError(
                "The ServingGate refused the model; nothing was pushed.\n"
                + "\n".join(f"  {line}" for line in words)
            )
        text = json.dumps(result, indent=1, allow_nan=False)
        io_utils.write_string_file(os.path.join(blessing.uri, FILE), text)
        _mark(blessing, True)


def _mark(blessing: types.Artifact, blessed: bool) -> None:
    """Leaves what TFX's InfraValidator leaves."""
    name = _BLESSED if blessed else _NOT_BLESSED
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    blessing.set_int_custom_property("blessed", int(blessed))


def _graph_faults(model: str, base: str, gate: ServingGateConfig) -> list[str]:
    """Faults that the graph alone shows, before anything is loaded."""
    try:
        meta = _graph(model)
        graph.check_ops(meta)
        graph.check_restored(meta)
        version, changes = _input_changes(model, base)
    except ServingError as error:
        return [str(error)]
    if not changes or gate.allow_input_change:
        return []
    return [
        (
            f"it has other inputs than the served version {version}: it"
            f" {changes}. Clients that send them would be refused. Accepted:"
            f" these inputs, or serving_gate.allow_input_change: true"
        )
    ]


def _input_changes(model: str, base: str) -> tuple[int | None, str]:
    """The served version, and which of its inputs a model does not take."""
    taken = _inputs(model, _graph(model))
    version, before = _served(base)
    both = sorted(before.keys() & taken.keys())
    changes = [manifest.input_changes(before, both)]
    changes += [
        f"takes {name!r} as {taken[name]} instead of {before[name]}"
        for name in both
        if taken[name] != before[name]
    ]
    return version, "; ".join(filter(None, changes))


def _graph(model: str) -> Any:
    path = os.path.join(model, "saved_model.pb")
    with model_store.files_of(path).open(path, "rb") as file:
        return graph.parse(file.read())


def _inputs(model: str, found: Any) -> dict[str, str]:
    """Feature -> dtype, of `serving_default`."""
    names = _names(model)
    return {
        names.get(served, served): dtype
        for served, dtype in graph.inputs(found, _DEFAULT).items()
    }


def _names(model: str) -> dict[str, str]:
    """Name in the signature -> the feature's own name."""
    inputs = model_store.about(model).get("inputs", {})
    return {served: name for name, served in inputs.items()}


def _served(base: str) -> tuple[int | None, dict[str, str]]:
    """The version that is served now, and its inputs."""
    for version in model_store.candidates(base):
        path = model_store.path_of(base, version)
        try:
            return version, _inputs(path, _graph(path))
        except (OSError, ServingError) as error:
            log.warning("version %d is passed over: %s", version, error)
    return None, {}


def served(base: str, model: str) -> str:
    """Inputs of the served version that a Model lacks, for the cache."""
    try:
        return _input_changes(path_utils.serving_model_path(model), base)[1]
    except ServingError as error:
        return str(error)


def _serve(
    model: str, files: Sequence[str], settings: _Settings, folder: str
) -> tuple[dict[str, Any], list[str]]:
    """Asks a server; what was measured, and what is wrong, in words.

    Leaves the requests in `folder`.
    """
    # They import the protos of TF Serving, which may be missing.
    from components.serving_gate import asking, reference, server, warm_up
    from components.serving_gate.rows import Rows, columns, read

    gate = settings.gate
    with server.serving(model, settings.name) as starting:
        meta = _graph(model)
        tolerance = asking.HALF if graph.is_half(meta) else asking.TOLERANCE
        names = graph.inputs(meta, _DEFAULT)
        known = _names(model)
        own = {name: known.get(name, name) for name in names}
        serialized = read(files, gate.rows, settings.separators)
        rows = Rows(
            serialized,
            columns(serialized, own, settings.separators),
            names,
            own,
        )
        try:
            called = [output.name for output in outputs(settings.labels)]
            expected = reference.predictions(model, serialized, called)
            words = reference.faults(expected, settings.split)
            if words:
                return {}, words
            found = starting.wait()
        except RefusedError as error:
            return {}, [str(error)]
        for way, ask in asking.ways(found, rows, called).items():
            words += asking.faults(way, ask, expected, tolerance, called)
        whole, latencies = bool(words), {}
        for way, asks in asking.singly(found, rows, called).items():
            latency, wrong, late = asking.measured(
                way, asks, expected, gate.p99_ms, tolerance, called
            )
            latencies[way] = asdict(latency)
            # A fault of all rows at once needs no second line.
            words += late + ([] if whole else wrong)
    if gate.warm_up and not words:
        fileio.makedirs(folder)
        warm_up.write(
            os.path.join(folder, WARM_UP), warm_up.requests(settings.name, rows)
        )
    return {
        "split": settings.split,
        "rows": len(serialized),
        "tolerance": tolerance,
        "p99_ms": gate.p99_ms,
        "latency": latencies,
    }, words


def report(blessing: str) -> dict[str, Any]:
    """Rows that the server was asked, and its latency; {} if it was not."""
    path = os.path.join(blessing, FILE)
    if not fileio.exists(path):
        return {}
    found: dict[str, Any] = json.loads(io_utils.read_string_file(path))
    return found
