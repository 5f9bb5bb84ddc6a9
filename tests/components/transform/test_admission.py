"""Transform admits values by the days of the rows, and goes on from before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components.example_io.decode import decode, times_of
from components.example_io.record_files import record_blocks
from components.example_io.tf_example import encode, timed
from components.example_io.tfrecord import frame
from components.transform import analyze, ledgers
from components.transform.executor import Executor, _state
from models.config.training import Features
from models.errors import InputError
from models.preprocessing import ledger_file
from models.preprocessing.admission import Ledger, Tally
from tests.components.click_log_gen.ingest import (
    convert_log,
    log_of,
    write_log,
)

FEATURES: dict[str, Any] = {
    "numeric": ["price"],
    "categorical": [
        {"name": "ad", "min_count": 3, "admission": 2},
        {"name": "last_ad", "table": "ad", "min_count": 3, "admission": 2},
        {
            "name": "tags",
            "list": "|",
            "min_count": 2,
            "admission": {"days": 1, "evict_after": 2},
        },
        {"name": "site", "min_count": 1},
    ],
}
SPEC = {
    name: tf.io.VarLenFeature(kind)
    for name, kind in {
        "ad": tf.string,
        "last_ad": tf.string,
        "tags": tf.string,
        "site": tf.string,
        "price": tf.float32,
        "label": tf.int64,
    }.items()
}
NOON = 43_200


def write(
    path: Path,
    rows: list[tuple[float, str | None, str | None, list[str]]],
) -> str:
    """A file of rows: days since 1970, ad, ad before, tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    days, ads, before, tags = zip(*rows, strict=True)
    count = len(rows)
    records = encode(
        {
            "ad": pa.array(ads, pa.string()),
            "last_ad": pa.array(before, pa.string()),
            "tags": pa.array(tags, pa.list_(pa.string())),
            "site": pa.array(["s"] * count),
            "price": pa.array(np.ones(count, np.float32)),
            "label": pa.array([row % 2 for row in range(count)]),
        }
    )
    times = 10**6 * (86_400 * np.array(days) + NOON).astype(np.int64)
    path.write_bytes(frame(timed(records, times)).to_pybytes())
    return str(path)


class Days:
    """Runs of Transform, each of which goes on from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.schema = folder / "schema"
        io_utils.write_pbtxt_file(
            f"{self.schema}/schema.pbtxt",
            schema_utils.schema_from_feature_spec(SPEC),
        )
        self.state: str | None = None
        self.config: dict[str, Any] = {"features": FEATURES}

    def run(self, name: str, *files: str) -> dict[str, list[bytes]]:
        """Vocabularies; the state of the training is pushed."""
        graph = self.folder / name
        context = Executor.Context(
            beam_pipeline_args=["--runner=FnApiRunner"],
            tmp_dir=str(self.folder / "tmp"),
            unique_id="1",
        )
        Executor(context).fit(
            list(files), dict(self.config), str(self.schema), str(graph),
            self.state,
        )  # fmt: skip
        state = self.folder / f"{name}-state"
        shutil.copytree(graph / ledger_file.FOLDER, state / ledger_file.FOLDER)
        self.told = ledger_file.tallies(str(graph))
        self.state = str(state)
        return {
            path.name.removeprefix("vocab_"): path.read_bytes().split()
            for path in (graph / "transform_fn/assets").glob("vocab_*")
        }


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(tmp_path)


def test_counts_of_days_are_added_up_and_days_count_once(days: Days) -> None:
    one = write(
        days.folder / "one",
        [
            (10, "a", None, ["x", "y"]),
            (10, "a", "b", ["x"]),
            (10, None, "b", []),
        ],
    )
    two = write(
        days.folder / "two",
        [(11, "a", "c", ["z"]), (11, "b", "", ["z"]), (11, "c", "c", [])],
    )
    found = days.run("1", one)
    assert found["ad"][0] not in (b"a", b"b")  # the entry of an empty one
    assert found["tags"] == [b"x"] and found["site"] == [b"s"]
    assert days.told["ad"]["waiting"] == 2
    begun = days.state
    # The feature and that which shares its table, on both days.
    found = days.run("2", two)
    assert found["ad"] == [b"c", b"b", b"a"]
    assert found["tags"] == [b"z", b"x"]
    assert days.told["ad"] == {
        "day": "1970-01-12",
        "known": 3,
        "admitted": 3,
        "new": 3,
        "waiting": 0,
        "evicted": 0,
        "capped": 0,
        "forgotten": 0,
    }
    told = days.told
    # A day that is run again, from the same base or from itself.
    again = days.run("2-again", two)
    assert again == found and days.told["ad"]["new"] == 0
    days.state = begun
    # Logs of both days at once: those of the first are known already.
    assert days.run("2-wide", one, two) == found and days.told == told
    found = days.run("3", write(days.folder / "three", [(13, "b", "b", [])]))
    assert found["ad"] == [b"b"] and days.told["ad"]["evicted"] == 2
    assert days.told["tags"]["evicted"] == 2
    assert days.told["tags"]["admitted"] == 0


def test_runs_of_a_day_add_the_rows_that_are_new(days: Days) -> None:
    """By files of their own, by one that grows, and by some of both."""
    rule = {"name": "ad", "min_count": 3, "admission": 2}
    days.config["features"] = {"categorical": [rule]}
    days.config["analysis_cache"] = str(days.folder / "cache")
    morning = [(10 + n / 24, "a", None, ["x"]) for n in range(2)]
    evening = [(10.2 + n / 24, "a", None, ["x"]) for n in range(3)]
    night = [(10.4 + n / 24, "a", None, ["x"]) for n in range(2)]
    days.run("morning", write(days.folder / "1", morning))
    begun = days.state
    days.run("evening", write(days.folder / "2", evening))
    assert counts(days) == {(b"a", 10): 5}
    # Some hours are known, and some are not.
    days.run("night", write(days.folder / "3", evening[1:] + night))
    assert counts(days) == {(b"a", 10): 7}
    whole = write(days.folder / "4", morning + evening + night)
    for name in ("grown", "from the cache"):
        days.state = begun
        days.run(name, whole)
        assert counts(days) == {(b"a", 10): 7}


def counts(days: Days, table: str = "ad") -> dict[tuple[bytes, int], int]:
    """Value and day -> sightings, of the last run's ledger."""
    found = ledger_file.read(f"{days.state}/ledgers", f"vocab_{table}")
    return {
        (row["value"], row["day"]): row["count"]
        for row in found.counts.to_pylist()
    }


