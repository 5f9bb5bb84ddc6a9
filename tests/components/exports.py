"""Model artifacts with the files of an export, without TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts

from components.pusher import executor as pusher
from serving import manifest

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights " * 1000,
    "assets/ads": b"one\ntwo\nthree\n",
}


def model_folder(
    folder: Path,
    export_id: str,
    inputs: tuple[str, ...] = ("a", "b"),
    state: bool = False,
    **about: Any,
) -> Any:
    """A Model artifact; every file tells the export's id."""
    serving = folder / "Format-Serving"
    for name, content in FILES.items():
        (serving / name).parent.mkdir(parents=True, exist_ok=True)
        (serving / name).write_bytes(content + export_id.encode())
    (serving / "assets.extra").mkdir()
    manifest.write(
        str(serving),
        {"export_id": export_id, "inputs": {n: n for n in inputs}, **about},
    )
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
