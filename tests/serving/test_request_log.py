"""Served requests are the next training log; Prometheus hears of them."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pipeline.cli import main
from serving.errors import ServingError
from serving.limits import LogOptions
from serving.metrics import ServingMetrics
from serving.request_log import RequestLog, Served, to_table
from tests.components.click_log_gen.ingest import convert_log
from tests.examples import example
from tests.serving.features import ROWS, SPEC, export_model

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana.json"
# As clients write them, and as the model reads them.
SENT = [{name: row[name] for name in SPEC} for row in ROWS]
SENT[1] |= {"c": True}
SENT[2] |= {"c": 4.0}
SENT[3] |= {"c": "True", "tags": "a|1.0"}
READ = [dict(row) for row in SENT]
READ[1] |= {"c": "1"}
READ[2] |= {"c": "4"}
READ[3] |= {"c": "1", "tags": "a|1"}
for _row in READ:
    if "|" in (_row["tags"] or ""):
        _row["tags"] = _row["tags"].split("|")


@dataclass
class Logged:
    """Output of a server that had answered the rows of SENT, in order.

    answers: its predictions. metrics: name -> {labels: value}, at the end.
    """

    version: Path
    folder: Path
    answers: list[float]
    metrics: dict[str, dict[tuple[str, ...], float]]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A server asked through every door, then stopped."""
    root = tmp_path_factory.mktemp("logged")
    reading = {"log": {"format": "parquet"}, "max_rejected": 0.0}
    version = export_model(root / "ads/7", reading=reading)
    command = [
        *(sys.executable, "-m", "pipeline.cli", "serve", str(root / "ads")),
        *("--port", "0", "--grpc-port", "0", "--share", "1"),
        *("--log-requests", str(root / "requests")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(150, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        banner = process.stdout.readline()
        url = re.search(r"http://[\d.]+:\d+", banner)
        assert url, banner
        answers = list(_ask(url[0], banner))
        assert not list((root / "requests").glob("*.parquet"))
        time.sleep(0.5)  # the monitor's look
        with urllib.request.urlopen(f"{url[0]}/metrics") as response:
            text = response.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        guard.cancel()
    metrics: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "model"}
            key = tuple(f"{k}={v}" for k, v in sorted(labels.items()))
            metrics.setdefault(sample.name, {})[key] = sample.value
    return Logged(version, root / "requests", answers, metrics)


def _ask(url: str, banner: str) -> Iterator[float]:
    def post(path: str, body: Any, name: str) -> Any:
        request = urllib.request.Request(
            url + path, json.dumps(body).encode(), {"X-Request-Id": name}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    predict = "/v1/models/ads:predict"
    for number, row in enumerate(SENT[:10]):
        answer = post(predict, {"instances": [row]}, f"r{number}")
        yield from answer["predictions"]
    answer = post(predict, {"instances": SENT[10:20]}, "many")
    yield from answer["predictions"]
    columns = {name: [row[name] for row in SENT[20:30]] for name in SPEC}
    columns["x"] = [float("nan") if v is None else v for v in columns["x"]]
    tensors = [
        {
            "name": name,
            "shape": [10],
            "datatype": {"x": "FP32", "n": "INT64"}.get(name, "BYTES"),
            "data": [_filled(name, v) for v in values],
        }
        for name, values in columns.items()
    ]
    answer = post("/v2/models/ads/infer", {"inputs": tensors, "id": "v2"}, "-")
    yield from answer["outputs"][0]["data"]
    texts = [
        {"b64": base64.b64encode(example(**row)).decode()}
        for row in SENT[30:40]
    ]
    body = {"signature_name": "examples", "instances": texts}
    yield from post(predict, body, "examples")["predictions"]
    answer = post(
        "/v1/models/ads:regress",
        {"examples": SENT[40:]},
        "regress",
    )
    yield from answer["results"]
    with pytest.raises(urllib.error.HTTPError):
        post(predict, {"instances": [{"x": "much"}]}, "bad")


def _filled(name: str, value: Any) -> Any:
    if value is not None:
        return value
    return {"x": None, "n": -1}.get(name, "")


def read(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("*.parquet")
    return pq.read_table(path).to_pylist()


def test_every_request_is_logged_as_the_model_read_it(logged: Logged) -> None:
    rows = read(logged.folder)
    assert [row["request_id"] for row in rows[:10]] == [
        f"r{number}" for number in range(10)
    ]
    ids = [(row["request_id"], row["row"]) for row in rows[10:]]
    names = ("many", "v2", "examples", "regress")
    assert ids == [(name, number) for name in names for number in range(10)]
    found = np.float32([row["served_ctr"] for row in rows])
    assert found.tobytes() == np.float32(logged.answers).tobytes()
    for row, sent in zip(rows, READ, strict=True):
        assert row["served_version"] == 7
        assert abs(row["served_at"].timestamp() - time.time()) < 300
        for name in ("x", "n"):
            assert row[name] == sent[name], row


def test_requests_and_later_clicks_are_a_training_log_without_skew(
    logged: Logged, tmp_path: Path
) -> None:
    rows = read(logged.folder)
    clicked = {("r1", 0), ("r3", 0), ("many", 4), ("examples", 9)}
    with (tmp_path / "clicks.jsonl").open("w") as file:
        for row in rows:
            if (row["request_id"], row["row"]) in clicked:
                entry = {k: row[k] for k in ("request_id", "row")}
                moment = row["served_at"].timestamp() + 60
                file.write(json.dumps({**entry, "served_at": moment}) + "\n")
        last = {"request_id": "nobody", "row": 0}
        file.write(json.dumps({**last, "served_at": moment + 7200}) + "\n")
    kinds = {"x": "float", "n": "int"}
    output = convert_log(
        tmp_path / "out",
        {"path": str(logged.folder), "format": "parquet"},
        {
            "request_id": ("string", None),
            "row": ("int", None),
            **{
                name: (
                    kinds.get(name, "string"),
                    "|" if name == "tags" else None,
                )
                for name in SPEC
            },
        },
        None,
        clicks={
            "path": str(tmp_path / "clicks.jsonl"),
            "format": "jsonl",
            "key": ["request_id", "row"],
        },
        time="served_at",
        max_rejected=0.0,
    )
    found = {(row["request_id"], row["row"]): row for row in output.kept}
    assert len(found) == len(rows) == 50
    assert {key for key, row in found.items() if row["label"]} == clicked
    keys = [(row["request_id"], row["row"]) for row in rows]
    for key, sent in zip(keys, READ, strict=True):
        example = {name: found[key][name] for name in SPEC}
        assert example == sent, key
    # The model says of the log what it said when it was asked.
    out = tmp_path / "scores"
    words = ["predict", str(logged.version), str(logged.folder)]
    words += ["--out", str(out), "--columns", "served_ctr"]
    assert main(words) == 0
    scores = pq.read_table(next(out.glob("*.parquet")))["ctr"].to_numpy()
    assert scores.tobytes() == np.float32(logged.answers).tobytes()


def test_prometheus_is_told_of_the_model_and_the_server(
    logged: Logged,
) -> None:
    found = logged.metrics
    labels = ("output=ctr", "version=7")
    rows = found["lionctr_predictions_total"][labels]
    assert rows == 50
    mean = found["lionctr_predictions_sum_total"][labels] / rows
    assert mean == pytest.approx(np.mean(logged.answers), rel=1e-6)
    looked = found["lionctr_feature_rows_total"]
    assert set(looked) == {(f"feature={name}",) for name in SPEC}
    assert 0 < looked[("feature=c",)] <= 50
    unknown = found["lionctr_feature_unknown_rows_total"]
    assert set(unknown) == {("feature=c",), ("feature=tags",)}
    assert found["lionctr_requests_total"][("code=400", "version=7")] == 1
    calls = found["lionctr_batch_rows_count"][("version=7",)]
    assert found["lionctr_compute_seconds_count"][("version=7",)] == calls
    assert found["lionctr_wait_seconds_count"][("version=7",)] == 14
    assert 0 < found["lionctr_version_age_seconds"][("version=7",)] < 600
    for name in ("versions_failed", "queued_rows", "running_calls"):
        assert found[f"lionctr_{name}"][()] == 0


def test_the_dashboard_asks_for_figures_that_there_are(logged: Logged) -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    queries = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    assert len(queries) > 10
    labels: dict[str, set[str]] = {}
    for name, samples in logged.metrics.items():
        labels[name] = {"model"} | {
            part.partition("=")[0] for key in samples for part in key
        }
    for query in queries:
        names = re.findall(r"\b(?:lionctr|process)_\w+", query)
        assert names, query
        for name in names:
            assert name in logged.metrics, f"{name} in {query}"
        known = set.union(*(labels[name] for name in names))
        for group in re.findall(r"by \(([^)]*)\)", query):
            wanted = {label.strip() for label in group.split(",")}
            assert wanted <= known, query
        assert query.count("(") == query.count(")"), query
    asked = {n for q in queries for n in re.findall(r"lionctr_\w+", q)}
    ours = {n for n in logged.metrics if n.startswith("lionctr_")}
    left = {n for n in ours - asked if not n.endswith(("_created", "_count"))}
    assert not {n for n in left if not n.endswith("_sum")}


class Version:
    """A loaded version, as far as the log asks."""

    version = 3
    inputs = {"serving_default": {"x": np.dtype(np.float32)}}
    aliases: dict[str, str] = {}
    lists: dict[str, str] = {}


def offer(log: RequestLog, rows: int = 1, name: str = "a") -> None:
    columns = {"x": np.ones(rows, np.float32)}
    outputs = {"ctr": np.ones(rows, np.float32)}
    log.offer(Version(), "serving_default", columns, outputs, lambda: name)


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float:
    labels = {"model": "m", **labels}
    return registry.get_sample_value(f"lionctr_{name}_total", labels) or 0.0


def log_to(folder: Path, **options: Any) -> tuple[RequestLog, Any]:
    registry = CollectorRegistry()
    metrics = ServingMetrics("m", registry)
    options = {"share": 1.0, **options}
    return RequestLog(LogOptions(folder, **options), metrics), registry


def test_a_full_queue_drops_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(served: Served) -> Any:
        go.wait(20)
        return to_table(served)

    monkeypatch.setattr("serving.request_log.to_table", slow)
    log, registry = log_to(tmp_path, waiting=10)
    began = time.monotonic()
    for _ in range(40):
        offer(log)
    assert time.monotonic() - began < 5  # nobody waits
    go.set()
    log.close()
    dropped = counted(registry, "log_dropped_rows", reason="queue")
    assert 29 <= dropped <= 30
    assert len(read(tmp_path)) == 40 - dropped
    assert counted(registry, "logged_rows") == 40 - dropped


def test_files_end_by_size_and_by_age(tmp_path: Path) -> None:
    log, _ = log_to(tmp_path / "size", file_bytes=1)
    for name in "abc":
        offer(log, 9000, name)
    log.close()
    assert len(list((tmp_path / "size").glob("requests-*.parquet"))) == 3
    log, _ = log_to(tmp_path / "age", file_seconds=0.3)
    offer(log)
    deadline = time.monotonic() + 20
    while not list((tmp_path / "age").glob("*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    offer(log)
    log.close()
    assert len(list((tmp_path / "age").glob("*.parquet"))) == 2
    assert not list(tmp_path.rglob(".requests-*"))


def test_a_disk_that_is_full_costs_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, registry = log_to(tmp_path)
    with monkeypatch.context() as patch:

        def full(*_: Any) -> Any:
            raise OSError(28, "No space left on device")

        patch.setattr(pq.ParquetWriter, "write_table", full)
        offer(log, 9000)
        deadline = time.monotonic() + 20
        while not counted(registry, "log_dropped_rows", reason="write"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    offer(log, 5)
    log.close()
    assert counted(registry, "log_dropped_rows", reason="write") == 9000
    assert len(read(tmp_path)) == 5
    assert not list(tmp_path.glob(".requests-*"))


def test_text_that_is_no_utf8_is_counted_and_left_out(tmp_path: Path) -> None:
    log, registry = log_to(tmp_path)
    columns = {"x": np.array([b"\xff"], object)}
    outputs = {"ctr": np.ones(1, np.float32)}
    log.offer(Version(), "serving_default", columns, outputs, lambda: "a")
    offer(log)
    log.close()
    assert counted(registry, "log_dropped_rows", reason="value") == 1
    assert len(read(tmp_path)) == 1


def test_a_share_is_logged(tmp_path: Path) -> None:
    log, _ = log_to(tmp_path, share=0.1)
    for _ in range(2000):
        offer(log)
    log.close()
    assert 120 < len(read(tmp_path)) < 290


def test_what_cannot_be_logged_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServingError, match="cannot be written"):
        log_to(tmp_path / "file")
    with pytest.raises(ServingError, match="above 0, to 1"):
        log_to(tmp_path, share=0.0)
