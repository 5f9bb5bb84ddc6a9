"""The component's executor, on Beam and with real artifacts."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts
from tfx.types.experimental.simple_artifacts import Dataset

from components.click_log_gen.component import ClickLogGen
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.executor import Executor
from models.errors import InputError
from tests.components.click_log_gen.ingest import (
    FORMATS,
    Output,
    Row,
    check_place,
    convert_log,
    cut_into,
    log_of,
    read_output,
    write_log,
)

COLUMNS = {"price": "float", "site": "string", "slot": "int", "tags": "string"}
TAGS = {"tags": "|"}
BEAM = [
    "--runner=FnApiRunner",
    # Any image: without one TFX packs itself for remote workers, which takes
    # seconds a run and leaves 44 MB in /tmp. Workers in process need neither.
    "--sdk_container_image=none",
]


def execute(
    folder: Path,
    impressions: Row,
    split: Row | None = None,
    columns: dict[str, str] = COLUMNS,
    **data: Any,
) -> Output:
    """Runs the component as a pipeline's launcher would."""
    config = DataConfig.model_validate(
        {
            "impressions": impressions,
            "label": "click",
            "split": split or {"by": "hash", "eval": 0.3},
            **data,
        }
    )
    component = ClickLogGen(config, columns, TAGS)
    examples = run_executor(component, str(folder), folder)
    assert json.loads(examples.split_names) == ["train", "eval"]
    counts = json.loads((folder / "rejected" / "counts.json").read_text())
    for name in ("read", "kept", "rejected", "train", "eval"):
        assert examples.get_int_custom_property(name) == counts[name]
    return read_output(folder, counts)


def run_executor(component: ClickLogGen, home: str, tmp: Path) -> Any:
    """Runs the executor with artifacts below `home`; returns the examples."""
    examples, rejected = standard_artifacts.Examples(), Dataset()
    examples.uri = f"{home}/examples"
    rejected.uri = f"{home}/rejected"
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=BEAM, tmp_dir=str(tmp / "tmp"), unique_id="1"
    )
    Executor(context).Do(
        {},
        {"examples": [examples], "rejected": [rejected]},
        dict(component.exec_properties),
    )
    return examples


def rows_of(count: int, seed: int = 0) -> list[Row]:
    random_ = random.Random(seed)
    return [
        {
            "click": random_.choice([0, 0, 0, 1]),
            "price": random_.choice([None, 0.5, 1.25, -3.0]),
            "site": random_.choice(["a", "é", None, "x y"]),
            "slot": random_.choice([None, 1, 7, 10**12]),
            "tags": random_.choice([None, "a", "a|b"]),
            "t": 1_600_000_000 + number,
        }
        for number in range(count)
    ]


def wanted(rows: list[Row]) -> list[str]:
    """The examples of `rows`, in an order of their own; lists are lists."""
    named = [
        {
            ("label" if k == "click" else k): v.split("|")
            if k == "tags" and v and "|" in v
            else v
            for k, v in row.items()
            if k != "t"
        }
        for row in rows
    ]
    return in_order(named)


def in_order(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_plain_and_gzip_in_one_file_a_list_and_a_glob(
    tmp_path: Path, format: str, zipped: bool
) -> None:
    if zipped and format == "parquet":
        pytest.skip("parquet compresses inside")
    rows = rows_of(90)
    end = f"{format}.gz" if zipped else format
    paths = [
        write_log(tmp_path / "logs" / f"{i}.{end}", format, rows[a : a + 30])
        for i, a in enumerate((0, 30, 60))
    ]
    one = write_log(tmp_path / f"one.{end}", format, rows)
    kinds = {name: (kind, TAGS.get(name)) for name, kind in COLUMNS.items()}
    with cut_into(800, 200):
        outputs = [
            execute(
                tmp_path / "beam", log_of(f"{tmp_path}/logs/*.{end}", format)
            ),
            *(
                convert_log(
                    tmp_path / f"out{i}",
                    log_of(path, format),
                    kinds,
                    split_by={"by": "hash", "eval": 0.3},
                )
                for i, path in enumerate((one, [str(p) for p in paths]))
            ),
        ]
    assert outputs[0].counts["positives"] == {
        "train": sum(row["label"] for row in outputs[0].train),
        "eval": sum(row["label"] for row in outputs[0].eval),
    }
    for output in outputs:
        assert in_order(output.kept) == wanted(rows)
        assert in_order(output.eval) == in_order(outputs[0].eval)
        assert output.rejected == []


@pytest.mark.parametrize(
    "split",
    [
        {"by": "time", "eval": 0.2},
        {"by": "order", "eval": 0.2},
        {"by": "hash", "eval": 0.3, "key": "site"},
    ],
)
def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, split: Row
) -> None:
    rows = [row | {"site": row["site"] or "none"} for row in rows_of(60)]
    rows[7]["click"] = 9
    write_log(tmp_path / "log.csv", "csv", rows)
    log = log_of(tmp_path / "log.csv", "csv")
    options = {"split": split, "time": "t", "max_rejected": 0.5}
    with cut_into(700, 100):
        one = execute(tmp_path / "one", log, **options)
        two = execute(tmp_path / "two", log, **options)
    assert one.files() == two.files()
    assert len(one.files()) > 5
    if split["by"] != "hash":
        assert len(one.eval) == 12
        times = {row["t"] for row in rows[-12:]}
        assert len(times) == 12


