"""Artifacts that KFP's pages show: metrics, the ROC curve, the gate's verdict.

KFP's frontend reads the metadata of `system.Metrics` (numbers; run comparison
lists them) and of `system.ClassificationMetrics` (`confidenceMetrics`: the ROC
curve), and the file of `system.Markdown`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluator.each_output import each_output
from pipeline.runners.kubeflow.inputs import local_copy

EVALUATOR = "Evaluator"
OUTPUTS = {
    "metrics": "system.Metrics",
    "roc": "system.ClassificationMetrics",
    "verdict": "system.Markdown",
}
_POINTS = 100  # of the ROC curve
_FILE = "evaluation.json"  # see `components.evaluator.evaluation`


def add_outputs(spec: dict[str, Any]) -> None:
    """Gives the Evaluator of an IR the outputs that KFP's pages show."""
    outputs = spec["components"][EVALUATOR]["outputDefinitions"]["artifacts"]
    for name, title in OUTPUTS.items():
        kind = {"schemaTitle": title, "schemaVersion": "0.0.1"}
        outputs[name] = {"artifactType": kind}


def shown(
    outputs: Mapping[str, Any], evaluation: str, copies: Path
) -> dict[str, dict[str, Any]]:
    """Metadata of the outputs in OUTPUTS; writes the verdict's file.

    Args:
        outputs: of the ExecutorInput, as the driver made it.
        evaluation: the Evaluator's artifact.
        copies: where the launcher keeps its copies of artifacts.
    """
    artifacts = outputs.get("artifacts", {})
    if not OUTPUTS.keys() <= artifacts.keys():
        return {}
    found = _read(evaluation)
    numbers, refusals = _numbers(evaluation, found)
    (verdict,) = artifacts["verdict"]["artifacts"]
    path = local_copy(verdict["uri"], copies)
    if path is not None and path.parent.is_dir():
        path.write_text(markdown(numbers, refusals), "utf-8")
    return {
        "metrics": numbers,
        "roc": {"confidenceMetrics": roc(found)} if roc(found) else {},
        "verdict": {},
    }


def _read(evaluation: str) -> dict[str, Any]:
    from tfx.dsl.io import fileio

    path = f"{evaluation.rstrip('/')}/{_FILE}"
    if not fileio.exists(path):
        return {}
    with fileio.open(path, "r") as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def _numbers(
    evaluation: str, found: Mapping[str, Any]
) -> tuple[dict[str, float], list[str]]:
    """Metrics of all rows, and why the model was refused."""
    from components.evaluator import executor

    values = dict(executor.metrics(evaluation)[""])
    numbers = dict(values) | changes(found)
    constant = found.get("constant", {}).get("logloss")
    logloss = values.get("logloss")
    if constant and logloss is not None:
        numbers.setdefault("normalized_entropy", logloss / constant)
    finite = {
        name: float(value)
        for name, value in sorted(numbers.items())
        if value is not None and math.isfinite(value)
    }
    return finite, executor.refusals(evaluation)


def changes(found: Mapping[str, Any]) -> dict[str, float | None]:
    """`<metric>_change`: of each metric, against the baseline's.

    One of an output after the first is called by it: `cvr.auc_change`.
    """
    return {
        f"{head}{name}_change": entry["difference"]
        for head, part in each_output(found)
        for name, entry in part.get("metrics", {}).items()
        if entry.get("difference") is not None
    }


def roc(found: Mapping[str, Any]) -> list[dict[str, float]]:
    """Points of the candidate's ROC curve, few enough for a metadata store."""
    curves = found.get("curves", {}).get("candidate", {})
    curve = curves.get("roc") or {"fpr": (), "tpr": (), "threshold": ()}
    points = [
        {
            "confidenceThreshold": threshold,
            "falsePositiveRate": fpr,
            "recall": tpr,
        }
        for threshold, fpr, tpr in zip(
            curve["threshold"], curve["fpr"], curve["tpr"], strict=True
        )
    ]
    step = max(1, math.ceil((len(points) - 1) / _POINTS))
    return [*points[:-1:step], *points[-1:]]


def markdown(numbers: Mapping[str, float], refusals: list[str]) -> str:
    """The gate's verdict, and the metrics that it looked at."""
    lines = ["# Blessed" if not refusals else "# Refused", ""]
    lines += [f"- {line}" for line in refusals]
    lines += ["", "| metric | value | change |", "|---|---:|---:|"]
    for name, value in numbers.items():
        if name.endswith("_change"):
            continue
        change = numbers.get(f"{name}_change")
        text = "" if change is None else f"{change:+.5g}"
        lines.append(f"| {name} | {value:.6g} | {text} |")
    return "\n".join(lines) + "\n"
