"""Outputs of the components of a run, as far as it got."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import data_checks

Uris = dict[str, dict[str, str]]  # component -> output -> URI


@dataclass
class Outputs:
    """Outputs of a run.

    uris: where they are.
    pushed: the folder of the pushed version, or "".
    rejected: where rejected rows are, of an ingest that was stopped, or "".
    refusals: lines of the gates.
    refused_checks: what stopped ExampleValidator, whose outputs are gone.
    seconds: of each component.
    """

    uris: Uris = field(default_factory=dict)
    pushed: str = ""
    rejected: str = ""
    refusals: list[str] = field(default_factory=list)
    refused_checks: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def uri(self, component: str, output: str) -> str:
        """Where an output is, or ""."""
        return self.uris.get(component, {}).get(output, "")

    def counts(self) -> dict[str, Any]:
        """Counts of rows, by the ingest."""
        return _read(self.uri("ClickLogGen", "rejected"), "counts.json")

    def data_checks(self) -> dict[str, Any]:
        """Drift, skew and leaks, by ExampleValidator."""
        uri = self.uri("ExampleValidator", "anomalies")
        return _read(uri, data_checks.FILE) if uri else self.refused_checks

    def training(self) -> dict[str, Any]:
        """The Trainer's own account."""
        return _read(self.uri("Trainer", "model_run"), "training.json")

    def best(self) -> dict[str, Any]:
        """Values of the Tuner's best trial, as KerasTuner keeps them."""
        uri = self.uri("Tuner", "best_hyperparameters")
        return dict(_read(uri, "best_hyperparameters.txt")["values"])

    def metrics(self) -> dict[str, Any]:
        """Slice -> metric -> value, of the candidate."""
        uri = self.uri("Evaluator", "evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import metrics

        return metrics(uri)

    def evaluation(self) -> dict[str, Any]:
        """Evaluation of all rows, of `components.evaluator.evaluation`."""
        uri = self.uri("Evaluator", "evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import report

        found = _short(report(uri))
        outputs = found.get("outputs", {})
        return found | {
            "outputs": {name: _short(part) for name, part in outputs.items()}
        }

    def serving_gate(self) -> dict[str, Any]:
        """Rows that the server was asked, and its latency."""
        uri = self.uri("ServingGate", "blessing")
        if not uri:
            return {}
        from components.serving_gate.executor import report

        return report(uri)

    def undefined(self) -> dict[str, str]:
        """Slice -> why metrics are undefined."""
        uri = self.uri("Evaluator", "evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import undefined

        return undefined(uri)


def _short(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in evaluation.items()
        if name not in ("slices", "curves")
    }


def _read(uri: str, name: str) -> dict[str, Any]:
    if not uri:
        return {}
    data: dict[str, Any] = json.loads((Path(uri) / name).read_text("utf-8"))
    return data