def dirty_log(folder: Path) -> Path:
    good = [f"{i % 2},{i},s,1,a,{i}" for i in range(40)]
    bad = {
        3: "0,x,s,1,a,3",
        5: "0,1,s,1",
        11: "7,1,s,1,a,11",
        12: "0,x,s,1,a,12",
        30: ",1,s,1,a,30",
    }
    lines = [bad.get(i, line) for i, line in enumerate(good)]
    path = folder / "log.csv"
    path.write_text("\n".join(["click,price,site,slot,tags,t", *lines]))
    return path


def test_rejected_rows_are_counted_explained_and_kept(tmp_path: Path) -> None:
    path = dirty_log(tmp_path)
    with cut_into(100, 40):
        output = execute(tmp_path, log_of(path, "csv"), max_rejected=0.2)
    assert output.counts["read"] == 40
    assert output.counts["kept"] == 35 == len(output.kept)
    assert output.counts["rejected"] == 5 == len(output.rejected)
    assert output.counts["reasons"] == {
        "column price: not a number": 2,
        "4 columns instead of 6": 1,
        "column click: the label is neither 0 nor 1": 1,
        "column click: no label": 1,
    }
    assert next(iter(output.counts["reasons"])) == "column price: not a number"
    assert output.counts["examples"]["4 columns instead of 6"] == {
        "file": str(path),
        "where": f"byte {path.read_text().index('0,1,s,1' + chr(10))}",
        "row": "0,1,s,1",
    }
    for row in output.rejected:
        check_place(row)


