"""On a real Flink: the same rows as in process, also when half of it dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline import dag
from pipeline.cli import main
from pipeline.commands.generate import generate
from pipeline.config import PipelineConfig, RunnerConfig, load
from tests.pipeline.small import make_config, write_log
from tests.serving.features import FEATURES, ROWS, SPEC, export_model

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "flink"))

import fetch
from cluster import Cluster, born

pytestmark = [pytest.mark.flink, pytest.mark.ci]
FILES = 4
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Flink of two task managers."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    if fetch.missing(fetch.folder()):
        pytest.skip("Flink is not here; `make flink` fetches it")
    cluster = Cluster(tmp_path_factory.mktemp("flink"))
    started = command("start", cluster)
    assert started.returncode == 0, started.stderr
    assert ", ".join(cluster.beam()) in started.stdout
    yield cluster
    processes = cluster.processes()
    command("stop", cluster)
    assert not any(born(pid) for pid in processes.values())


def command(name: str, cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """Answer of `cluster.py` on the command line."""
    script = Path(fetch.__file__).with_name("cluster.py")
    return subprocess.run(
        [sys.executable, str(script), name, "--home", str(cluster.home)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clicks in a few files."""
    folder = tmp_path_factory.mktemp("log")
    write_log(folder / "log.tsv", rows=500 * FILES)
    return dealt(folder / "log.tsv", folder)


def dealt(log: Path, folder: Path) -> Path:
    """The rows of `log` in a few files of `folder`, and no longer in `log`."""
    folder.mkdir(exist_ok=True)
    head, *lines = log.read_bytes().splitlines(keepends=True)
    log.unlink()
    for number in range(FILES):
        rows = [head, *lines[number::FILES]]
        (folder / f"{number}.tsv").write_bytes(b"".join(rows))
    return folder


def run(config: PipelineConfig, home: Path, last: str) -> Path:
    """Runs `config`'s pipeline as far as `last`; returns its artifacts."""
    from tfx.orchestration import metadata
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.pipeline import RunOptions

    from components.batching import prefer_large_batches

    home.mkdir()
    prefer_large_batches()
    pipeline = dag.create_pipeline(
        config,
        str(home / "artifacts"),
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(home / "metadata.sqlite")
        ),
    )
    LocalDagRunner().run(pipeline, run_options=RunOptions(to_nodes=[last]))
    return home / "artifacts"


def configured(log: Path, beam: list[str]) -> PipelineConfig:
    """A small pipeline over the files of `log`."""
    config = make_config(log, runner={"beam": beam})
    data = config.data.model_dump() | {
        "impressions": config.data.impressions.model_dump()
        | {"path": str(log / "*.tsv")}
    }
    return make_config(log, runner={"beam": beam}, data=data)


def records(artifacts: Path, component: str, split: str) -> list[bytes]:
    """A split's serialized tf.Examples, sorted."""
    paths = sorted(artifacts.glob(f"{component}/*/*/Split-{split}/*"))
    assert paths
    kind = "GZIP" if paths[0].suffix == ".gz" else ""
    data = tf.data.TFRecordDataset([str(path) for path in paths], kind)
    return sorted(data.as_numpy_iterator())


Row = tuple[tuple[float, ...], tuple[Any, ...]]


def parsed(serialized: list[bytes]) -> list[Row]:
    """Rows, sorted: all floats, then all else by name."""
    rows = []
    for record in serialized:
        features = sorted(
            tf.train.Example.FromString(record).features.feature.items()
        )
        floats = tuple(x for _, f in features for x in f.float_list.value)
        rest = tuple(
            (name, *f.int64_list.value, *f.bytes_list.value)
            for name, f in features
        )
        rows.append((floats, rest))
    return sorted(rows)


def test_ingest_and_transform_give_the_rows_that_they_give_in_process(
    cluster: Cluster, log: Path, tmp_path: Path
) -> None:
    here = run(configured(log, []), tmp_path / "here", "Transform")
    there = run(
        configured(log, cluster.beam()), tmp_path / "there", "Transform"
    )
    assert len(cluster.rest("/jobs")["jobs"]) >= 3
    for split in ("train", "eval"):
        ingested = records(there, "ClickLogGen", split)
        assert ingested == records(here, "ClickLogGen", split)
        got = parsed(records(there, "Transform", split))
        expected = parsed(records(here, "Transform", split))
        assert len(got) == len(ingested) > 300
        assert [rest for _, rest in got] == [rest for _, rest in expected]
        # A mean over other parts may differ in its last bit.
        np.testing.assert_allclose(
            [floats for floats, _ in got],
            [floats for floats, _ in expected],
            rtol=1e-6,
            atol=1e-6,
        )


def test_the_join_gives_the_rows_that_it_gives_in_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    generate(3000, tmp_path)
    shown = dealt(tmp_path / "impressions.tsv", tmp_path / "shown")
    clicks = dealt(tmp_path / "clicks.tsv", tmp_path / "clicks")
    config = load(
        CONFIGS / "demo_join.yaml",
        [
            f"data.impressions.path={shown}/*.tsv",
            f"data.clicks.path={clicks}/*.tsv",
            "data.clicks.partitions=3",
        ],
    )
    run(config, tmp_path / "here", "ClickLogGen")
    there = config.model_copy(
        update={"runner": RunnerConfig(beam=cluster.beam())}
    )
    run(there, tmp_path / "there", "ClickLogGen")
    homes = [tmp_path / name / "artifacts" for name in ("here", "there")]
    for split in ("train", "eval"):
        expected, got = (records(home, "ClickLogGen", split) for home in homes)
        assert got == expected
        assert len(got) > 200
    (expected,), (got,) = (
        [json.loads(path.read_bytes()) for path in home.rglob("counts.json")]
        for home in homes
    )
    assert got == expected
    assert got["clicks"]["joined"] > 100
    assert got["held_back"] and got["duplicates"] == 0
    expected, got = (
        sorted(line for p in home.rglob("rejected-*") for line in p.open("rb"))
        for home in homes
    )
    assert got == expected
    assert got


