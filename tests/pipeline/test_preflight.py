"""Checks before a run: paths, columns, sizes, the user's own code."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from models.errors import InputError
from pipeline.cli import main
from pipeline.config import load
from pipeline.preflight import checks
from serving.object_store import StoreFiles
from tests.pipeline import google_server, moto_server

HEADER = ["click", "ts", "price", "site", "user"]
CONFIG: dict[str, Any] = {
    "name": "ads",
    "root": "runs",
    "data": {
        "impressions": {"path": "ads.csv", "format": "csv", "header": True},
        "label": "click",
    },
    "features": {"numeric": ["price"], "categorical": ["site", "user"]},
    "push": {"to": "models"},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a config and its log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    text = yaml.safe_dump(CONFIG, sort_keys=False)
    (tmp_path / "ads.yaml").write_text(text, "utf-8")
    (tmp_path / "ads.csv").write_text(
        ",".join(HEADER) + "\n1,2,3,a,b\n0,2,3,a,b\n", "utf-8"
    )
    return tmp_path


def told(*overrides: str) -> str:
    """Message of the check against the config; "" if there is none."""
    config = load(Path("ads.yaml"), overrides)
    try:
        checks.quick(config)
        checks.slow(config)
    except InputError as error:
        assert error.exit_code == 2
        return str(error)
    return ""


def test_a_config_that_is_right_passes_and_leaves_nothing(home: Path) -> None:
    before = sorted(home.iterdir())
    assert told() == ""
    assert sorted(home.iterdir()) == before


HISTORY = "features.sequences=[{from: impressions, of: user, items: site"


def test_a_history_needs_its_sources_and_a_time_and_no_column(
    home: Path,
) -> None:
    assert told(f"{HISTORY}}}]", "data.time=ts") == ""
    sides = "sides: [{of: price}, {of: ts}, {of: colour}]"
    text = told(f"{HISTORY}, {sides}}}]", "data.time=ts")
    assert "features.sequences.0.sides.2.of: no column 'colour'" in text
    text = told(f"{HISTORY.replace('user', 'usr')}}}]", "data.time=ts")
    assert (
        "features.sequences.0.of: no column 'usr' (did you mean 'user'?)"
        in text
    )
    with pytest.raises(InputError) as refused:
        told(f"{HISTORY}}}]")
    assert "features.sequences.0: `from: impressions` needs data.time" in str(
        refused.value
    )
    names = "data.impressions.columns=[click, ts, price, site, user]"
    with pytest.raises(InputError) as refused:
        told(f"{HISTORY.replace('user', 'usr')}}}]", "data.time=ts", names)
    assert "features.sequences.0.of: column 'usr' is used but not among" in (
        str(refused.value)
    )


def test_places_in_object_stores_are_tried_before_a_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ("push.to=gs://ads/x", "train.warm_start=gs://ads/m/7")
    cache = "transform.cache=s3://ads/cache"
    with google_server.running("ads") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert told(*places) == ""
        assert StoreFiles().listdir("gs://ads") == []
    dead = moto_server.variables("http://127.0.0.1:1")
    for name, value in dead.items():
        monkeypatch.setenv(name, value)
    message = told(cache)
    assert "transform.cache: received 's3://ads/cache': " in message
    assert "AWS_ENDPOINT_URL" in message and "minio123" not in message


def test_all_problems_are_told_at_once_with_their_lines(home: Path) -> None:
    text = (home / "ads.yaml").read_text("utf-8")
    text = text.replace("- price", "- prise").replace(": models", ": ads.csv")
    (home / "ads.yaml").write_text(text, "utf-8")
    first, second = told().splitlines()
    assert re.match(r"ads\.yaml:\d+: features\.numeric\.0: no column", first)
    assert "(did you mean 'price'?) in ads.csv" in first
    assert first.endswith(", ".join(HEADER))
    assert re.match(r"ads\.yaml:\d+: push\.to: received 'ads\.csv'", second)
    assert "is not a folder" in second


def test_files_of_embeddings_are_looked_at(home: Path) -> None:
    def given(path: str, more: str = "") -> str:
        return told(
            "features.categorical=[{name: site, dim: 2,"
            f" pretrained: {{path: {path}{more}}}}}]"
        )

    field = "features.categorical.0.pretrained"
    assert f"{field}.path: no file 'a.parquet'" in given("a.parquet")
    table = pa.table({"site": ["a"], "vector": [[1.0, 2.0]]})
    pq.write_table(table, "a.parquet")
    assert given("a.parquet") == ""
    text = given("a.parquet", ", key: name")
    assert f"{field}: a.parquet: cannot be read: no column 'name'" in text
    np.save("a.npy", np.ones((4, 3)))
    text = given("a.npy", ", ids: a.txt")
    assert f"{field}.ids: no file 'a.txt'" in text
    Path("a.txt").write_text("a\n")
    text = given("a.npy", ", ids: a.txt")
    assert "vectors of 3 numbers; received dim: 2. Accepted: dim: 3" in text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.impressions.path=asd.csv", "path: no file matches 'asd.csv'"),
        ("data.impressions.path=[ads.csv, b*]", "path.1: no file matches 'b*'"),
        ("data.label=clik", "data.label: no column 'clik' (did you mean 'cl"),
        ("data.time=tsp", "data.time: no column 'tsp'"),
        ("data.split={by: hash, key: who}", "data.split.key: no column 'who'"),
        ("evaluate.slices=[[country]]", "evaluate.slices: no column 'country'"),
        ("root=ads.csv/x", "root: received 'ads.csv/x': "),
        ("push.to=/proc/models", "push.to: received '/proc/models': cannot"),
        ("transform.cache=ads.csv", "transform.cache: received 'ads.csv'"),
        ("train.warm_start=nowhere", "train.warm_start: no model in 'nowh"),
        ("push.sign=nowhere", "push.sign: no file 'nowhere'"),
        ("data.curated_schema=nowhere", "curated_schema: no file 'nowhere'"),
        ("data.curated_schema=ads.csv", "curated_schema: 'ads.csv' is no sch"),
        ("train.strategy=tpu", "train.strategy: there is no TPU"),
        ("train.strategy=multi_worker", "train.strategy: multi_worker needs"),
        ("model.hidden=[1000000000]", "model.hidden: its "),
        ("model.hidden=[1000000, 1000000]", "model.hidden: its 1e+12 weights"),
        ("features.categorical.site.dim=1000000000000", "memory"),
        (
            (
                "features.categorical.0={name: site, encode: hash,"
                " buckets: 1000000000000}"
            ),
            "features.categorical.0: its 1.6e+13 weights",
        ),
        ("features.crosses=[{of: [site, user], buckets: 1e18}]", "crosses.0"),
        ("model.name=nowhere:build", "but there is no module 'nowhere'"),
        ("model.name=models.my:build", "there is no module 'models.my'"),
        ("train.callbacks=[{name: 'nowhere:X'}]", "callbacks.0: received"),
        (
            "optimizer={name: 'nowhere:X', learning_rate: 0.1}",
            "optimizer.name: received 'nowhere:X', but there is no module",
        ),
    ],
)
def test_what_would_stop_a_run_is_told_before_it(
    home: Path, override: str, words: str
) -> None:
    assert words in told(override)


def test_weights_that_fit_pass(home: Path) -> None:
    big = "features.categorical.site={name: site, max_size: 1000000000000}"
    assert told(big) == ""  # that many values would have to be in the log


@pytest.mark.parametrize(
    ("field", "uri", "library"),
    [
        ("push.to", "http://host/models", "TensorFlow"),
        ("transform.cache", "nowhere://b/x", "TensorFlow"),
        ("train.warm_start", "nowhere://b/x", "TensorFlow"),
        ("data.impressions.path", "https://host/ads.csv", "Beam"),
        ("data.curated_schema", "https://host/schema.pbtxt", "Beam"),
    ],
)
def test_a_store_that_nothing_here_can_reach_is_told_before_a_run(
    home: Path, field: str, uri: str, library: str
) -> None:
    scheme = uri.partition(":")[0]
    assert (
        f"{field}: received {uri!r}: {library} has no file system for"
        f" {scheme}:// here."
    ) in told(f"{field}={uri}")


@pytest.mark.parametrize("kind", ["csv", "quoted", "parquet", "hive", "packed"])
def test_the_columns_of_a_file_are_found(home: Path, kind: str) -> None:
    log = "data.impressions="
    column = "features.numeric=[cost]"
    if kind == "csv":
        (home / "x.csv").write_bytes(b"\xef\xbb\xbf\r\nclick;site;user\r\n")
        log += "{path: x.csv, format: csv, header: true, delimiter: ;}"
    elif kind == "quoted":
        (home / "x.csv").write_text('"click","site, or page",user\n', "utf-8")
        log += "{path: x.csv, format: csv, header: true}"
    elif kind == "parquet":
        table = pa.table({"click": [1], "site": ["a"], "user": ["b"]})
        pq.write_table(table, home / "x.parquet")
        log += "{path: '*.parquet', format: parquet}"
    elif kind == "hive":
        (home / "site=a").mkdir()
        table = pa.table({"click": [1], "user": ["b"]})
        pq.write_table(table, home / "site=a" / "x.parquet")
        log += "{path: 'site=*/*.parquet', format: parquet}"
    else:
        text = "click,user\n1,b\n"
        (home / "x.csv").write_bytes(gzip.compress(text.encode()))
        log += "{path: x.csv, format: csv, header: true}"
    said = told(log, column)
    assert "features.numeric.0: no column 'cost'" in said
    assert ("no column 'site'" in said) == (kind in ("quoted", "packed"))
    assert "no column 'user'" not in said


def test_a_file_whose_name_is_a_glob_is_found(home: Path) -> None:
    (home / "d[1]").mkdir()
    (home / "ads.csv").rename(home / "d[1]" / "a[1].csv")
    for path in ("d[1]/a[1].csv", "d[1]/*.csv", "*/a*.csv", "d[1]"):
        assert told(f"data.impressions.path='{path}'") == ""
    assert "no file" in told("data.impressions.path=d[12]/*.csv")


def test_a_folder_stands_for_its_files(home: Path) -> None:
    (home / "logs" / "user=a").mkdir(parents=True)
    (home / "logs" / "_SUCCESS").touch()
    (home / "logs" / "user=a" / "part-0").write_text("click,site\n1,2\n")
    said = told("data.impressions.path=logs")
    assert said.count("no column") == 1
    assert "no column 'price' in logs/user=a/part-0" in said


def test_a_first_line_that_is_a_row_is_told_once(home: Path) -> None:
    (home / "rows.csv").write_text("0,a,7\n1,b,8\n")
    log = "{path: rows.csv, format: csv, header: true}"
    said = told(f"data.impressions={log}")
    assert re.match(r"ads\.yaml:?\d*: data\.impressions\.header: ", said) or (
        said.startswith("--set, ads.yaml: data.impressions.header: ")
    )
    assert "['0', 'a', '7']" in said
    assert "columns: [...]" in said
    assert said.count("\n") == 0


def test_column_of_the_weight_is_looked_for(home: Path) -> None:
    assert "data.weight.column: no column 'cost'" in told("data.weight=cost")
    said = told("data.weight={propensity: cost}")
    assert "data.weight.propensity: no column 'cost'" in said


def test_columns_that_are_there_are_listed_once(home: Path) -> None:
    said = told("features.numeric=[price, cost, coast]")
    assert said.count("no column") == 2
    assert said.count("Its columns:") == 1


def test_days_are_looked_for(home: Path) -> None:
    path = "data.impressions.path=d/{DATE}.csv"
    assert "no file matches" in told(path, "data.spans.last=1")
    (home / "d").mkdir()
    for day, header in (("01", "click,site"), ("02", ",".join(HEADER))):
        text = f"{header}\n1,2,3,a,b\n0,2,3,a,b\n"
        (home / "d" / f"2024-01-{day}.csv").write_text(text, "utf-8")
    assert told(path, "data.spans.last=1") == ""  # of the newest day


def test_own_code_is_called_as_it_can_be(home: Path) -> None:
    (home / "own_code.py").write_text(
        "class Stop:\n    def __init__(self, patience=1): raise OSError\n"
        "def build(layout, config, base_rate): raise OSError\n"
        "def two(layout, config): pass\nvalue = 3\n",
        "utf-8",
    )
    (home / "broken_code.py").write_text("1 / 0\n", "utf-8")
    good = "train.callbacks=[{name: 'own_code:Stop', patience: 2}]"
    assert told("model.name=own_code:build", good) == ""
    for override, words in {
        "train.callbacks=[{name: 'own_code:Stop', p: 2}]": "argument 'p'",
        "train.callbacks=[{name: 'own_code:Go'}]": "has no 'Go'",
        "model.name=own_code:two": "too many positional arguments",
        "model.name=own_code:value": "int cannot be called",
        "optimizer={name: 'own_code:two', learning_rate: 1}": "'layout'",
        "evaluate.metrics={'own_code:Go': {min: 0}}": "has no 'Go'",
        "evaluate.gates=[{name: 'own_code:build', least: 1}]": "'config'",
        "evaluate.gates=['own_cod:build']": "no module 'own_cod'",
        "model.name=broken_code:build": "ZeroDivisionError: division by",
    }.items():
        assert words in told(override)


def test_the_address_of_a_worker_must_be_free(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        content: dict[str, Any] = {
            "cluster": {"worker": [address, "other:1"]},
            "task": {"type": "worker", "index": 0},
        }
        monkeypatch.setenv("TF_CONFIG", json.dumps(content))
        assert f"the port of {address}" in told("train.strategy=multi_worker")
    for text in ("{", "[1]"):
        monkeypatch.setenv("TF_CONFIG", text)
        assert "TF_CONFIG is not" in told()


def test_check_says_that_all_is_well(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "ads.yaml"]) == 0
    assert capfd.readouterr().out == (
        "ads.yaml: no problem found. ads pushes to models/ads\n"
    )
    assert main(["check", "ads.yaml", "--set", "data.label=clik"]) == 2
    assert "data.label: no column 'clik'" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["check", "run"])
def test_mistakes_are_told_before_anything_slow_is_imported(
    home: Path, command: str
) -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        f"code = main(['{command}', 'ads.yaml', '--set', 'data.label=clik'])\n"
        "assert code == 2, code\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    summaries = list(home.rglob("summary.json"))
    if command == "run":
        (summary,) = summaries
        assert '"status": "input_error"' in summary.read_text("utf-8")
    else:
        assert not summaries


def zipped(data: bytes) -> bytes:
    """Without the time, which would change a test's name by the second."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("click,site\n0,a\n".encode("utf-16"), "this is UTF-16"),
        (b"click,site\r0,a\r1,b\r0,c\r", "lines end in \\r alone"),
        (b"PK\x03\x04" + bytes(range(200)), "this is a zip archive"),
        (b"\xfd7zXZ\x00" + bytes(range(200)), "this is xz"),
        (b"\x1f\x8b\x08\x00" + bytes(range(64)), "damaged gzip"),
        (zipped(b"click,site\n0,a\n" * 99)[:-9], "damaged gzip"),
        (zipped(zipped(b"click,site\n0,a\n")), "this is gzip"),
        ("click,sit\xe9\n0,a\n".encode("latin-1"), "header is not UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_told_before_a_run(
    home: Path, content: bytes, words: str
) -> None:
    (home / "x.csv").write_bytes(content)
    said = told("data.impressions={path: x.csv, format: csv, header: true}")
    assert "data.impressions.path: " in said and words in said
    assert "no column" not in said