def test_a_try_that_was_killed_leaves_nothing_behind(days: Days) -> None:
    days.run("1", write(days.folder / "one", [(10, "a", "a", ["x"])] * 2))
    two = write(days.folder / "two", [(11, "b", "a", ["y"])] * 2)
    before = days.state
    found = days.run("whole", two)
    told, days.state = days.told, before
    for place in (".temp_analysis/found/ledgers", "ledgers"):
        half = days.folder / "2" / place
        half.mkdir(parents=True)
        (half / "vocab_ad.arrow").write_bytes(b"half")
    assert days.run("2", two) == found and days.told == told


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "checksum"),
        (lambda file: file.write_bytes(b"ARROW1"), "no ledger of this"),
        (lambda file: file.rename(file.with_name("old.arrow")), "has none of"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_told_and_left(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    reason: str,
) -> None:
    """As of a feature that was renamed, or had no admission so far."""
    state = tmp_path / "state"
    (state / ledger_file.FOLDER).mkdir(parents=True)
    nothing = Tally("2024-03-01", *[0] * 7)
    for name in ("vocab_ad", "vocab_tags"):
        folder = str(state / ledger_file.FOLDER)
        ledger_file.write(folder, name, Ledger(5), nothing)
    damage(state / "ledgers/vocab_ad.arrow")
    work = str(tmp_path / "work")
    features = Features.model_validate(FEATURES)
    folder = ledgers.fetched(features, str(state), work)
    (line,) = caplog.messages
    assert line.startswith("admission: ad: no counts of earlier days: ")
    assert reason in line
    assert ledger_file.read(folder, "vocab_ad").day is None
    assert ledger_file.read(folder, "vocab_tags").day == 5


def test_the_parser_and_arrow_count_alike(days: Days) -> None:
    file = write(
        days.folder / "log",
        [
            (10, "a", "b", ["x", "y"]),
            (11, "a", "a", ["y"]),
            (12, "b", "", ["y"]),
        ],
    )
    by_arrow = days.run("arrow", file)
    ledgers = [
        ledger_file.read(f"{days.state}/ledgers", f"vocab_{t}")
        for t in ("ad", "tags")
    ]
    days.state = None
    with mock.patch(
        "components.transform.columns.decodable", return_value=False
    ):
        assert days.run("parser", file) == by_arrow
    for table, ledger in zip(("ad", "tags"), ledgers, strict=True):
        other = ledger_file.read(f"{days.state}/ledgers", f"vocab_{table}")
        assert other.counts.to_pylist() == ledger.counts.to_pylist()
        assert other.counts.num_rows


def test_days_are_those_of_the_zone(days: Days) -> None:
    days.config["zone"] = "Asia/Tokyo"  # noon in UTC is 21:00
    days.run("1", write(days.folder / "log", [(10, "a", "a", [])]))
    assert days.told["ad"]["day"] == "1970-01-11"
    days.config["zone"] = "Pacific/Kiritimati"  # 14 hours ahead
    days.run("2", write(days.folder / "log2", [(19_000, "a", "a", [])]))
    assert days.told["ad"]["day"] == str(np.datetime64(19_001, "D"))


def test_the_analysis_of_a_file_is_kept_and_its_days_with_it(
    days: Days,
) -> None:
    days.config["analysis_cache"] = str(days.folder / "cache")
    file = write(days.folder / "log", [(10, "a", "a", ["x"])] * 2)
    found = days.run("1", file)
    days.state = None
    with mock.patch.object(analyze, "look", side_effect=AssertionError):
        assert days.run("2", file) == found
    assert days.told["ad"]["admitted"] == 1


def test_rows_without_a_time_are_refused(days: Days) -> None:
    path = Path(write(days.folder / "log", [(10, "a", "a", [])]))
    plain = encode({"ad": pa.array(["a"]), "label": pa.array([1])})
    path.write_bytes(frame(plain).to_pybytes())
    with pytest.raises(Exception, match="examples carry no time"):
        days.run("1", str(path))


def test_the_state_is_the_one_that_warm_start_found(tmp_path: Path) -> None:
    model = standard_artifacts.Model()
    model.uri = str(tmp_path)
    folder = tmp_path / "Format-Serving"
    folder.mkdir()
    for state in ("/where/it/is", None):
        (folder / "base.json").write_text(json.dumps({"state": state}))
        assert _state({"base_model": [model]}) == state
    assert _state({}) is None


@pytest.mark.parametrize("format", ["tsv", "parquet"])
@pytest.mark.parametrize(
    ("split", "joined"),
    [("time", False), ("time", True), ("hash", False), ("order", False)],
)
def test_the_rows_of_train_carry_their_times(
    tmp_path: Path, format: str, split: str, joined: bool
) -> None:
    rows = [
        {"id": f"i{i}", "click": i % 2, "site": f"s{i}", "t": 10**9 + 977 * i}
        for i in range(40)
    ]
    log = write_log(tmp_path / f"log.{format}", format, rows)
    clicked = [{"id": row["id"], "t": row["t"] + 5} for row in rows[::3]]
    clicks = write_log(tmp_path / "clicks.tsv", "tsv", clicked)
    more: dict[str, Any] = {"label": "click"}
    if joined:
        join = log_of(clicks, "tsv") | {"key": "id", "window": "1h"}
        more = {"label": None, "clicks": join}
    for asked in (True, False):
        output = convert_log(
            tmp_path / str(asked),
            log_of(log, format),
            {"site": ("string", None)},
            split_by={"by": split, "eval": 0.25},
            time="t",
            train_times=asked,
            **more,
        )
        kept = {row["site"] for row in output.train}
        assert len(kept) >= 20
        if asked:
            assert times_in(tmp_path / str(asked)) == {
                row["site"]: row["t"] for row in rows if row["site"] in kept
            }
        else:
            with pytest.raises(InputError, match="carry no time"):
                times_in(tmp_path / str(asked))


def times_in(folder: Path) -> dict[str, int]:
    """Site of a row of train -> its time."""
    found = {}
    for file in folder.glob("train/data_tfrecord-*"):
        for records in record_blocks(str(file), 100, 1 << 20):
            sites = decode(records)["site"].to_pylist()
            times = times_of(records).tolist()
            found |= {
                s.decode(): t for (s,), t in zip(sites, times, strict=True)
            }
    return found


@pytest.mark.parametrize("split", ["hash", "order"])
def test_rows_without_a_time_have_the_day_of_their_file(
    tmp_path: Path, split: str
) -> None:
    for day in (1, 2, 3):
        rows = [{"click": i % 2, "site": f"s{day}-{i}"} for i in range(20)]
        path = tmp_path / f"2024-03-0{day}" / "log.tsv"
        path.parent.mkdir()
        write_log(path, "tsv", rows)
    output = convert_log(
        tmp_path / "out",
        log_of(tmp_path / "{DATE}/log.tsv", "tsv"),
        {"site": ("string", None)},
        split_by={"by": split, "eval": 0.25},
        spans={"last": 2},
        train_times=True,
    )
    first = int(np.datetime64("2024-03-01", "s").astype(int))
    assert times_in(tmp_path / "out") == {
        row["site"]: first + 86_400 * (int(row["site"][1]) - 1)
        for row in output.train
    }
    assert {row["site"][:2] for row in output.kept} == {"s2", "s3"}