def test_too_many_rejected_rows_stop_with_the_commonest_reasons(
    tmp_path: Path,
) -> None:
    path = dirty_log(tmp_path)
    with pytest.raises(InputError) as error:
        execute(tmp_path, log_of(path, "csv"), max_rejected=0.12)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "5 of 40 rows (12.50%) were rejected; data.max_rejected accepts"
        " 12.00%. The commonest reasons:"
    )
    assert lines[1] == (
        f"  2 x column price: not a number; first at {path}, byte"
        f" {path.read_text().index('0,x,s')}: 0,x,s,1,a,3"
    )
    # TFX removes what a failed component wrote; they are kept beside it.
    kept = Path(f"{tmp_path}/rejected-refused")
    assert lines[5:] == [f"Rejected rows: lionctr rejected {kept}"]
    assert error.value.rejected == str(kept)
    assert json.loads((kept / "counts.json").read_text())["rejected"] == 5
    rows = "".join(p.read_text() for p in kept.glob("rejected-*.jsonl"))
    assert len(rows.splitlines()) == 5
    # Exactly as many as accepted are accepted.
    execute(tmp_path / "again", log_of(path, "csv"), max_rejected=0.125)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no file matches '.*/logs/\*'"),
        ({"a": ""}, "every file is empty"),
        ({"a": "", "b": "click,price,site,slot,tags\n"}, "no rows in any file"),
        ({"a": "click,price,site,slot,tags\n0,1,s,1,t\n"}, "split is empty"),
        (
            {"a": "click,price,site,slot,tags\n0,1,s,1,t\n", "b": "click\n1\n"},
            r"logs/b: no column 'price'\. Its columns: click",
        ),
    ],
)
def test_logs_that_hold_too_little_are_an_error(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    (tmp_path / "logs").mkdir()
    for name, text in files.items():
        (tmp_path / "logs" / name).write_text(text)
    log = log_of(f"{tmp_path}/logs/*", "csv")
    with pytest.raises(InputError, match=message) as error:
        execute(tmp_path, log)
    assert "while running" not in str(error.value)


def test_an_empty_split_names_the_rows_that_were_left_out(
    tmp_path: Path,
) -> None:
    path = write_log(tmp_path / "log.csv", "csv", rows_of(40))
    split = {"by": "time", "eval": 0.2, "gap": "1h"}
    with pytest.raises(InputError) as error:
        execute(tmp_path, log_of(path, "csv"), split, time="t")
    assert str(error.value).startswith(
        "The train split is empty: 8 rows (32 left out by data.split.gap),"
    )


def test_an_empty_split_names_the_negatives_that_were_left_out(
    tmp_path: Path,
) -> None:
    rows = [row | {"click": 0} for row in rows_of(40)]
    path = write_log(tmp_path / "log.csv", "csv", rows)
    with pytest.raises(
        InputError, match=r"left out by data\.negatives\), split"
    ):
        execute(tmp_path, log_of(path, "csv"), negatives={"keep": 1e-9})


@pytest.mark.parametrize("format", ["jsonl", "tfrecord"])
def test_a_column_that_no_row_has_is_an_error(
    tmp_path: Path, format: str
) -> None:
    rows = [
        {k: v for k, v in row.items() if k not in ("slot", "tags")}
        for row in rows_of(40)
    ]
    path = write_log(tmp_path / "log", format, rows)
    with cut_into(300, 100), pytest.raises(InputError) as error:
        execute(tmp_path, log_of(path, format))
    assert str(error.value) == f"{path}: no row has a value for slot, tags"


def test_a_damaged_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    rows = rows_of(300)
    good = write_log(tmp_path / "1.csv", "csv", rows).read_bytes()
    (tmp_path / "2.csv").write_bytes(gzip.compress(good)[:-20])
    with pytest.raises(InputError) as error:
        execute(tmp_path, log_of(f"{tmp_path}/*.csv", "csv"))
    assert str(error.value).startswith(f"{tmp_path}/2.csv: damaged gzip (")
    assert "take it out of the log's `path`" in str(error.value)


SHARED = Path(__file__).parents[4] / "shared" / "data"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data")
CRITEO = [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]


def positives(output: Output) -> float:
    return sum(output.column("label")) / len(output.kept)


@shared
def test_criteo(tmp_path: Path) -> None:
    path = SHARED / "criteo_kaggle_10k.tsv"
    log = log_of(path, "tsv", columns=["label", *CRITEO])
    columns = {name: "float" if name[0] == "I" else "string" for name in CRITEO}
    split = {"by": "order", "eval": 0.1}
    output = execute(tmp_path, log, split, columns, label="label")
    truth = pd.read_csv(
        path,
        sep="\t",
        names=["label", *CRITEO],
        dtype=dict.fromkeys(CRITEO, str),
    )
    found = pd.DataFrame(output.kept)[["label", *CRITEO]]
    for name in CRITEO[:13]:
        truth[name] = truth[name].astype(float)
    pd.testing.assert_frame_equal(
        found.fillna("-"), truth.fillna("-"), check_dtype=False
    )
    assert (len(output.train), len(output.eval)) == (9000, 1000)
    assert output.counts["rejected"] == 0
    assert positives(output) == pytest.approx(0.218, abs=5e-4)


@shared
def test_open_bandit(tmp_path: Path) -> None:
    path = SHARED / "obd_random_all.csv"
    columns = {"propensity_score": "float", "item_id": "string"}
    split = {"by": "time", "eval": 0.2}
    log = log_of(path, "csv")
    output = execute(tmp_path, log, split, columns, time="timestamp")
    truth = pd.read_csv(path)
    assert len(output.kept) == len(truth) == 10_000
    assert output.column("item_id") == truth["item_id"].astype(str).tolist()
    assert output.column("label") == truth["click"].tolist()
    border = truth["timestamp"].sort_values().iloc[8000]
    assert len(output.eval) == (truth["timestamp"] >= border).sum()
    assert positives(output) == pytest.approx(0.0038, abs=5e-5)


@shared
def test_movielens(tmp_path: Path) -> None:
    path = SHARED / "ml-100k.inter"
    names = ["user_id", "item_id", "rating", "timestamp"]
    log = log_of(path, "tsv", columns=names, header=True)
    columns = {"user_id": "string", "item_id": "string"}
    with cut_into(300_000, 100_000):
        output = execute(
            tmp_path,
            log,
            {"by": "time", "eval": 0.1},
            columns,
            label={"column": "rating", "at_least": 4},
            time="timestamp",
        )
    truth = pd.read_csv(path, sep="\t", names=names, skiprows=1)
    assert len(output.kept) == 100_000
    assert positives(output) == pytest.approx(0.554, abs=5e-4)
    border = truth["timestamp"].sort_values().iloc[90_000]
    late = truth[truth["timestamp"] >= border]
    assert [row["user_id"] for row in output.eval] == late["user_id"].astype(
        str
    ).tolist()


def test_a_window_of_days_with_a_test_split(tmp_path: Path) -> None:
    rows = rows_of(40)
    for day in range(4):
        log = tmp_path / f"2024-01-{day + 1:02}" / "log.csv"
        write_log(log, "csv", rows[10 * day :][:10])
    config = DataConfig.model_validate(
        {
            "impressions": log_of(f"{tmp_path}/{{DATE}}/*.csv", "csv"),
            "label": "click",
            "time": "t",
            "split": {"by": "time", "eval": 0.1, "test": 0.2},
            "spans": {"last": 2, "until": "2024-01-03"},
        }
    )
    component = ClickLogGen(config, COLUMNS, TAGS)
    examples = run_executor(component, str(tmp_path / "out"), tmp_path)
    assert json.loads(examples.split_names) == ["train", "eval", "test"]
    assert examples.span == 19725  # 2024-01-03 in days since 1970
    assert examples.get_int_custom_property("first_span") == 19724
    output = read_output(tmp_path / "out", {})
    found = [in_order(part) for part in (output.train, output.test)]
    assert found == [wanted(rows[10:24]), wanted(rows[26:30])]
