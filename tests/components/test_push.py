"""Pusher and Baseline through their executors, on real folders."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.baseline.executor import Executor as Baseline
from components.pusher import executor as pusher
from models.errors import RefusedError


def model_folder(folder: Path, export_id: str) -> standard_artifacts.Model:
    """A Model artifact with the files of an export."""
    serving = folder / "Format-Serving"
    (serving / "assets.extra").mkdir(parents=True)
    (serving / "variables").mkdir()
    (serving / "saved_model.pb").write_bytes(b"graph of " + export_id.encode())
    (serving / "variables" / "data").write_bytes(b"weights")
    (serving / "assets.extra" / "lion_ctr.json").write_text(
        json.dumps({"export_id": export_id})
    )
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    return artifact


def push(model: Any, base: Path, tmp: Path, blessed: bool = True) -> Any:
    """Runs the Pusher; returns its output artifact."""
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(tmp / "blessing")
    blessing.set_int_custom_property("blessed", int(blessed))
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp / "pushed")
    pusher.Executor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {
            "push_destination": json.dumps(
                {"filesystem": {"base_directory": str(base)}}
            )
        },
    )
    return pushed


def test_a_push_is_a_whole_copy_under_an_integer(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "one")
    pushed = push(model, tmp_path / "served", tmp_path)
    path = Path(pushed.get_string_custom_property("pushed_destination"))
    (version,) = pusher.versions(str(tmp_path / "served"))
    assert path == tmp_path / "served" / str(version)
    assert (path / "saved_model.pb").read_bytes() == b"graph of one"
    assert (path / "variables" / "data").read_bytes() == b"weights"


def test_the_same_model_is_pushed_once_and_versions_grow(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    one = model_folder(tmp_path / "one", "one")
    two = model_folder(tmp_path / "two", "two")
    first = push(one, base, tmp_path)
    again = push(one, base, tmp_path)
    second = push(two, base, tmp_path)
    key = "pushed_destination"
    assert first.get_string_custom_property(
        key
    ) == again.get_string_custom_property(key)
    assert len(pusher.versions(str(base))) == 2
    assert second.get_string_custom_property(key).endswith(
        str(max(pusher.versions(str(base))))
    )


def test_an_unblessed_model_is_refused_and_nothing_is_pushed(
    tmp_path: Path,
) -> None:
    model = model_folder(tmp_path / "m", "one")
    with pytest.raises(RefusedError, match="nothing was pushed"):
        push(model, tmp_path / "served", tmp_path, blessed=False)
    assert not (tmp_path / "served").exists()


def test_a_push_that_fails_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder(tmp_path / "m", "one")

    def full_disk(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pusher, "_sync", full_disk)
    with pytest.raises(OSError, match="No space"):
        push(model, tmp_path / "served", tmp_path)
    assert list((tmp_path / "served").iterdir()) == []


def test_pushes_at_the_same_time_get_versions_of_their_own(
    tmp_path: Path,
) -> None:
    base = str(tmp_path / "served")
    models = [model_folder(tmp_path / f"m{i}", str(i)) for i in range(6)]
    threads = [
        threading.Thread(
            target=pusher.push, args=(f"{m.uri}/Format-Serving", base)
        )
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {pusher.export_id(f"{base}/{v}") for v in pusher.versions(base)}
    assert ids == {str(i) for i in range(6)}
    assert len(list(Path(base).iterdir())) == 6


def baseline_of(model: Any, base: Path, tmp: Path, name: str) -> Path:
    """Runs Baseline; returns where its model would be."""
    output = standard_artifacts.Model()
    output.uri = str(tmp / name)
    Baseline().Do(
        {"model": [model]}, {"baseline": [output]}, {"pushed_to": str(base)}
    )
    return Path(output.uri) / "Format-Serving"


def test_the_baseline_is_the_newest_pushed_other_model(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    one, two, three = (
        model_folder(tmp_path / n, n) for n in ("one", "two", "three")
    )
    assert not baseline_of(one, base, tmp_path, "none").exists()
    push(one, base, tmp_path)
    assert not baseline_of(one, base, tmp_path, "itself").exists()
    push(two, base, tmp_path)
    found = baseline_of(three, base, tmp_path, "b3")
    assert pusher.export_id(str(found)) == "two"
    found = baseline_of(two, base, tmp_path, "b2")
    assert pusher.export_id(str(found)) == "one"
