"""Model artifacts with the files of an export, and the Pusher on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts

from components.pusher import executor as pusher
from tests.exported import write_export


def model_folder(
    folder: Path,
    export_id: str,
    inputs: tuple[str, ...] = ("a", "b"),
    state: bool = False,
    **about: Any,
) -> Any:
    """A Model artifact; every file tells the export's id."""
    write_export(folder / "Format-Serving", export_id, inputs, **about)
    if state:
        step = folder / "Format-Training/step-0000000007"
        step.mkdir(parents=True)
        (step / "arrays.bin").write_text(f"weights of {export_id}")
        (step / "index.json").write_text(f"index of {export_id}")
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    return artifact


def push(
    model: Any,
    base: Path,
    blessed: bool = True,
    more: dict[str, list[Any]] | None = None,
    **options: Any,
) -> Any:
    """Runs the Pusher; returns its output artifact."""
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = "nowhere"
    blessing.set_int_custom_property("blessed", int(blessed))
    pushed = standard_artifacts.PushedModel()
    pushed.uri = "nowhere"
    pusher.Executor().Do(
        {"model": [model], "model_blessing": [blessing], **(more or {})},
        {"pushed_model": [pushed]},
        {
            "push_destination": json.dumps(
                {"filesystem": {"base_directory": str(base)}}
            ),
            "custom_config": json.dumps(options or None),
        },
    )
    return pushed


def pushed_to(artifact: Any) -> Path:
    """The version's folder that a PushedModel artifact names."""
    return Path(artifact.get_string_custom_property("pushed_destination"))
