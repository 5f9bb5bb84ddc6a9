"""The tasks of a pipeline on Kubeflow that are no components of TFX.

python -m pipeline.runners.kubeflow.steps versions EXECUTOR_INPUT
python -m pipeline.runners.kubeflow.steps carry TEXT EXECUTOR_INPUT
python -m pipeline.runners.kubeflow.steps report EXECUTOR_INPUT
python -m pipeline.runners.kubeflow.steps notify EXECUTOR_INPUT
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import FailedError, InputError
from pipeline.runners.kubeflow import run_folder
from pipeline.runners.kubeflow.inputs import (
    SET,
    SET_PARTS,
    WEBHOOK,
    changes_of,
    mark,
    restored,
    written,
)


def main(arguments: list[str]) -> int:
    """Runs the step that `arguments` name; returns the exit code."""
    name, *given, text = arguments
    # Tests have other places than / to write to.
    copies = Path(os.environ.get("LIONCTR_COPIES", "/"))
    task = json.loads(text)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        _STEPS[name](task, copies, *given)
    except (FailedError, InputError) as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def versions(task: dict[str, Any], copies: Path) -> None:
    """Tells the versions of what lies outside the pipeline.

    Parameters: `data`, the config's section; where there are such, `schema`
    (a path), `model` (the config's section, if it is the user's own) and
    `callbacks` (JSON, their modules), `evaluate` (the config's section, if it
    names code of the user's own), `warm_start`, `pushed_to` and `training`
    (the base that a training begins with). Output parameters: those of
    `pipeline.dag.Versions` that the task declares.
    """
    given = restored(task, copies)["inputs"]["parameterValues"]
    kept = run_folder.of(given)
    run_folder.note_begin(kept, given.get("name", ""))
    found = {"data": data_version(given["data"])}
    changes = changes_of(task["inputs"]["parameterValues"].get(SET) or "")
    for name, sections in SET_PARTS.items():
        part = {
            path: value
            for path, value in sorted(changes.items())
            if path.partition(".")[0] in sections
        }
        found[name] = json.dumps(part)
    wanted: Mapping[str, Any] = task["outputs"]["parameters"]
    if "schema" in wanted:
        from pipeline.runners.versions import content_version

        found["schema"] = content_version(given["schema"])
    if "model" in wanted:
        found["model"] = _code_version(given["model"], given["callbacks"])
    if "metrics" in wanted:
        from components.evaluator.config import EvaluateConfig

        evaluate = EvaluateConfig.model_validate_json(given["evaluate"])
        found["metrics"] = evaluate.own_version()
    if "base" in wanted:
        training = given["training"].replace(mark("data"), found["data"])
        found["base"] = _base_version(given, json.loads(training))
    for name, output in wanted.items():
        path = Path(output["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found[name], "utf-8")
        print(f"{name}: {found[name]}")


def data_version(data: str) -> str:
    """The version of the logs that the section `data` of a config names."""
    from pydantic import ValidationError

    from components.click_log_gen.config.sections import DataConfig
    from components.click_log_gen.files import spans
    from pipeline import beam

    beam.open_files()
    try:
        config = DataConfig.model_validate_json(data)
    except ValidationError as error:
        raise InputError(f"until: {error.errors()[0]['msg']}") from error
    return spans.data_version(config)


def _code_version(model: str, callbacks: str) -> str:
    """The version of the user's own code; `model` is "" of one of ours."""
    from models import user_code
    from models.architectures.user_model import own_version
    from models.config.architectures import OwnConfig

    own = own_version(OwnConfig.model_validate_json(model)) if model else ""
    return own + user_code.version(json.loads(callbacks))


def _base_version(given: Mapping[str, str], training: Any) -> str:
    from components.warm_start.executor import base_version

    return base_version(given["warm_start"], given["pushed_to"], training)


def carry(task: dict[str, Any], copies: Path, text: str) -> None:
    """Writes `text` to the output `text`: parameters of another task."""
    (artifact,) = task["outputs"]["artifacts"]["text"]["artifacts"]
    written(artifact["uri"], text, copies)


def report(task: dict[str, Any], copies: Path) -> None:
    """Makes the run's report; see `kubeflow.report`."""
    from pipeline.runners.kubeflow.report import report as make

    make(task, copies)


def kserve(task: dict[str, Any], copies: Path) -> None:
    """Serves the pushed version; see `kubeflow.kserve`."""
    from pipeline.runners.kubeflow.kserve import run

    run(task)


def notify(task: dict[str, Any], copies: Path) -> None:
    """Posts how the run ended to the webhook, as JSON with a `text`.

    Metrics, refusals and the report's address come with it where the run has
    a folder (`runner.kubeflow.state`).

    Raises:
        InputError: the webhook does not take it.
    """
    values = task["inputs"]["parameterValues"]
    status = values.get("status") or {}
    error = (status.get("error") or {}).get("message", "")
    run = status.get("pipelineJobResourceName", "")
    state = status.get("state", "")
    outcome = {
        "text": f"{run}: {state}" + (f": {error}" if error else ""),
        "run": run,
        "status": state,
        "error": error,
    }
    known = _known(values, run)
    if state == "FAILED" and known.get("status") == "unfinished":
        folder = run_folder.of({**values, run_folder.RUN: run})
        run_folder.note_end(folder, status="failed", message=error)
    if known.pop("status", None) in ("unfinished", "failed"):
        known.pop("report")  # the run ended before it
    lines = [outcome["text"], *known.get("refusals", ())]
    lines += [f"{k} {v:.5g}" for k, v in known.get("metrics", {}).items()]
    lines += [known["report"]] if "report" in known else []
    outcome |= known | {"text": "\n".join(lines)}
    request = urllib.request.Request(
        os.environ[WEBHOOK].strip(),
        json.dumps(outcome).encode(),
        {"Content-Type": "application/json"},
    )
    for attempt in range(_TRIES):
        try:
            urllib.request.urlopen(request, timeout=30).close()
            return
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "reason", problem)  # never the URL
            time.sleep(2**attempt)
    raise InputError(f"runner.kubeflow.notify.webhook: {reason}")


def _known(values: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Metrics and others that the run left; empty where nothing is kept."""
    folder = run_folder.of({**values, run_folder.RUN: run})
    try:
        summary = folder.summary() if folder is not None else {}
    except (OSError, ValueError) as problem:
        print(f"the run's summary cannot be read: {problem}", file=sys.stderr)
        return {}
    if folder is None or not summary:
        return {}
    metrics = summary.get("metrics") or {}
    return {
        "status": summary.get("status"),
        "metrics": {k: v for k, v in metrics.items() if v is not None},
        "refusals": summary.get("refusals") or [],
        "pushed_model": summary.get("pushed_model"),
        "report": f"{folder.uri}/report.html",
    }


_STEPS: dict[str, Callable[..., None]] = {
    "carry": carry,
    "kserve": kserve,
    "notify": notify,
    "report": report,
    "versions": versions,
}
_TRIES = 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
