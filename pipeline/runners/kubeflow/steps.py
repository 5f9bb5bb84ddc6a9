"""The tasks of a pipeline on Kubeflow that are no components of TFX.

python -m pipeline.runners.kubeflow.steps versions EXECUTOR_INPUT
python -m pipeline.runners.kubeflow.steps carry TEXT EXECUTOR_INPUT
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.runners.kubeflow.inputs import WEBHOOK, local_copy, mark, restored


def main(arguments: list[str]) -> int:
    """Runs the step that `arguments` name; returns the exit code."""
    name, *given, text = arguments
    # Tests have other places than / to write to.
    copies = Path(os.environ.get("LIONCTR_COPIES", "/"))
    task = json.loads(text)
    try:
        _STEPS[name](task, copies, *given)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
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
    found = {"data": data_version(given["data"])}
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
    path = local_copy(artifact["uri"], copies)
    if path is not None and path.parent.is_dir():
        path.write_text(text, "ascii")
        return
    from tfx.dsl.io import fileio

    with fileio.open(artifact["uri"], "w") as file:
        file.write(text)


def notify(task: dict[str, Any], copies: Path) -> None:
    """Posts how the run ended to the webhook, as JSON with a line of `text`.

    Raises:
        InputError: the webhook does not take it.
    """
    status = task["inputs"]["parameterValues"].get("status") or {}
    error = (status.get("error") or {}).get("message", "")
    run = status.get("pipelineJobResourceName", "")
    state = status.get("state", "")
    outcome = {
        "text": f"{run}: {state}" + (f": {error}" if error else ""),
        "run": run,
        "status": state,
        "error": error,
    }
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


_STEPS: dict[str, Callable[..., None]] = {
    "carry": carry,
    "notify": notify,
    "versions": versions,
}
_TRIES = 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
