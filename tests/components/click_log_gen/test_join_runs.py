"""The join as a pipeline runs it: on Beam, with real artifacts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from components.click_log_gen.component import ClickLogGen
from components.click_log_gen.config.sections import DataConfig
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    SECONDS,
    Output,
    Row,
    convert_log,
    cut_into,
    log_of,
    read_output,
    write_log,
)
from tests.components.click_log_gen.join_truth import (
    COLUMNS,
    SPOILED,
    check,
    clicks_of,
    examples,
    join,
    logs,
    reasons,
)
from tests.components.click_log_gen.object_store import ObjectStore
from tests.components.click_log_gen.test_executor import (
    BEAM,
    execute,
    run_executor,
)


def run(folder: Path, data: Path, *options: str, **more: Any) -> Output:
    """The executor, on Beam."""
    with mock.patch(f"{execute.__module__}.BEAM", [*BEAM, *options]):
        return execute(
            folder,
            log_of(f"{data}/shown*.csv", "csv"),
            more.pop("split", {"by": "time", "eval": 0.2}),
            {"tag": "string", "price": "float"},
            label=more.pop("label", None),
            time=SECONDS,
            max_rejected=more.pop("max_rejected", 0.1),
            clicks=clicks_of(f"{data}/clicked*.csv", **more),
        )


def write_both(folder: Path, shown: list[Row], clicked: list[Row]) -> None:
    for name, rows in (("shown", shown), ("clicked", clicked)):
        for number in range(3):
            path = folder / f"{name}{number}.csv"
            write_log(path, "csv", rows[number::3])


def test_on_beam_with_any_number_of_workers(tmp_path: Path) -> None:
    shown, clicked = logs(300)
    write_both(tmp_path, shown, clicked)
    outputs = []
    for workers, partitions, chunk in ((1, 1, 10**6), (3, 7, 900)):
        with cut_into(chunk, chunk // 2):
            outputs.append(
                run(
                    tmp_path / f"out{workers}",
                    tmp_path,
                    f"--direct_num_workers={workers}",
                    "--direct_running_mode=multi_threading",
                    partitions=partitions,
                )
            )
    truth = join(shown, clicked)
    for output in outputs:
        check(output, truth)
        assert not (output.folder / "rejected" / "work").exists()
    one, other = ([sorted(map(str, o.eval)) for o in outputs],) * 2
    assert one[0] == other[1]
    assert len(one[0]) == round(0.2 * len(truth.kept))
    assert outputs[0].counts["positives"] == outputs[1].counts["positives"]
    names = [path for path in outputs[1].files() if "join-" in path]
    assert len(names) == 7


def test_the_same_logs_give_the_same_bytes(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    files = [
        run(tmp_path / name, tmp_path, partitions=2).files() for name in "ab"
    ]
    assert files[0] == files[1]


def test_nothing_temporary_is_left_after_a_failure(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    data = gzip.compress((tmp_path / "clicked1.csv").read_bytes())
    (tmp_path / "clicked1.csv").write_bytes(data[:-9])
    with pytest.raises(InputError, match=r"clicked1\.csv: damaged gzip"):
        run(tmp_path / "out", tmp_path)
    left = [path.name for path in (tmp_path / "out").rglob("*rows-*")]
    assert left == []
    assert not (tmp_path / "out" / "rejected" / "work").exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_logs_and_artifacts_may_be_in_an_object_store(
    tmp_path: Path, damaged: bool
) -> None:
    shown, clicked = logs(200)
    write_both(tmp_path, shown, clicked)
    ObjectStore.files.clear()
    for path in tmp_path.glob("*.csv"):
        ObjectStore.files[f"memory://logs/{path.name}"] = path.read_bytes()
    if damaged:
        data = gzip.compress((tmp_path / "clicked1.csv").read_bytes())
        ObjectStore.files["memory://logs/clicked1.csv"] = data[:-9]
    log = log_of("memory://logs/shown*", "csv")
    clicks = clicks_of("memory://logs/clicked*", partitions=3)
    config = {
        "impressions": log,
        "clicks": clicks,
        "time": SECONDS,
        "split": {"by": "time", "eval": 0.2},
        "max_rejected": 0.1,
    }
    component = ClickLogGen(
        DataConfig.model_validate(config),
        {"tag": "string", "price": "float"},
        {},
    )
    try:
        run_executor(component, "memory://out", tmp_path)
    except InputError as error:
        assert damaged, error
    names = [n for n in ObjectStore.files if n.startswith("memory://out/")]
    assert not any("work" in name for name in names)
    if damaged:
        return
    ObjectStore.save("memory://out/", tmp_path / "out")
    path = tmp_path / "out/rejected/counts.json"
    output = read_output(tmp_path / "out", json.loads(path.read_text()))
    truth = join(shown, clicked)
    assert examples(output) == sorted([r[:4] for r in truth.kept], key=str)
    assert reasons(output) == truth.rejected


def test_a_label_may_be_a_rule_on_the_click(tmp_path: Path) -> None:
    shown, clicked = logs(90)
    write_both(tmp_path, shown, clicked)
    rule = {"column": "dwell", "at_least": 30}
    output = run(tmp_path / "out", tmp_path, label=rule, max_rejected=1.0)
    truth = join(shown, clicked)
    wanted = [(row[0], int((row[3] or 0) >= 30)) for row in truth.kept]
    # A click that has no label leaves its impression without one.
    unknown = {row[0] for row in truth.kept if row[2] and row[3] is None}
    assert len(unknown) > 3
    assert sorted((row["tag"], row["label"]) for row in output.kept) == [
        pair for pair in sorted(wanted) if pair[0] not in unknown
    ]
    assert output.counts["reasons"][SPOILED] == len(unknown)
    missing = sum(row["dwell"] is None for row in clicked)
    assert output.counts["clicks"]["rejected"] == missing


@pytest.mark.parametrize("data", ["", "id,t,dwell\n", "\n"])
def test_a_click_log_without_a_click_gives_zeros(
    tmp_path: Path, data: str
) -> None:
    write_log(tmp_path / "shown.csv", "csv", logs(50)[0][:50])
    (tmp_path / "clicked.csv").write_text(data)
    output = convert_log(
        tmp_path / "zeros",
        log_of(tmp_path / "shown.csv", "csv"),
        COLUMNS,
        None,
        time=SECONDS,
        clicks=clicks_of(tmp_path / "clicked.csv"),
    )
    assert [row["label"] for row in output.kept] == [0] * 40
    assert output.counts["held_back"] == 10
    assert output.counts["clicks"]["read"] == 0
    # Which no model can learn from.
    with pytest.raises(InputError) as error:
        run(tmp_path / "out", tmp_path)
    assert str(error.value).startswith(
        "The train split has no positive: by a click in data.clicks.window"
        " all of its "
    )
    assert "(10 held back); clicks: none. Times: train 1970-" in str(
        error.value
    )


def test_clicks_that_meet_no_impression_at_all_stop_the_run(
    tmp_path: Path,
) -> None:
    shown, clicked = logs(50)
    write_both(tmp_path, shown, [row | {"id": "?"} for row in clicked])
    with pytest.raises(InputError) as error:
        run(tmp_path / "out", tmp_path)
    assert "none of the" in str(error.value)
    assert "data.clicks.key (id)" in str(error.value)


def test_bad_clicks_count_against_max_rejected_and_late_ones_do_not(
    tmp_path: Path,
) -> None:
    shown = logs(50)[0][:50]
    late = [{"id": f"i{i}", "t": i + 11, "dwell": 1} for i in range(40)]
    good = [{"id": f"i{i}", "t": i + 1, "dwell": 1} for i in range(9)]
    write_both(tmp_path, shown, late + good)
    output = run(tmp_path / "good", tmp_path, max_rejected=0.0)
    assert output.counts["clicks"]["late"] == 40
    write_both(tmp_path, shown, late[:38] + [late[0] | {"t": None}] * 2)
    with pytest.raises(InputError) as error:
        run(tmp_path / "bad", tmp_path, max_rejected=0.04)
    assert "2 of 40 clicks (5.00%) were rejected" in str(error.value)
    assert "2 x column t: no time; first at" in str(error.value)
    assert "window" not in str(error.value)


@pytest.mark.parametrize("field", ["shown", "clicked"])
def test_a_key_column_that_is_not_there_is_named(
    tmp_path: Path, field: str
) -> None:
    write_both(tmp_path, *logs(30))
    data = (tmp_path / f"{field}2.csv").read_text().replace("id,", "key,")
    (tmp_path / f"{field}2.csv").write_text(data)
    with pytest.raises(InputError) as error:
        run(tmp_path / "out", tmp_path)
    assert f"{field}2.csv: no column 'id'. Its columns: key" in str(error.value)


def test_a_missing_click_log_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "shown.csv", "csv", logs(3)[0])
    with pytest.raises(InputError, match=r"data\.clicks\.path: no file"):
        run(tmp_path / "out", tmp_path)


def test_json_of_the_counts_is_complete(tmp_path: Path) -> None:
    write_both(tmp_path, *logs(60))
    output = run(tmp_path / "out", tmp_path)
    path = output.folder / "rejected" / "counts.json"
    assert json.loads(path.read_text()) == output.counts
    assert output.counts["duplicates"] == 3
