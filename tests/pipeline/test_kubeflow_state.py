"""A task's lasting folder on an object store."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from models.errors import InputError
from pipeline.runners.kubeflow import state
from pipeline.runners.kubeflow.state import Mirror, mirrored
from serving.object_store import open_store
from tests.pipeline import google_server, moto_server

BUCKET = "lionctr-state"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of moto's S3 server, with an empty bucket."""
    with moto_server.running(BUCKET) as url:
        yield url


@pytest.fixture
def credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a pod that was given a secret."""
    for name, value in moto_server.variables(s3).items():
        monkeypatch.setenv(name, value)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def names(store: Any, root: str) -> list[str]:
    chosen = pyarrow.fs.FileSelector(root, recursive=True, allow_not_found=True)
    return sorted(
        info.path[len(root) + 1 :]
        for info in store.get_file_info(chosen)
        if info.type == pyarrow.fs.FileType.File
    )


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """The address of an emulator of Google's storage, with the bucket."""
    with google_server.running(BUCKET) as url:
        yield url


@pytest.mark.parametrize("scheme", ["s3", "minio", "gs"])
@pytest.mark.usefixtures("credentials")
def test_a_second_try_finds_what_the_first_one_wrote(
    tmp_path: Path, scheme: str, google: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    uri = f"{scheme}://{BUCKET}/{scheme}/checkpoints"
    task = {
        "inputs": {
            "parameterValues": {
                "custom_config": json.dumps(
                    {"checkpoints": uri, "trials": None}
                )
            }
        }
    }
    for number in (1, 2):
        with mirrored(task, tmp_path / f"pod-{number}") as here:
            given = json.loads(
                here["inputs"]["parameterValues"]["custom_config"]
            )
            folder = Path(given["checkpoints"])
            assert given["trials"] is None
            if number == 1:
                write(folder / "key/step-1/arrays.bin", "x" * 100)
                write(folder / "key/step-1/index.json", "{}")
                write(folder / "key/part-2/arrays.bin", "unfinished")
        assert (folder / "key/step-1/index.json").read_text("utf-8") == "{}"
    store, root = open_store(uri, dict(os.environ))
    assert names(store, root) == [
        "key/step-1/arrays.bin",
        "key/step-1/index.json",
    ]


def test_the_store_follows_the_folder_while_the_task_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_SECONDS", 0.01)
    store, root = pyarrow.fs.LocalFileSystem(), str(tmp_path / "store")
    folder = tmp_path / "folder"
    with Mirror(store, root, folder):
        write(folder / "step-1/index.json", "1")
        _until(lambda: names(store, root) == ["step-1/index.json"])
        write(folder / "step-2/index.json", "2")
        (folder / "step-1/index.json").unlink()
        _until(lambda: names(store, root) == ["step-2/index.json"])
        write(folder / "step-2/index.json", "two")
    assert (tmp_path / "store/step-2/index.json").read_text("utf-8") == "two"


def _until(holds: Any) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def test_a_checkpoints_index_is_copied_last(tmp_path: Path) -> None:
    written = []

    class Store(pyarrow.fs.LocalFileSystem):  # type: ignore[misc]
        def open_output_stream(
            self, path: str, *more: Any, **named: Any
        ) -> Any:
            written.append(Path(path).name)
            return super().open_output_stream(path, *more, **named)

    mirror = Mirror(Store(), str(tmp_path / "store"), tmp_path / "folder")
    for name in ("index.json", "arrays.bin", "z.bin"):
        write(tmp_path / "folder/step-1" / name, name)
    mirror.copy()
    assert written == ["arrays.bin", "z.bin", "index.json"]


def test_a_store_that_does_not_let_us_in_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    custom = json.dumps({"checkpoints": "s3://b/x"})
    task = {"inputs": {"parameterValues": {"custom_config": custom}}}
    message = re.escape("runner.kubeflow.state: s3://b/x cannot be read")
    with (
        pytest.raises(InputError, match=message),
        mirrored(task, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "custom",
    [json.dumps({"checkpoints": "/mnt/b/x", "trials": "/x"}), "null", "", None],
)
def test_a_task_without_a_store_stays_as_it_is(
    tmp_path: Path, custom: str | None
) -> None:
    task = {"inputs": {"parameterValues": {"custom_config": custom}}}
    with mirrored(task, tmp_path) as here:
        assert here == task
