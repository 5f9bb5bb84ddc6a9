"""The tasks of a pipeline on Kubeflow that are no components of TFX.

python -m pipeline.kubeflow_steps versions EXECUTOR_INPUT
python -m pipeline.kubeflow_steps carry TEXT EXECUTOR_INPUT
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.kubeflow_inputs import local_copy, mark, restored


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
    (a path), `model` (the config's section), `warm_start`, `pushed_to` and
    `training` (the base that a training begins with). Output parameters: see
    `pipeline.dag.Versions`; an empty one where its parameter is missing.
    """
    given = restored(task, copies)["inputs"]["parameterValues"]
    found = {"data": data_version(given["data"])}
    wanted: Mapping[str, Any] = task["outputs"]["parameters"]
    if "schema" in wanted:
        found["schema"] = _schema_version(given["schema"])
    if "model" in wanted:
        found["model"] = _model_version(given["model"])
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

    from components.click_log_gen import spans
    from components.click_log_gen.config import DataConfig

    try:
        config = DataConfig.model_validate_json(data)
    except ValidationError as error:
        raise InputError(f"until: {error.errors()[0]['msg']}") from error
    return spans.data_version(config)


def _schema_version(path: str) -> str:
    import hashlib

    from components.click_log_gen import files

    found = files.find((path,), "data.curated_schema")
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _model_version(model: str) -> str:
    from models.model_config import OwnConfig
    from models.registry import own_version

    return own_version(OwnConfig.model_validate_json(model))


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


_STEPS: dict[str, Callable[..., None]] = {"carry": carry, "versions": versions}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
