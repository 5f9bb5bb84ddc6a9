"""Pusher and Baseline through their executors, on real folders."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components import model_store
from components.baseline.executor import Executor as Baseline
from components.pusher import executor as pusher
from components.pusher import publish
from models.errors import InputError, RefusedError
from serving import manifest
from tests.components.exports import model_folder, push, pushed_to
from tests.exported import FILES


def versions(base: Path) -> list[int]:
    return model_store.versions(str(base))


def ids(base: Path) -> list[str]:
    """Identities of the versions, oldest first; each is whole."""
    for version in versions(base):
        assert manifest.verify(str(base / str(version)))
    return [model_store.export_id(str(base / str(v))) for v in versions(base)]


def test_a_push_is_a_whole_copy_under_an_integer(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "one")
    path = pushed_to(push(model, tmp_path / "served"))
    (version,) = versions(tmp_path / "served")
    assert path == tmp_path / "served" / str(version)
    for name, content in FILES.items():
        assert (path / name).read_bytes() == content + b"one"
    assert manifest.verify(str(path))


def test_the_same_model_is_pushed_once_and_versions_grow(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    one = model_folder(tmp_path / "one", "one")
    two = model_folder(tmp_path / "two", "two")
    assert pushed_to(push(one, base)) == pushed_to(push(one, base))
    assert len(versions(base)) == 1
    assert pushed_to(push(two, base)).name == str(max(versions(base)))
    assert ids(base) == ["one", "two"]


def test_an_older_model_that_is_run_again_is_the_newest_again(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    one = model_folder(tmp_path / "one", "one")
    push(one, base)
    push(model_folder(tmp_path / "two", "two"), base)
    assert pushed_to(push(one, base)).name == str(max(versions(base)))
    assert ids(base) == ["one", "two", "one"]


def test_an_unblessed_model_is_refused_and_nothing_is_pushed(
    tmp_path: Path,
) -> None:
    model = model_folder(tmp_path / "m", "one")
    with pytest.raises(RefusedError, match="nothing was pushed"):
        push(model, tmp_path / "served", blessed=False)
    assert not (tmp_path / "served").exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def reorder(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product([*FILES, manifest.NAME], [flip, cut, reorder]),
        *((name, Path.unlink) for name in FILES),
    ],
)
def test_a_damaged_artifact_is_refused_and_nothing_is_left(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    base = tmp_path / "served"
    push(model_folder(tmp_path / "one", "one"), base)
    model = model_folder(tmp_path / "two", "two")
    damage(tmp_path / "two/Format-Serving" / name)
    with pytest.raises(RefusedError) as refusal:
        push(model, base)
    assert name in str(refusal.value)
    assert ids(base) == ["one"]
    assert len(list(base.iterdir())) == 1


def test_a_file_that_was_not_exported_is_refused(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "one")
    (tmp_path / "m/Format-Serving/assets/more").write_bytes(b"x")
    with pytest.raises(RefusedError, match=r"assets/more is not in the mani"):
        push(model, tmp_path / "served")


def test_a_newest_version_that_was_damaged_is_pushed_again(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    model = model_folder(tmp_path / "m", "one")
    first = pushed_to(push(model, base))
    cut(first / "assets/ads")
    second = pushed_to(push(model, base))
    assert int(second.name) > int(first.name)
    assert manifest.verify(str(second))


def test_a_push_that_fails_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder(tmp_path / "m", "one")

    def full_disk(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "sync", full_disk)
    with pytest.raises(OSError, match="No space"):
        push(model, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_what_killed_pushes_left_is_removed(tmp_path: Path) -> None:
    base = tmp_path / "served"
    for name in (".push-0123", ".dropped-4567"):
        (base / name / "variables").mkdir(parents=True)
        (base / name / "variables/data").write_bytes(b"half")
    push(model_folder(tmp_path / "m", "one"), base)
    assert [p.name for p in base.iterdir()] == [str(versions(base)[0])]


# Publishes argv[1] under argv[2], holding the lock, until `sync` is called.
PUBLISH = """
import resource, sys, time
from components import model_store
from components.pusher import publish
model, base, what = sys.argv[1:]
if what == "hang":
    publish.sync = lambda folder: time.sleep(600)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with model_store.locked(base):
    publish.publish(model, base)
