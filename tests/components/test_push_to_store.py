"""Pushes to object stores: whole or absent, verified, taken back, served."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
import yaml

from components import model_store, verified_copy
from components.pusher import publish, rollback, states
from components.pusher.executor import push
from components.transform import cache, ledgers
from components.transform.executor import _kept
from components.warm_start.executor import find
from models import trainer
from models.checkpointing.checkpoint import INDEX, Checkpoints
from models.checkpointing.saved_state import BASE, SavedTrainingState
from models.config.training import Features
from models.errors import InputError, RefusedError
from models.preprocessing import ledger_file
from models.preprocessing.admission import Ledger, Tally
from pipeline import cli
from pipeline.commands import predict
from serving import manifest, object_store
from serving.errors import ServingError
from serving.object_store import StoreFiles
from serving.store_versions import StoreVersions
from serving.versions import Snapshot, VersionWatcher
from tests.components.exports import model_folder
from tests.exported import FILES
from tests.pipeline import google_server, moto_server
from tests.pipeline.small import make_config

BUCKET = "lionctr-push"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Variables of an S3 server's and of a Google server's users."""
    with (
        moto_server.running(BUCKET) as s3,
        google_server.running(BUCKET) as google,
    ):
        yield {**moto_server.variables(s3), "STORAGE_EMULATOR_HOST": google}


