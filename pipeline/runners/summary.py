"""`summary.json` of a run."""

from __future__ import annotations

from typing import Any

from components import data_checks
from pipeline import counts, metrics_table
from pipeline.config import PipelineConfig
from pipeline.runners.outputs import Outputs


def summary(
    config: PipelineConfig,
    outputs: Outputs,
    run: str,
    status: str,
    message: str,
) -> dict[str, Any]:
    """The content of `summary.json`; docs/operations.md has the keys.

    Args:
        config: of the pipeline.
        outputs: what the run has left.
        run: its id.
        status: "done", "failed", "refused" or "input_error".
        message: what a person is told; "" of a run that is done.
    """
    counted, training = outputs.counts(), outputs.training()
    slices = outputs.metrics()
    rows = [
        "read", "kept", "rejected", "held_back", "sampled_out", "gap",
        *config.data.split.names,
    ]  # fmt: skip
    clicks = counted.get("clicks", {})
    schema = outputs.uri("SchemaGen", "schema")
    return {
        "status": status,
        "message": message,
        "run": run,
        "name": config.name,
        "config_sha256": config.sha256(),
        "rows": {name: counted.get(name) for name in rows},
        "positives": counted.get("positives", {}),
        "weights": counted.get("weights", {}),
        "labels": counted.get("labels", {}),
        "events": {
            name: {k: n for k, n in found.items() if isinstance(n, int)}
            for name, found in counted.get("events", {}).items()
        },
        "times": counts.times(counted),
        "out_of_range": counted.get("out_of_range", {}),
        "warnings": [
            line
            for source in (counted, training)
            for line in source.get("warnings", [])
        ],
        "rejected": outputs.uri("ClickLogGen", "rejected")
        or outputs.rejected
        or None,
        "rejected_reasons": counted.get("reasons", {}),
        "clicks": {k: n for k, n in clicks.items() if isinstance(n, int)},
        "rejected_click_reasons": clicks.get("reasons", {}),
        **data_checks.summary(outputs.data_checks()),
        "metrics": slices.pop("", {}),
        "slices": slices,
        "undefined": outputs.undefined(),
        "evaluation": outputs.evaluation(),
        "fit": metrics_table.fit(training),
        "blessed": bool(outputs.uris.get("Evaluator") and not outputs.refusals),
        "refusals": outputs.refusals,
        "serving_gate": outputs.serving_gate(),
        "pushed_model": outputs.pushed or None,
        **_settings(config, training),
        "chosen": training.get("chosen", []),
        "loss": training.get("loss"),
        "linear_start": training.get("linear_start"),
        "pretrained": training.get("pretrained", []),
        "shallow": training.get("shallow"),
        "calibration": training.get("calibration"),
        "tuned": training.get("tuned", {}),
        "export": training.get("export"),
        "lion_kernel": training.get("lion_kernel"),
        "warm_start": training.get("warm_start"),
        "admission": training.get("admission", {}),
        "seconds": outputs.seconds,
        "train_examples_per_second": training.get("train_examples_per_second"),
        "schema": f"{schema}/schema.pbtxt" if schema else None,
        "tensorboard": outputs.uri("Trainer", "model_run") or None,
        "artifacts": outputs.uris,
    }


def _settings(
    config: PipelineConfig, training: dict[str, Any]
) -> dict[str, Any]:
    """The sections of the config, as the training used them."""
    settings = config.resolved()
    names = ("data", "features", "model", "optimizer", "train", "evaluate")
    return {name: training.get(name, settings[name]) for name in names}