"""


def publishing(model: Any, base: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH, f"{model.uri}/Format-Serving", base]
        + [what],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_push_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    base = tmp_path / "served"
    model = model_folder(tmp_path / "m", "one")
    process = publishing(model, base, "hang")
    deadline = time.monotonic() + 60
    while not list(base.glob(".push-*/saved_model.pb")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert versions(base) == []
    push(model, base)
    assert ids(base) == ["one"]
    assert len(list(base.iterdir())) == 1


def test_a_push_without_room_leaves_nothing_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    base = tmp_path / "served"
    model = model_folder(tmp_path / "m", "one")
    process = publishing(model, base, "full")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and "File too large" in error
    assert list(base.iterdir()) == []
    push(model, base)
    assert ids(base) == ["one"]


def test_only_folders_named_by_numbers_are_versions(tmp_path: Path) -> None:
    for name in ("²", "٣", "007", "1.5", "-3", "x"):
        (tmp_path / name).mkdir()
    (tmp_path / "99999999999").write_text("a file")
    (tmp_path / "12").mkdir()
    assert versions(tmp_path) == [12]
    push(model_folder(tmp_path / "m/m", "one"), tmp_path)
    assert len(versions(tmp_path)) == 2


def test_pushes_at_the_same_time_get_versions_of_their_own(
    tmp_path: Path,
) -> None:
    """Each from a root of its own, with the state of its training."""
    base = tmp_path / "served"
    names = [str(i) for i in range(6)]
    models = [model_folder(tmp_path / n, n, state=True) for n in names]
    threads = [
        threading.Thread(target=push, args=(model, base)) for model in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(base)) == names
    assert len(list(base.iterdir())) == 6
    states = tmp_path / ".training/served"
    assert {p.name for p in states.iterdir()} == set(ids(base)[-2:])
    for state in states.iterdir():
        index = state / "step-0000000007/index.json"
        assert index.read_text() == f"index of {state.name}"


def test_a_push_waits_for_one_that_is_under_way(tmp_path: Path) -> None:
    base = tmp_path / "served"
    model = model_folder(tmp_path / "m", "one")
    with model_store.locked(str(base)) as alone:
        assert alone
        thread = threading.Thread(target=push, args=(model, base))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not base.exists()
    thread.join(20)
    assert ids(base) == ["one"]


def test_a_clock_that_goes_back_makes_no_version_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "served"
    push(model_folder(tmp_path / "one", "one"), base)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    push(model_folder(tmp_path / "two", "two"), base)
    assert ids(base) == ["one", "two"]


def push_each(tmp_path: Path, names: str, **options: Any) -> Path:
    """Pushes models of these names; returns the folder of the versions."""
    base = tmp_path / "served"
    for name in names:
        push(model_folder(tmp_path / name, name), base, **options)
    return base


def test_keep_leaves_the_newest_and_the_one_before(tmp_path: Path) -> None:
    base = push_each(tmp_path, "abcd", keep=3)
    assert ids(base) == ["b", "c", "d"]
    push(model_folder(tmp_path / "e", "e"), base, keep=1)
    # Servers go on with d until they have loaded e.
    assert ids(base) == ["d", "e"]
    assert len(list(base.iterdir())) == 2


def test_keep_leaves_the_pinned_version(tmp_path: Path) -> None:
    base = push_each(tmp_path, "abc")
    (base / ".pinned").write_text(f"{versions(base)[0]}\n")
    push(model_folder(tmp_path / "d", "d"), base, keep=1)
    assert ids(base) == ["a", "d"]


def test_keep_leaves_the_version_that_is_served_for_a_damaged_one(
    tmp_path: Path,
) -> None:
    base = push_each(tmp_path, "abc")
    flip(base / str(versions(base)[-1]) / "assets/ads")
    push(model_folder(tmp_path / "d", "d"), base, keep=1)
    assert len(versions(base)) == 2
    found = [model_store.export_id(str(base / str(v))) for v in versions(base)]
    assert found == ["b", "d"]


def test_keep_leaves_the_newest_version_with_the_inputs_before(
    tmp_path: Path,
) -> None:
    base = push_each(tmp_path, "ab")
    for name in "cd":
        push(
            model_folder(tmp_path / name, name, inputs=("a", "c")),
            base,
            keep=1,
        )
    assert ids(base) == ["b", "c", "d"]


def test_inputs_that_change_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = push_each(tmp_path, "a")
    push(model_folder(tmp_path / "b", "b", inputs=("b", "c", "d")), base)
    assert "lacks 'a'; adds 'c', 'd'" in caplog.text
    assert "--allow-input-change" in caplog.text


def test_a_pinned_version_stays_served_and_the_push_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = push_each(tmp_path, "a")
    (base / ".pinned").write_text(str(versions(base)[0]))
    push(model_folder(tmp_path / "b", "b"), base)
    assert f"version {versions(base)[0]} stays served: it is pinned" in (
        caplog.text
    )
    assert model_store.served(str(base)) == versions(base)[0]


def test_the_manifest_tells_spans_config_and_metrics(tmp_path: Path) -> None:
    examples = standard_artifacts.Examples()
    examples.span = 7
    examples.set_int_custom_property("first_span", 3)
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(tmp_path)
    (tmp_path / pusher.METRICS).write_text(
        json.dumps({"": {"auc": 0.7, "logloss": None}, " site=1": {"auc": 1}})
    )
    model = model_folder(tmp_path / "m", "one", trained_on={"code": "c"})
    path = pushed_to(
        push(
            model,
            tmp_path / "served",
            more={"examples": [examples], "evaluation": [evaluation]},
            config_sha256="abc",
        )
    )
    about = manifest.about(str(path))
    assert about["metrics"] == {"auc": 0.7, "logloss": None}
    assert about["trained_on"] == {
        "code": "c",
        "config_sha256": "abc",
        "spans": [3, 7],
    }
    assert about["export_id"] == "one"
    assert manifest.verify(str(path))


def test_a_key_that_cannot_sign_is_an_error_of_the_input(
    tmp_path: Path,
) -> None:
    pytest.importorskip("model_signing", reason="needs the extra `signing`")
    model = model_folder(tmp_path / "m", "one")
    with pytest.raises(InputError, match=r"push\.sign: cannot sign with"):
        push(model, tmp_path / "served", sign=str(tmp_path / "no-key"))
    assert list((tmp_path / "served").iterdir()) == []


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
    push(one, base)
    assert not baseline_of(one, base, tmp_path, "itself").exists()
    push(two, base)
    found = baseline_of(three, base, tmp_path, "b3")
    assert model_store.export_id(str(found)) == "two"
    found = baseline_of(two, base, tmp_path, "b2")
    assert model_store.export_id(str(found)) == "one"


def test_the_baseline_is_the_pinned_version_and_never_a_damaged_one(
    tmp_path: Path,
) -> None:
    base = push_each(tmp_path, "abc")
    candidate = model_folder(tmp_path / "d", "d")
    flip(base / str(versions(base)[-1]) / "assets/ads")
    found = baseline_of(candidate, base, tmp_path, "b1")
    assert model_store.export_id(str(found)) == "b"
    (base / ".pinned").write_text(str(versions(base)[0]))
    found = baseline_of(candidate, base, tmp_path, "b2")
    assert model_store.export_id(str(found)) == "a"


def test_a_version_with_files_added_beside_the_model_is_a_baseline(
    tmp_path: Path,
) -> None:
    """Such as a signature, or TF Serving's warm-up requests."""
    base = push_each(tmp_path, "a")
    (base / str(versions(base)[0]) / "assets.extra/model.sig").touch()
    candidate = model_folder(tmp_path / "b", "b")
    found = baseline_of(candidate, base, tmp_path, "b1")
    assert model_store.export_id(str(found)) == "a"