SHOP = """
name: shop
data:
  impressions: {path: SHOWN/*.tsv, format: tsv, header: true}
  clicks:
    path: CLICKS/*.tsv
    format: tsv
    header: true
    key: impression_id
    time: timestamp
    window: 30m
    partitions: 3
  time: timestamp
  split: {by: time, eval: 0.2}
features:
  categorical: [item_id, category]
  sequences:
    - from: impressions
      of: user_id
      items: item_id
      max_len: 10
      sides: [{of: category, items: category}, {of: timestamp}]
"""


def test_histories_are_those_that_they_are_in_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    generate(3000, tmp_path, shape="shop")
    shown = dealt(tmp_path / "impressions.tsv", tmp_path / "shown")
    clicks = dealt(tmp_path / "clicks.tsv", tmp_path / "clicks")
    path = tmp_path / "shop.yaml"
    text = SHOP.replace("SHOWN", str(shown)).replace("CLICKS", str(clicks))
    path.write_text(text, "utf-8")
    here = load(path)
    there = here.model_copy(
        update={"runner": RunnerConfig(beam=cluster.beam())}
    )
    jobs = len(cluster.rest("/jobs")["jobs"])
    homes = [
        run(config, tmp_path / name, "ClickLogGen")
        for name, config in (("here", here), ("there", there))
    ]
    assert len(cluster.rest("/jobs")["jobs"]) > jobs
    longest = 0
    for split in ("train", "eval"):
        expected, got = (records(home, "ClickLogGen", split) for home in homes)
        assert got == expected
        for row in map(tf.train.Example.FromString, got):
            items = row.features.feature["user_id_item_id"].bytes_list.value
            longest = max(longest, len(items))
    assert longest == 10


def test_predict_scores_there_as_in_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    version = export_model(tmp_path / "ads/7", export_id="e")
    columns = [name for name in ROWS[0] if name in SPEC]
    log = tmp_path / "log.tsv"
    lines = [
        "\t".join("NA" if row[c] is None else str(row[c]) for c in columns)
        for row in ROWS * 10
    ]
    log.write_text("\n".join(["\t".join(columns), *lines]) + "\n", "utf-8")
    logs = dealt(log, tmp_path / "logs")
    jobs = len(cluster.rest("/jobs")["jobs"])
    found = {}
    for name, beam in (("here", []), ("there", cluster.beam())):
        config = tmp_path / f"{name}.yaml"
        data = {
            "path": str(logs / "*.tsv"),
            "format": "tsv",
            "header": True,
            "null_values": ["", "NA"],
        }
        sections = {
            "name": "ads",
            "data": {"impressions": data, "label": "l"},
            "features": FEATURES,
            "runner": {"beam": beam},
        }
        config.write_text(json.dumps(sections))
        out = tmp_path / name
        command_line = ["predict", str(version), str(logs / "*.tsv")]
        command_line += ["--config", str(config), "--out", str(out)]
        assert main(command_line) == 0
        found[name] = [
            pq.read_table(path)["ctr"].to_pylist()
            for path in sorted(out.glob("*.parquet"))
        ]
    assert len(cluster.rest("/jobs")["jobs"]) == jobs + 1
    assert found["there"] == found["here"]
    assert sum(map(len, found["here"])) == 10 * len(ROWS)


def test_a_task_manager_killed_in_the_middle_changes_no_row(
    cluster: Cluster, log: Path, tmp_path: Path
) -> None:
    # Enough work for there to be a middle.
    for number in range(FILES):
        path = log / f"{number}.tsv"
        head, _, lines = path.read_text("utf-8").partition("\n")
        path.write_text(f"{head}\n{lines * 20}", "utf-8")
    here = run(configured(log, []), tmp_path / "here", "ClickLogGen")
    killer = threading.Thread(
        target=kill_when_writing,
        args=(cluster.processes()["taskmanager-2"], tmp_path / "there"),
    )
    killer.start()
    there = run(
        configured(log, cluster.beam()), tmp_path / "there", "ClickLogGen"
    )
    killer.join()
    assert not cluster.processes()["taskmanager-2"]
    assert failures(cluster)
    for split in ("train", "eval"):
        assert records(there, "ClickLogGen", split) == records(
            here, "ClickLogGen", split
        )


def kill_when_writing(pid: int, home: Path) -> None:
    """Kills `pid` as soon as a first file of rows is under way."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(home.rglob("data_tfrecord-*")):
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.01)


def failures(cluster: Cluster) -> list[dict[str, Any]]:
    """Failures that Flink recovered from in its newest job."""
    jobs: list[dict[str, Any]] = cluster.rest("/jobs/overview")["jobs"]
    newest = max(jobs, key=lambda job: job["start-time"])
    answer = cluster.rest(f"/jobs/{newest['jid']}/exceptions")
    found: list[dict[str, Any]] = answer["exceptionHistory"]["entries"]
    return found


def test_a_second_start_is_refused(cluster: Cluster) -> None:
    result = command("start", cluster)
    assert result.returncode == 1
    assert "stop it first" in result.stderr


def test_a_folder_with_other_files_is_left_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = command("start", Cluster(tmp_path))
    assert result.returncode == 1
    assert str(tmp_path) in result.stderr
    assert (tmp_path / "mine.txt").exists()
