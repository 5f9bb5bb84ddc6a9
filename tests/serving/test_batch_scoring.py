"""`lionctr predict` from outside: every format, as the server answers."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from tests import forks
from tests.components.click_log_gen.ingest import FORMATS, log_of, write_log
from tests.serving.features import FEATURES, ROWS, SPEC, ctr, export_model
from tests.serving.tiny import RunningServer

TSV = {"format": "tsv", "header": True, "null_values": ["", "NA"]}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one version of `ads`."""
    folder = tmp_path_factory.mktemp("serving_models") / "ads/7"
    reading = {"log": TSV, "max_rejected": 0.01}
    return export_model(folder, export_id="e", reading=reading)


def tsv(rows: list[dict[str, Any]]) -> str:
    lines = ["\t".join(rows[0])]
    lines += [
        "\t".join("NA" if v is None else str(v) for v in row.values())
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def read(folder: Path) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(path) for path in sorted(folder.glob("*.parquet"))
    )


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_what_the_model_says(
    version: Path, tmp_path: Path, format: str
) -> None:
    log, config = tmp_path / "log", tmp_path / "ads.yaml"
    write_log(log, format, ROWS)
    reading = log_of("x", format)
    config.write_text(
        json.dumps(
            {
                "name": "ads",
                "data": {"impressions": reading, "label": "l"},
                "features": FEATURES,
            }
        )
    )
    arguments = ["--config", str(config), "--columns", "id"]
    out = tmp_path / "out"
    assert (
        main(["predict", str(version), str(log), "--out", str(out), *arguments])
        == 0
    )
    found = read(out).to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    for row, answer in zip(ROWS, found, strict=True):
        features = {name: row[name] for name in SPEC}
        assert answer["ctr"] == ctr(**features), row


