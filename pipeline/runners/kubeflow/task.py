"""Runs one task in its container: KFP's launcher calls this, this calls TFX."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import FailedError, InputError, RefusedError
from pipeline.beam import in_process, open_files
from pipeline.runners.kubeflow import pages as kubeflow_pages
from pipeline.runners.kubeflow import run_folder
from pipeline.runners.kubeflow.inputs import local_copy, restored
from pipeline.runners.kubeflow.state import mirrored


def main(arguments: list[str]) -> int:
    """Runs the executor that `arguments` name; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", required=True)
    parser.add_argument("--outputs", type=lambda names: names.split(","))
    options, beam = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    from tfx.orchestration.kubeflow.v2.container import (
        kubeflow_v2_run_executor,
    )

    given = json.loads(options.json_serialized_invocation_args)
    from components.batching import prefer_large_batches

    prefer_large_batches()
    open_files(beam)
    # Tests have other places than / to write to.
    copies = Path(os.environ.get("LIONCTR_COPIES", "/"))
    try:
        task = restored(given, copies)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    kept = run_folder.of(task["inputs"]["parameterValues"])
    task = typed(task, json.loads(options.json_serialized_inputs_spec_args))
    task = declared(task, options.outputs)
    if in_process(beam):
        task = local(task, copies)
    empty(task["outputs"])
    try:
        with mirrored(task, copies / "tmp" / "lionctr-state") as here:
            options.json_serialized_invocation_args = json.dumps(here)
            kubeflow_v2_run_executor.main((options, beam))
    except (FailedError, InputError, RefusedError) as error:
        print(error, file=sys.stderr)
        if isinstance(error, RefusedError):
            run_folder.note_end(kept, status="refused", message=str(error))
        return 2 if isinstance(error, InputError) else 1
    evaluation = task["outputs"]["artifacts"].get("evaluation")
    pages = {}
    if evaluation is not None:
        folder = evaluation["artifacts"][0]["uri"]
        pages = kubeflow_pages.shown(given["outputs"], folder, copies)
    found = finish(given["outputs"], pages)
    if "pushed_model" in found:
        (pushed,) = found["pushed_model"]["artifacts"]
        path = pushed["metadata"].get("pushed_destination")
        run_folder.note_end(kept, status="done", message="", pushed_model=path)
    return 0


def typed(task: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """`task` (an ExecutorInput) with the type of each input artifact.

    KFP's open source driver sends an empty one, which TFX cannot read
    (github.com/tensorflow/tfx/issues/7768); `inputs` is the component's own
    ComponentInputsSpec.
    """
    task = json.loads(json.dumps(task))
    for name, found in task.get("inputs", {}).get("artifacts", {}).items():
        for artifact in found["artifacts"]:
            artifact["type"] = inputs["artifacts"][name]["artifactType"]
    return task


def declared(
    task: dict[str, Any], names: Sequence[str] | None
) -> dict[str, Any]:
    """`task` with the outputs `names` of its component only, for TFX.

    KFP's driver adds outputs that the launcher itself writes, of types that
    TFX does not know: `executor-logs` with PUBLISH_LOGS=true. Without `names`
    all outputs of KFP's own types are left out.
    """
    task = json.loads(json.dumps(task))
    outputs = task["outputs"].get("artifacts", {})
    task["outputs"]["artifacts"] = {
        name: found
        for name, found in outputs.items()
        if (name in names if names else not _is_of_kfp(found))
    }
    return task


def local(task: dict[str, Any], copies: Path) -> dict[str, Any]:
    """`task` with the launcher's local copies in place of object stores.

    The launcher copies each input artifact to /minio, /s3 or /gcs before the
    task, and each output from there after it. TFX would open the URIs itself,
    for which TensorFlow lacks the minio:// and s3:// file systems. Outputs of
    KFP's own types stay as they are: the launcher has them open as files.
    """
    task = json.loads(json.dumps(task))
    outputs = [
        artifact
        for found in task["outputs"].get("artifacts", {}).values()
        if not _is_of_kfp(found)
        for artifact in found["artifacts"]
    ]
    paths = [local_copy(artifact["uri"], copies) for artifact in outputs]
    # A backend without that launcher makes no folders: its URIs are for us.
    if not all(path and path.parent.is_dir() for path in paths):
        return task
    for artifact in [*outputs, *_artifacts(task.get("inputs", {}))]:
        path = local_copy(artifact["uri"], copies)
        if path is not None:
            artifact["uri"] = str(path)
    for artifact in outputs:
        Path(artifact["uri"]).mkdir(parents=True, exist_ok=True)
    return task


def empty(outputs: dict[str, Any]) -> None:
    """Removes what a try that was killed left in the output folders.

    Kubeflow tries a task again with the same URIs.
    """
    from tfx.dsl.io import fileio

    for artifact in _artifacts(outputs):
        uri = artifact["uri"]
        if fileio.isdir(uri) and fileio.listdir(uri):
            fileio.rmtree(uri)
            fileio.makedirs(uri)


def finish(
    outputs: dict[str, Any], more: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Corrects what the executor reported, as KFP wants it; the artifacts.

    The URIs are those that KFP gave in `outputs` again, and metadata without
    a value is left out: KFP would fail the task. `more`: metadata of outputs
    that are not TFX's.
    """
    from tfx.dsl.io import fileio

    with fileio.open(outputs["outputFile"]) as file:
        report = json.loads(file.read())
    artifacts = report.setdefault("artifacts", {})
    for name, metadata in (more or {}).items():
        artifacts[name] = {"artifacts": [{"metadata": metadata}]}
    for name, found in artifacts.items():
        (wanted,) = outputs["artifacts"][name]["artifacts"]
        for artifact in found["artifacts"]:
            artifact["uri"] = wanted["uri"]
            artifact["metadata"] = {
                key: value
                for key, value in artifact.get("metadata", {}).items()
                if value is not None
            }
    with fileio.open(outputs["outputFile"], "w") as file:
        file.write(json.dumps(report))
    return dict(artifacts)


def _is_of_kfp(found: dict[str, Any]) -> bool:
    """True if an ArtifactList is of a type of KFP, such as system.Artifact."""
    return any(
        artifact.get("type", {}).get("schemaTitle", "").startswith("system.")
        for artifact in found["artifacts"]
    )


def _artifacts(half: dict[str, Any]) -> list[dict[str, Any]]:
    """All artifacts of an ExecutorInput's `inputs` or `outputs`."""
    return [
        artifact
        for found in half.get("artifacts", {}).values()
        for artifact in found["artifacts"]
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
