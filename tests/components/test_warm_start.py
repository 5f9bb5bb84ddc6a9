"""The state of a training is pushed with its model, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.warm_start.executor import (
    Executor,
    base_version,
    find,
)
from models.errors import InputError
from tests.components import exports
from tests.components.exports import model_folder, pushed_to

LATEST = "latest_blessed"
TRAINING = {"train": {"epochs": 1}, "data_version": "monday"}
TUESDAY = {"train": {"epochs": 1}, "data_version": "tuesday"}


def artifact(folder: Path, export_id: str, state: bool = True) -> Any:
    """A Model artifact with the files of an export, and a state."""
    return model_folder(folder, export_id, state=state, asked=TRAINING)


def push(model: Any, base: Path, tmp: Path) -> str:
    return str(pushed_to(exports.push(model, base)))


def read(state: str | None) -> dict[str, str]:
    return {p.name: p.read_text() for p in Path(state or "").glob("*/*")}


def test_the_newest_pushed_model_is_found_with_its_state(
    tmp_path: Path,
) -> None:
    base = tmp_path / "models/ads"
    for name in ("one", "two"):
        path = push(artifact(tmp_path / name, name), base, tmp_path)
    found = find(LATEST, str(base), TUESDAY)
    assert found.model == path and found.reason is None
    assert read(found.state) == {
        "arrays.bin": "weights of two",
        "index.json": "index of two",
    }
    # No server takes it for a model.
    assert all(p.name.isdigit() for p in base.iterdir())
    # One that is taken off the shelf is the newest no more.
    for file in sorted(Path(path).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    Path(path).rmdir()
    found = find(LATEST, str(base), TUESDAY)
    assert read(found.state)["arrays.bin"] == "weights of one"


def test_states_of_the_two_newest_versions_are_kept(tmp_path: Path) -> None:
    base = tmp_path / "models/ads"
    for name in ("one", "two", "three"):
        push(artifact(tmp_path / name, name), base, tmp_path)
    states = tmp_path / "models/.training/ads"
    assert {p.name for p in states.iterdir()} == {"two", "three"}


def test_a_model_of_the_very_same_training_is_passed_over(
    tmp_path: Path,
) -> None:
    base = tmp_path / "models/ads"
    push(artifact(tmp_path / "one", "one"), base, tmp_path)
    found = find(LATEST, str(base), TRAINING)
    assert found.model is None and str(base) in (found.reason or "")
    # Where nobody knows the data, nothing is the same.
    unknown = TRAINING | {"data_version": ""}
    assert find(LATEST, str(base), unknown).model is not None


def test_another_base_is_another_version(tmp_path: Path) -> None:
    base = tmp_path / "models/ads"
    seen = {base_version(LATEST, str(base), TUESDAY)}
    for name in ("one", "two"):
        push(artifact(tmp_path / name, name), base, tmp_path)
        seen.add(base_version(LATEST, str(base), TUESDAY))
    assert len(seen) == 3
    assert base_version(LATEST, str(base), TUESDAY) in seen
    assert base_version(None, str(base), TUESDAY) == ""
    with pytest.raises(InputError, match=r"warm_start: no model in 'nowhere'"):
        base_version("nowhere", str(base), TUESDAY)


@pytest.mark.parametrize("inside", ["", "/Format-Serving"])
def test_a_path_is_a_pushed_version_or_an_artifact(
    tmp_path: Path, inside: str
) -> None:
    one = artifact(tmp_path / "one", "one")
    path = push(one, tmp_path / "models/ads", tmp_path)
    assert read(find(path, "", {}).state) == read(
        find(f"{one.uri}{inside}", "", {}).state
    )


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    old = artifact(tmp_path / "old", "old", state=False)
    path = push(old, tmp_path / "models/ads", tmp_path)
    found = find(LATEST, str(tmp_path / "models/ads"), TUESDAY)
    assert (found.model, found.state) == (path, None)
    assert f"{path} was pushed without the state" in (found.reason or "")
    found = find("nowhere", "", {})
    assert found.model is None
    assert "no model in 'nowhere'. Accepted: latest_blessed, null" in (
        found.reason or ""
    )


def test_the_trainer_is_told_where_it_is(tmp_path: Path) -> None:
    base = tmp_path / "models/ads"
    path = push(artifact(tmp_path / "one", "one"), base, tmp_path)
    output = standard_artifacts.Model()
    output.uri = str(tmp_path / "out")
    Executor().Do(
        {},
        {"base_model": [output]},
        {
            "source": LATEST,
            "pushed_to": str(base),
            "training": json.dumps(TUESDAY),
        },
    )
    text = (tmp_path / "out/Format-Serving/base.json").read_text()
    assert json.loads(text) == {
        "model": path,
        "state": str(tmp_path / "models/.training/ads/one"),
        "reason": None,
    }


def test_a_pinned_version_is_the_base_and_its_state_stays(
    tmp_path: Path,
) -> None:
    base = tmp_path / "models/ads"
    first = push(artifact(tmp_path / "one", "one"), base, tmp_path)
    (base / ".pinned").write_text(Path(first).name)
    for name in ("two", "three", "four"):
        push(artifact(tmp_path / name, name), base, tmp_path)
    states = tmp_path / "models/.training/ads"
    assert {p.name for p in states.iterdir()} == {"one", "three", "four"}
    found = find(LATEST, str(base), TUESDAY)
    assert found.model == first
    assert read(found.state)["arrays.bin"] == "weights of one"


def test_half_a_state_of_a_killed_push_is_replaced(tmp_path: Path) -> None:
    base = tmp_path / "models/ads"
    states = tmp_path / "models/.training/ads"
    for name in ("one", "one.0123abcd"):
        (states / name / "step-0000000007").mkdir(parents=True)
        (states / name / "step-0000000007/arrays.bin").write_text("half")
    path = push(artifact(tmp_path / "m", "one"), base, tmp_path)
    assert [p.name for p in states.iterdir()] == ["one"]
    assert read(find(path, "", {}).state)["index.json"] == "index of one"