@pytest.mark.parametrize(
    "format", ["csv", pytest.param("jsonl", marks=pytest.mark.ci)]
)
def test_a_history_comes_with_the_log(
    tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its column the log is refused, or a warning tells it."""
    sequence = {"from": "impressions", "of": "id", "items": "c", "name": "tags"}
    features = {
        "numeric": ["x"],
        "categorical": ["c", *FEATURES["categorical"][2:]],
        "sequences": [sequence],
    }
    reading = {"log": log_of("x", format), "max_rejected": 0.01}
    version = export_model(
        tmp_path / "ads/7",
        export_id="e",
        reading=reading,
        config={"features": features},
    )
    rows = [{**row, "n": 1} for row in ROWS]
    log, out = tmp_path / "log", tmp_path / "out"
    write_log(log, format, rows)
    assert main(["predict", str(version), str(log), "--out", str(out)]) == 0
    shutil.rmtree(out)
    for row in rows:
        del row["tags"]
    write_log(log, format, rows)
    capsys.readouterr()
    code = main(["predict", str(version), str(log), "--out", str(out)])
    told = capsys.readouterr()
    if format == "csv":
        assert code == 2
        assert "no column 'tags': a history, which ingest made" in told.err
        assert "Its columns: id, x, c, n" in told.err
        assert not out.exists()
    else:
        assert code == 0
        assert "column tags has no value in any row; a history" in (
            told.out + told.err
        )


def test_predictions_have_the_bits_of_the_server(
    version: Path, tmp_path: Path, server: RunningServer
) -> None:
    shutil.copytree(version, server.model_dir / ".new")
    (server.model_dir / ".pinned").write_text("7")
    (server.model_dir / ".new").rename(server.model_dir / "7")
    try:
        server.wait_for(lambda: server.states().get(7) == "AVAILABLE")
        rows = [{name: row[name] for name in SPEC} for row in ROWS]
        one_by_one = [
            server.predict({"instances": [row]})[1]["predictions"][0]
            for row in rows
        ]
        together = server.predict({"instances": rows})[1]["predictions"]
    finally:
        (server.model_dir / ".pinned").unlink()
        server.revoke(7)
    log, out = tmp_path / "log.tsv", tmp_path / "out"
    log.write_text(tsv(ROWS), "utf-8")
    # The folder of the versions, read as the version says.
    assert (
        main(["predict", str(version.parent), str(log), "--out", str(out)]) == 0
    )
    found = read(out)["ctr"].to_numpy()
    assert found.dtype == np.float32
    for answers in (one_by_one, together):
        assert found.tobytes() == np.float32(answers).tobytes()


def test_bad_rows_are_counted_and_too_many_leave_nothing(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log.tsv", tmp_path / "out"
    log.write_text(tsv(ROWS[:9]) + "r9\tmuch\tblue\ta\t1\nr10\t1\n", "utf-8")
    arguments = ["predict", str(version), str(log), "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "2 of 11 rows (18.18%) were rejected" in error
    assert f"{log}, byte" in error and "column x: not a number" in error
    assert not out.exists()
    (command,) = [w for w in error.splitlines() if "lionctr rejected" in w]
    assert main(["rejected", command.split()[-1]]) == 0
    assert "r9\\tmuch" in capsys.readouterr().out
    # More are accepted: what was scored is not scored again.
    part = next((tmp_path / ".out.unfinished").glob("*.parquet"))
    before = part.stat().st_mtime_ns
    more = ["--max-rejected", "0.5", "--json", "--format", "parquet"]
    assert main([*arguments, *more]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [summary[k] for k in ("read", "scored", "rejected")] == [11, 9, 2]
    assert (out / part.name).stat().st_mtime_ns == before
    assert read(out).num_rows == 9
    assert len(list((out / "rejected").glob("*.jsonl"))) == 1
    assert not (tmp_path / ".out.unfinished").exists()


def test_a_folder_of_something_else_is_kept(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log.tsv", tmp_path / "out"
    log.write_text(tsv(ROWS), "utf-8")
    arguments = ["predict", str(version), str(log), "--out", str(out)]
    assert main(arguments) == 0
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert main(arguments) == 0  # it is there already
    assert main([*arguments, "--columns", "id"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*")}


def test_csv_and_the_newest_day(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in (1, 2, 3):
        log = tmp_path / f"logs/2026-11-0{day}/a.tsv"
        log.parent.mkdir(parents=True)
        log.write_text(tsv(ROWS[day : day + 1]), "utf-8")
    logs = str(tmp_path / "logs/{DATE}/*.tsv")
    for options, days in (
        ([], [3]),
        (["--until", "2026-11-02"], [2]),
        (["--since", "2026-11-01", "--until", "2026-11-02"], [1, 2]),
    ):
        out = tmp_path / f"out{len(options)}"
        keep = ["--out", str(out), "--format", "csv", "--columns", "id,n"]
        assert main(["predict", str(version), logs, *keep, *options]) == 0
        lines = [p.read_text().splitlines() for p in sorted(out.glob("*.csv"))]
        assert {head for head, *_ in lines} == {'"id","n","ctr"'}
        found = [row.split(",")[0] for _, *rows in lines for row in rows]
        assert found == [f'"r{day}"' for day in days]
    assert (
        main(["predict", str(version), logs, "--out", "x", "--since", "3rd"])
        == 2
    )
    assert "--since: received '3rd'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ({"reading": None}, [], "Give --config CONFIG"),
        ({}, ["--columns", "id,ctr"], "received 'ctr'"),
        ({}, ["--columns", "nothing"], "nothing"),
        ({}, ["--max-rejected", "2"], "accepted: 0 to 1"),
        ({"config": {}}, [], "no `config.features`"),
    ],
)
def test_mistakes_are_told_and_end_with_2(
    version: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    arguments: list[str],
    said: str,
) -> None:
    from serving import manifest

    log, folder, out = tmp_path / "log.tsv", tmp_path / "7", tmp_path / "out"
    log.write_text(tsv(ROWS), "utf-8")
    shutil.copytree(version, folder)
    manifest.write(str(folder), {**manifest.about(str(folder)), **change})
    words = ["predict", str(folder), str(log), "--out", str(out), *arguments]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_killed_scoring_is_gone_on_with(
    version: Path, tmp_path: Path
) -> None:
    log, out = tmp_path / "log.tsv", tmp_path / "out"
    rows = [
        {**row, "id": f"{n}-{row['id']}"} for n in range(400) for row in ROWS
    ]
    log.write_text(tsv(rows), "utf-8")
    words = ["predict", str(version), str(log), "--out", str(out)]
    words += ["--columns", "id"]
    (tmp_path / "in_small_chunks.py").write_text(
        "import sys; from components.click_log_gen.files import chunks;"
        "chunks.CHUNK_BYTES = 4096; from pipeline.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["in_small_chunks", *words]
    shown = tmp_path / "shown.txt"
    process = forks.start(words, tmp_path, shown)
    work = tmp_path / ".out.unfinished"
    try:
        deadline = time.monotonic() + 200
        while len(list(work.glob(".counts-*.json"))) < 3:
            assert process.is_alive(), shown.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert not out.exists()
    finished = {path.name[8:13] for path in work.glob(".counts-*.json")}
    times = {
        path.name: path.stat().st_mtime_ns
        for path in work.glob("*.parquet")
        if path.name[12:17] in finished
    }
    assert len(times) >= 3
    process = forks.start(words, tmp_path, shown)
    process.join(200)
    assert process.exitcode == 0, shown.read_text()
    found = read(out)
    assert found["id"].to_pylist() == [row["id"] for row in rows]
    assert len(set(found["ctr"].to_pylist()[::50])) == 1
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    assert not work.exists()