def inodes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_ino for name in FILES}


def test_the_baseline_is_linked_and_outlives_its_version(
    tmp_path: Path,
) -> None:
    base = push_each(tmp_path, "a")
    candidate = model_folder(tmp_path / "b", "b")
    version = base / str(versions(base)[0])
    found = baseline_of(candidate, base, tmp_path, "b1")
    numbers = inodes(version)
    del numbers["saved_model.pb"]  # is read before it is written
    assert numbers.items() <= inodes(found).items()
    push(candidate, base)
    push(model_folder(tmp_path / "c", "c"), base, keep=1)
    assert ids(base) == ["b", "c"]
    assert manifest.verify(str(found))
    assert model_store.export_id(str(found)) == "a"


@pytest.mark.parametrize("clones", [False, True])
def test_without_links_the_baseline_is_a_clone_or_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clones: bool
) -> None:
    base = push_each(tmp_path, "a")
    candidate = model_folder(tmp_path / "b", "b")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    def clone(target: Any, request: int, source: int) -> None:
        # Clones a file as a file system with reflinks does, by bytes.
        assert request == 0x40049409
        with open(source, "rb", closefd=False) as file:
            target.write(file.read())

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "ioctl", clone if clones else refuse)
    found = baseline_of(candidate, base, tmp_path, "b1")
    assert manifest.verify(str(found))
    version = base / str(versions(base)[0])
    assert not set(inodes(found).values()) & set(inodes(version).values())


def test_a_pushed_version_is_independent_of_the_artifact(
    tmp_path: Path,
) -> None:
    """No link: what is written into the artifact later is not served."""
    model = model_folder(tmp_path / "m", "one")
    path = pushed_to(push(model, tmp_path / "served"))
    for name in FILES:
        flip(tmp_path / "m/Format-Serving" / name)
    assert manifest.verify(str(path))


def test_a_model_without_the_infra_blessing_is_refused(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "one")
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(tmp_path / "blessing")
    with pytest.raises(RefusedError, match="ServingGate"):
        push(model, tmp_path / "served", more={"infra_blessing": [blessing]})
    blessing.set_int_custom_property("blessed", 1)
    push(model, tmp_path / "served", more={"infra_blessing": [blessing]})
    assert ids(tmp_path / "served") == ["one"]