def test_an_empty_file_beside_others_has_no_say(home: Path) -> None:
    (home / "0.csv").touch()
    (home / "1.csv").write_text("click,site,user\n0,a,b\n", "utf-8")
    paths = "path: ['0.csv', '1.csv']"
    log = f"data.impressions={{{paths}, format: csv, header: true}}"
    said = told(log, "features.numeric=[cost]")
    assert "no column 'cost' in 1.csv" in said and "0.csv" not in said


@pytest.mark.parametrize(
    "name",
    ["0.csv", "head.csv", "lines.csv", "0.csv.gz", "head.csv.gz", "0.jsonl",
     "lines.jsonl", "0.parquet", "0.avro", "0.tfrecord"],
)  # fmt: skip
def test_a_log_without_a_row_is_refused_as_a_run_refuses_it(
    home: Path, name: str
) -> None:
    form = name.removesuffix(".gz").partition(".")[2]
    types = {"click": pa.int64(), "site": pa.string(), "user": pa.string()}
    if form == "parquet":
        pq.write_table(pa.schema(types).empty_table(), name)
    elif form == "avro":
        fields = [{"name": n, "type": "string"} for n in types]
        schema = {"type": "record", "name": "log", "fields": fields}
        with Path(name).open("wb") as file:
            fastavro.writer(file, schema, [])
    else:
        text = {"h": ",".join(HEADER) + "\n", "l": "\r\n\r\n"}
        data = text.get(name[0], "").encode()
        packed = gzip.compress(data) if name.endswith(".gz") else data
        Path(name).write_bytes(packed)
    log = {"path": name, "format": form}
    if form == "csv":
        log["header"] = True
    settings = f"data.impressions={json.dumps(log)}"
    numeric = "features.numeric=[]"  # which TFRecords need not have
    assert told(settings, numeric).endswith(
        f"data.impressions.path: no rows in any file of {name}"
    )


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("x.csv", ["0", "0"], "data.label: all labels of 2 rows are 0"),
        ("x.csv.gz", ["1", "?"], "data.label: all labels of 2 rows are 1"),
        ("x.jsonl", ["1", "true"], "data.label: all labels of 2 rows are 1"),
        ("x.jsonl", ["null"], "data.label: no label in any of 1 rows; column"),
        ("x.csv", ["7", "8"], "data.label: no label in any of 2 rows; column"),
        ("x.csv", ["0"] * 5 + ["1"], ""),
        ("click=0/x.csv", ["0"], ""),  # other files may have the other class
    ],
)
def test_a_log_of_one_class_is_refused_as_a_run_refuses_it(
    home: Path, name: str, rows: list[str], words: str
) -> None:
    form = name.removesuffix(".gz").partition(".")[2]
    if form == "jsonl":
        lines = [f'{{"click": {row}, "site": "a"}}' for row in rows]
    else:
        lines = ["click,site", *(f"{row},a" for row in rows)]
    data = "".join(f"{line}\n" for line in lines).encode()
    path = home / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    log = {"path": name, "format": form}
    if form == "csv":
        log["header"] = True
    found = told(
        f"data.impressions={json.dumps(log)}",
        "features={categorical: [site]}",
    )
    assert words in found if words else found == ""


def test_a_log_of_clicks_may_be_empty(home: Path) -> None:
    (home / "clicks.jsonl").touch()
    clicks = "data.clicks={path: clicks.jsonl, format: jsonl, key: user}"
    assert told(clicks, "data.label=null", "data.time=ts") == ""


def test_a_gate_without_the_server_is_told_before_a_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "uvicorn" else find(name, *rest),
    )
    assert "serving_gate: the server is not installed: pip install" in told()
    assert told("serving_gate=off") == ""
