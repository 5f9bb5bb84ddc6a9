"""Pusher's work: a blessed model becomes the newest version, whole."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from components import model_store
from components.pusher import publish, states, statistics
from models.errors import InputError, RefusedError
from serving import manifest
from serving.errors import ServingError

log = logging.getLogger("lionctr.push")
METRICS = "metrics.json"  # of the Evaluator: slice -> metric -> value
_WARM_UP = "tf_serving_warmup_requests"  # of the ServingGate
_KEEP = {"keep": True}  # the run shows the line to its user


class Executor(tfx_pusher.Executor):
    """Pushes atomically and verified, never the newest model again."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            RefusedError: the model is not blessed, or its files are not those
                that the Trainer exported. Nothing was pushed.
            InputError: it cannot be signed. Nothing was pushed.
        """
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            raise RefusedError(
                "The model is not blessed; nothing was pushed. The Evaluator's"
                " log names the metrics that missed their thresholds, the"
                " ServingGate's what the server answered."
            )
        model = self.GetModelPath(input_dict)
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(
            exec_properties["push_destination"], destination
        )
        base = destination.filesystem.base_directory
        options = json.loads(exec_properties.get("custom_config") or "null")
        options = options or {}
        try:
            version = push(
                model,
                base,
                {
                    **_trained_on(model, input_dict, options),
                    **_metrics(input_dict),
                    **{k: options[k] for k in ("reading",) if k in options},
                },
                options.get("keep"),
                options.get("sign"),
                _warm_up(input_dict),
            )
        except ServingError as error:
            raise InputError(f"push.sign: {error}") from None
        except manifest.DamagedError as error:
            artifact = model.rpartition("/")[0]
            raise RefusedError(
                f"The model was damaged after its export; nothing was pushed."
                f" {model}: {error}. Remove the folder {artifact} and run"
                " again: the Trainer then trains again."
            ) from None
        path = model_store.path_of(base, version)
        for artifact in input_dict.get("statistics", ()):
            statistics.keep(artifact.uri, base, model_store.export_id(path))
        statistics.drop(base)
        log.info("pushed to %s", path)
        self._MarkPushed(pushed, path, str(version))


def push(
    model: str,
    base: str,
    more: Mapping[str, Any] | None = None,
    keep: int | None = None,
    key: str | None = None,
    added: Mapping[str, str] | None = None,
) -> int:
    """Makes a model the newest version, unless it is that already.

    Args:
        model: folder of the SavedModel, in its artifact.
        base: folder of the versions.
        more: what the manifest says beside what the export wrote.
        keep: versions that stay there; None: all.
        key: the private key to sign the version with.
        added: path in the version -> file that it has besides.

    Raises:
        DamagedError: a file is not what was exported; nothing is pushed.
    """
    identity = str(
        manifest.about(model, model_store.files_of(model)).get("export_id", "")
    )
    artifact = model.rpartition("/")[0]
    with model_store.locked(base) as alone:
        before = model_store.served(base)
        if alone or model_store.is_remote(base):
            publish.sweep(base)
        if alone:
            states.keep(artifact, base, identity)
        version = _newest_is(identity, base)
        if version is None:
            version = publish.publish(model, base, more, key, added)
            _warn(version, before, base)
        if not alone:
            states.keep(artifact, base, identity)
        if keep is not None:
            for gone in publish.drop(base, keep, before):
                log.info("removed version %d: push.keep is %d", gone, keep)
        states.drop(base)
    return version


def _newest_is(identity: str, base: str) -> int | None:
    """The newest version, if it is this very model and holds."""
    newest = max(model_store.versions(base), default=None)
    if newest is None or not identity:
        return None
    path = model_store.path_of(base, newest)
    if model_store.export_id(path) != identity:
        return None
    if reason := model_store.fault(path):
        log.warning(
            "version %d is damaged and pushed again: %s",
            newest,
            reason,
            extra=_KEEP,
        )
        return None
    return newest


def _warn(version: int, before: int | None, base: str) -> None:
    """Says what a server may make of the new version."""
    if before is None:
        return
    if model_store.pin(base) is not None:
        log.warning(
            "version %d stays served: it is pinned (lionctr models %s unpin)",
            before,
            base,
            extra=_KEEP,
        )
    new, old = (
        publish.inputs_of(model_store.path_of(base, v))
        for v in (version, before)
    )
    if old and new and (changes := manifest.input_changes(old, new)):
        log.warning(
            "version %d has other inputs than version %d: %s. A running"
            " server refuses it without --allow-input-change",
            version,
            before,
            changes,
            extra=_KEEP,
        )


def _trained_on(
    model: str,
    input_dict: Mapping[str, list[types.Artifact]],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Origin of the training, as only the run knows it."""
    known = manifest.about(model, model_store.files_of(model))
    origin = dict(known.get("trained_on", {}))
    if "config_sha256" in options:
        origin["config_sha256"] = options["config_sha256"]
    for examples in input_dict.get("examples", ()):
        if examples.has_custom_property("first_span"):
            first = examples.get_int_custom_property("first_span")
            origin["spans"] = [first, int(examples.span)]
    return {"trained_on": origin} if known else {}


def _metrics(
    input_dict: Mapping[str, list[types.Artifact]],
) -> dict[str, Any]:
    """Metrics of the Evaluator over all rows."""
    for evaluation in input_dict.get("evaluation", ()):
        path = os.path.join(evaluation.uri, METRICS)
        files = model_store.files_of(path)
        if files.exists(path):
            with files.open(path, "r") as file:
                return {"metrics": json.loads(file.read()).get("", {})}
    return {}


def _warm_up(
    input_dict: Mapping[str, list[types.Artifact]],
) -> dict[str, str]:
    """The ServingGate's requests, where TF Serving and `serving` look."""
    for blessing in input_dict.get("infra_blessing", ()):
        path = os.path.join(blessing.uri, _WARM_UP)
        if model_store.files_of(path).exists(path):
            return {f"assets.extra/{_WARM_UP}": path}
    return {}
