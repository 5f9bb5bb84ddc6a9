"""Files like those of an export, written without TensorFlow or TFX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving import manifest

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights " * 1000,
    "assets/ads": b"one\ntwo\nthree\n",
}


def write_export(
    folder: Path,
    export_id: str,
    inputs: tuple[str, ...] = ("a", "b"),
    **about: Any,
) -> None:
    """Writes a version's files; every one tells the export's id."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content + export_id.encode())
    (folder / "assets.extra").mkdir()
    manifest.write(
        str(folder),
        {"export_id": export_id, "inputs": {n: n for n in inputs}, **about},
    )