@pytest.fixture(params=["s3", "gs"])
def base(
    servers: dict[str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The folder of a model's versions: nothing is there yet."""
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"{request.param}://{BUCKET}/to {next(_numbers)}/ads"


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., str]:
    """Makes an exported model; returns its folder."""

    def make(name: str, **about: Any) -> str:
        folder = tmp_path / name
        model_folder(folder, name, state=True, **about)
        return str(folder / "Format-Serving")

    return make


def below(base: str) -> list[str]:
    return sorted(StoreFiles().below(base))


def damage(base: str, version: int, name: str = "assets/ads") -> None:
    with StoreFiles().open(f"{base}/{version}/{name}", "w") as file:
        file.write("another thing")


def test_a_push_is_whole_verified_and_listed(
    base: str, export: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = export("one")
    first = push(one, base, {"metrics": {"auc": 0.75}})
    assert push(one, base) == first
    second = push(export("two"), base)
    assert second > first
    assert model_store.versions(base) == [first, second]
    expected = {manifest.NAME, *FILES}
    for version in (first, second):
        files = StoreFiles()
        path = model_store.path_of(base, version)
        assert manifest.names_of(path, files) == expected
        assert manifest.verify(path, files)
        assert set(below(path)) == expected  # the claim is gone
    assert cli.main(["models", base]) == 0
    table = capsys.readouterr().out
    assert f"version {second} is served" in table and "0.75" in table
    above, _, name = base.rpartition("/")
    assert cli.main(["models", name, "verify", "--to", above]) == 0
    assert capsys.readouterr().out.count("holds") == 2
    damage(base, second)
    assert cli.main(["models", base, "verify"]) == 1
    assert f"{second}  damaged: files differ" in capsys.readouterr().out


@pytest.mark.parametrize("at", ["assets/ads", manifest.NAME, "saved_model.pb"])
def test_a_push_that_fails_at_any_file_leaves_nothing(
    base: str,
    export: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    version = push(export("one"), base)
    before = below(base)
    real = StoreFiles.open

    def failing(self: Any, path: str, mode: str = "rb") -> Any:
        if path.endswith(at) and "w" in mode:
            raise OSError("the network is down")
        return real(self, path, mode)

    monkeypatch.setattr(StoreFiles, "open", failing)
    with pytest.raises(OSError, match="network"):
        push(export("two"), base)
    assert below(base) == before
    assert model_store.served(base) == version


def test_bytes_that_change_on_the_way_are_no_version(
    base: str, export: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StoreFiles.open

    def changing(self: Any, path: str, mode: str = "rb") -> Any:
        stream = real(self, path, mode)
        if not path.endswith("assets/ads") or "w" not in mode:
            return stream
        stream.write(b"!")
        return stream

    monkeypatch.setattr(StoreFiles, "open", changing)
    with pytest.raises(manifest.DamagedError, match="assets/ads has"):
        push(export("one"), base)
    assert below(base) == []


def test_a_killed_push_is_no_version_and_goes_after_a_day(
    base: str,
    export: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed = int(time.time()) + 5
    damage(base, killed)
    damage(base, killed, manifest.NAME)
    assert model_store.versions(base) == []
    assert cli.main(["models", base]) == 2
    assert "no version in" in capsys.readouterr().err
    with pytest.raises(ServingError, match="holds no version"):
        StoreVersions(base).first(2, None)
    version = push(export("one"), base)
    assert version > killed  # its files are not mixed with the others
    assert model_store.versions(base) == [version]
    assert any(str(killed) in name for name in below(base))
    now = time.time()
    monkeypatch.setattr(publish.time, "time", lambda: now + 90_000)
    push(export("two"), base)
    assert not any(str(killed) in name for name in below(base))


def test_pushes_at_once_are_two_whole_versions(
    base: str, export: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(publish.time, "time", lambda: now)
    models = [export(name) for name in ("one", "two", "three")]
    errors: list[BaseException] = []

    def run(model: str) -> None:
        try:
            push(model, base)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(m,)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    versions = model_store.versions(base)
    found = {model_store.export_id(f"{base}/{v}") for v in versions}
    assert found == {"one", "two", "three"} and len(versions) == 3
    for version in versions:
        assert manifest.verify(f"{base}/{version}", StoreFiles())


def test_a_version_is_rolled_back_pinned_and_old_ones_go(
    base: str, export: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = push(export("one"), base), push(export("two"), base)
    assert cli.main(["models", base, "rollback"]) == 0
    new = model_store.versions(base)[-1]
    assert model_store.export_id(f"{base}/{new}") == "one"
    assert rollback.copies(base) == {new: one}
    assert cli.main(["models", base, "pin", str(two)]) == 0
    capsys.readouterr()
    assert cli.main(["models", base]) == 0
    assert f"version {two} is served: it is pinned" in capsys.readouterr().out
    newest = push(export("three"), base, keep=1)
    assert model_store.versions(base) == [two, newest]
    assert cli.main(["models", base, "unpin"]) == 0
    assert model_store.served(base) == newest
    # Training states are kept of the newest versions, whole.
    states = below(base.replace("/ads", "/.training/ads"))
    kept = {name.partition("/")[0] for name in states}
    assert kept == {"two", "three"}
    assert "three/step-0000000007/index.json" in states
    start = find("latest_blessed", base, {"data_version": ""})
    assert start.model == f"{base}/{newest}"
    assert start.state == base.replace("/ads", "/.training/ads/three")


def test_a_training_begins_with_a_state_in_the_store(
    base: str, tmp_path: Path
) -> None:
    state = {
        "iterations": 7,
        "keys": {},
        "tables": {},
        "columns": {"price": "number 0"},
        "optimizer": [["", "lion"]],
    }
    weights = {"kernel": tf.Variable([1.0, 2.0])}
    Checkpoints(str(tmp_path / "state"), keep=1).save(7, weights, state)
    kept = model_store.state_folder(base, "one")
    states._copy(str(tmp_path / "state"), kept)
    assert states.is_kept(kept)
    (tmp_path / BASE).write_text(
        json.dumps({"model": f"{base}/7", "state": kept, "reason": None})
    )
    settings = {"train": {"warm_start": f"{base}/7"}}
    arguments = SimpleNamespace(
        custom_config=settings, base_model=str(tmp_path)
    )
    found, report = trainer._base(arguments)
    assert found is not None and report is None
    assert (
        found.identity == SavedTrainingState(str(tmp_path / "state")).identity
    )
    StoreFiles().rmtree(kept)
    with pytest.raises(InputError, match="cannot be read"):
        trainer._base(arguments)


def test_the_counts_of_values_come_with_the_state_in_the_store(
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    artifact = tmp_path / "model"
    state = artifact / "Format-Training"
    for path in ("step-0000000007/arrays.bin", "step-0000000007/index.json"):
        (state / path).parent.mkdir(parents=True, exist_ok=True)
        (state / path).write_text("{}")
    written = str(state / ledger_file.FOLDER)
    tally = Tally("2024-03-01", *[0] * 7)
    ledger_file.write(written, "vocab_ad", Ledger(9), tally)
    kept = model_store.state_folder(base, "one")
    copy = verified_copy.copy_file

    def killed(source: str, target: str) -> None:
        if source.endswith(INDEX):
            raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verified_copy, "copy_file", killed)
        states.keep(str(artifact), base, "one")
    assert not states.is_kept(kept)
    with StoreFiles().open(f"{kept}/ledgers/vocab_ad.arrow", "wb") as file:
        file.write(b"half")
    states.keep(str(artifact), base, "one")
    assert states.is_kept(kept)
    features = Features.model_validate(
        {"categorical": [{"name": "ad", "admission": 7}]}
    )
    folder = ledgers.fetched(features, kept, str(tmp_path / "work"))
    assert ledger_file.read(folder, "vocab_ad").day == 9
    assert caplog.text == ""
    StoreFiles().remove(f"{kept}/ledgers/vocab_ad.arrow")
    ledgers.fetched(features, kept, str(tmp_path / "another"))
    assert "no counts of earlier days" in caplog.text


class Served:
    """A server of the versions in a store, without TensorFlow."""

    def __init__(self, uri: str, pin: int | None = None) -> None:
        self.store = StoreVersions(uri)
        self.store.first(1, pin)
        self.snapshot: Snapshot[str] = Snapshot()
        self.watcher = VersionWatcher[str](
            self.store.folder,
            self._load,
            lambda snapshot: setattr(self, "snapshot", snapshot),
            keep=1,
            pin=pin,
            update=lambda: self.store.update(1, pin),
        )
        self.watcher.refresh()

    @staticmethod
    def _load(path: Path) -> str:
        manifest.verify(str(path))
        return str(manifest.about(str(path))["export_id"])

    @property
    def model(self) -> str:
        version = self.snapshot.served
        return "" if version is None else self.snapshot.loaded[version]


def test_a_server_follows_the_store(
    base: str, export: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = push(export("one"), base)
    served = Served(base)
    assert served.model == "one" and served.store.folder.name == "ads"
    two = push(export("two"), base)
    damage(base, two + 1)  # a push under way
    served.watcher.refresh()
    assert served.model == "two" and two + 1 not in served.snapshot.failed
    three = push(export("three"), base)
    damage(base, three)
    served.watcher.refresh()
    assert served.model == "two"
    assert "assets/ads has" in served.snapshot.failed[three]
    model_store.set_pin(base, one)
    served.watcher.refresh()
    assert served.model == "one"
    assert Served(base, pin=two).model == "two"
    monkeypatch.setattr(object_store, "open_store", _down)
    served.watcher.refresh()
    assert served.model == "one"
    monkeypatch.undo()


def _down(*_: Any) -> Any:
    raise OSError("the network is down")


def test_a_copy_is_made_once_and_revoked_with_its_source(
    base: str, export: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = push(export("one"), base), push(export("two"), base)
    store = StoreVersions(base)
    assert store.version(one).is_dir() and store.version(two).is_dir()
    read: list[str] = []
    real = StoreFiles.open

    def counting(self: Any, path: str, mode: str = "rb") -> Any:
        read.append(path)
        return real(self, path, mode)

    monkeypatch.setattr(StoreFiles, "open", counting)
    again = StoreVersions(base)
    assert again.folder == store.folder and again.update(2) == [one, two]
    assert read == []
    StoreFiles().rmtree(f"{base}/{two}")
    assert again.update(2) == [one]
    left = [path.name for path in again.folder.iterdir()]
    assert left == [str(one)]


def test_a_model_to_predict_with_is_copied_and_verified(
    base: str, export: Callable[..., str]
) -> None:
    one, two = push(export("one"), base), push(export("two"), base)
    for name, wanted in ((base, two), (f"{base}/{one}", one)):
        copy = Path(predict._version(name, ""))
        assert copy.name == str(wanted) and manifest.verify(str(copy))
    with pytest.raises(InputError, match=f"no version 7. Accepted: {one}"):
        predict._version(f"{base}/7", "")
    damage(base, one)
    with pytest.raises(RefusedError, match="assets/ads has"):
        predict._version(f"{base}/{one}", "")


@pytest.mark.ci
def test_a_store_that_does_not_answer_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "ads.yaml"
    settings = make_config(tmp_path, push={"to": "s3://b"}).resolved()
    config.write_text(yaml.safe_dump(settings), "utf-8")
    for name, value in moto_server.variables("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    for words in (
        ["models", "s3://b/x"],
        ["models", str(config)],
        ["models", "x", "--to", "s3://b"],
        ["serve", "s3://b/x"],
        ["predict", "s3://b/x", "log.csv", "--out", "out"],
        ["predict", "s3://b/x/7", "log.csv", "--out", "out"],
    ):
        assert cli.main(words) == 2, words
        error = capsys.readouterr().err
        assert "AWS_ENDPOINT_URL" in error and "Traceback" not in error
        assert "minio123" not in error


def test_the_analysis_cache_may_be_there(base: str, tmp_path: Path) -> None:
    file = tmp_path / "examples.gz"
    file.write_bytes(b"examples")
    tables = [pa.table({"n": [1, 2]}), pa.table({"text": ["a"]})]
    schemas = [table.schema for table in tables]
    folder = str(_kept(base))
    name = cache.name(str(file), "1")
    assert not cache.has(folder, name, schemas)
    entry = cache.put(folder, name, tables)
    assert cache.has(folder, name, schemas)
    assert [cache.read(entry, n) for n in (0, 1)] == tables
    cache.clean(folder)
    assert below(base) == [name]
    with StoreFiles().open(entry, "w") as damaged:
        damaged.write("no archive")
    assert not cache.has(folder, name, schemas)
    cache.clean(folder, days=-1)
    assert below(base) == []


@pytest.mark.ci
def test_a_run_does_without_a_cache_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in moto_server.variables("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    assert _kept("s3://b/cache") is None
    assert "no analysis cache at s3://b/cache" in caplog.text
