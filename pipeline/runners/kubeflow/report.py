"""The task `Report`: a run's page in KFP's pages, and its folder of runs."""

from __future__ import annotations

import html
import json
import logging
import tempfile
import traceback
from pathlib import Path
from typing import Any

import yaml

from models import valid_json
from pipeline.config import PipelineConfig
from pipeline.runners.kubeflow import ir, run_folder
from pipeline.runners.kubeflow.inputs import local_copy, restored, written

OUTPUT = "report"
# Inputs of the page: component -> outputs.
INPUTS = {
    "ClickLogGen": ("rejected",),
    "StatisticsGen": ("statistics",),
    "SchemaGen": ("schema",),
    "ExampleValidator": ("anomalies",),
    "Tuner": ("tuner_results",),  # where there is one
    "Trainer": ("model_run",),
    "Evaluator": ("evaluation",),
}
_AFTER = ("ServingGate", "Pusher")  # a run that they end has its report
log = logging.getLogger("lionctr.report")


def add(
    spec: dict[str, Any], config: PipelineConfig, image: str, runs: str | None
) -> None:
    """Adds the task to an IR, before those that may end the run.

    Args:
        spec: the IR; changed.
        config: of the pipeline.
        image: of the task.
        runs: the folder of all runs; None: none is kept.
    """
    title = {"schemaTitle": "system.HTML", "schemaVersion": "0.0.1"}
    ir.add_step(
        spec,
        ir.REPORT,
        image,
        ["report", "{{$}}"],
        outputs={"artifacts": {OUTPUT: {"artifactType": title}}},
        cache=False,
    )
    ir.give(spec, ir.REPORT, {"config": valid_json.dumps(config.sections())})
    tasks = spec["root"]["dag"]["tasks"]
    for task, outputs in INPUTS.items():
        for output in outputs if task in tasks else ():
            ir.take_artifact(spec, ir.REPORT, f"{task}_{output}", task, output)
    after = [name for name in _AFTER if name in tasks]
    for name in after:
        ir.depend(spec, name, ir.REPORT)
    if runs is not None:
        for name in (ir.REPORT, *after):
            place = {run_folder.RUNS: runs, run_folder.RUN: ir.RUN_NAME}
            ir.give(spec, name, place)


def report(task: dict[str, Any], copies: Path) -> None:
    """Runs the task. Nothing that fails here keeps the model from the push."""
    given = restored(task, copies)["inputs"]
    values = given["parameterValues"]
    kept = run_folder.of(values)
    found: dict[str, dict[str, str]] = {}
    for name, artifact in given["artifacts"].items():
        node, _, output = name.partition("_")
        found.setdefault(node, {})[output] = artifact["artifacts"][0]["uri"]
    try:
        text = _made(values["config"], found, copies, kept)
    except Exception as error:
        traceback.print_exc()
        reason = html.escape(f"{type(error).__name__}: {error}")
        text = f"<!doctype html><p>No report could be made: {reason}</p>\n"
    (artifact,) = task["outputs"]["artifacts"][OUTPUT]["artifacts"]
    written(artifact["uri"], text, copies)


def _made(
    config_text: str,
    uris: dict[str, dict[str, str]],
    copies: Path,
    kept: run_folder.RunFolder | None,
) -> str:
    """The page; what `lionctr runs` reads is left in `kept`."""
    from components.evaluator.executor import refusals
    from pipeline.report import page
    from pipeline.runners.outputs import Outputs
    from pipeline.runners.summary import summary as summarized

    config = PipelineConfig.model_validate(json.loads(config_text))
    local = {
        node: {name: _local(uri, copies) for name, uri in outputs.items()}
        for node, outputs in uris.items()
    }
    with tempfile.TemporaryDirectory() as home:
        name = kept.id if kept else "run"
        folder = Path(home) / config.name / "runs" / name
        folder.mkdir(parents=True)
        outputs = Outputs(local)
        outputs.refusals = refusals(outputs.uri("Evaluator", "evaluation"))
        summary = summarized(config, outputs, name, *_verdict(outputs.refusals))
        (folder / "summary.json").write_text(valid_json.dumps(summary), "utf-8")
        text = page.write(folder, local).read_text("utf-8")
    if kept is not None:
        # Where they are for others, in place of this pod's copies.
        summary |= {
            "artifacts": uris,
            "rejected": uris["ClickLogGen"]["rejected"],
            "schema": f"{uris['SchemaGen']['schema']}/schema.pbtxt",
            "tensorboard": uris["Trainer"]["model_run"],
        }
        settings = yaml.safe_dump(config.resolved(), sort_keys=False)
        try:
            kept.write("config.yaml", settings)
            kept.write("report.html", text)
            kept.write_summary(summary)
        except OSError as error:
            log.warning("%s cannot be written: %s", kept.uri, error)
        else:
            print(f"run: {kept.uri}")
    return text


def _verdict(refusals: list[str]) -> tuple[str, str]:
    """Status and message of a run whose push comes next, or does not."""
    if not refusals:
        return "blessed", "The model is blessed; the push comes next."
    return "refused", "\n  ".join(["The model was refused.", *refusals])


def _local(uri: str, copies: Path) -> str:
    """The launcher's copy of an artifact, else one that is made here."""
    path = local_copy(uri, copies)
    if path is not None and path.exists():
        return str(path)
    if "://" not in uri:
        return uri
    from pipeline.object_store import fetched

    return str(fetched(uri))
