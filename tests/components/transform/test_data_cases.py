"""Odd logs through ingest and Transform: right, or a clear error before."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.transform.executor import Executor
from models.config.training import Features
from models.errors import InputError
from pipeline.config import ConfigError, load
from tests.components.click_log_gen.ingest import (
    Output,
    Row,
    convert_log,
    log_of,
)
from tests.components.transform.runs import read, run

FIRST = {"by": "order", "eval": 0.25}
FEATURES = {
    "numeric": ["price", {"name": "age", "transform": "buckets", "buckets": 4}],
    "categorical": [
        {"name": "site", "min_count": 1},
        {"name": "slot", "encode": "identity", "buckets": 10},
        {"name": "tags", "list": "|", "min_count": 1},
    ],
}
_KINDS = {"float": tf.float32, "int": tf.int64, "string": tf.string}


def rows_of(count: int) -> list[Row]:
    return [
        {
            "click": i % 2,
            "price": i / 4,
            "age": i % 7,
            "site": f"s{i % 3}",
            "slot": i % 10,
            "tags": "a|b" if i % 2 else "c",
        }
        for i in range(count)
    ]


def csv_of(rows: Sequence[Row]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def ingest(
    folder: Path,
    data: bytes,
    features: Mapping[str, Any] = FEATURES,
    format: str = "csv",
    **more: Any,
) -> Output:
    """Examples that ClickLogGen makes of one file."""
    path = folder / "log"
    path.write_bytes(data)
    known = Features.model_validate(features)
    separators = {f.name: f.list for f in known.categorical}
    columns = {n: (k, separators.get(n)) for n, k in known.kinds().items()}
    more.setdefault("split_by", FIRST)
    return convert_log(folder / "out", log_of(path, format), columns, **more)


def transform(
    folder: Path, output: Output, features: Mapping[str, Any] = FEATURES
) -> dict[str, list[Row]]:
    """The transformed rows of each split; numbers are finite, ids in range."""
    kinds = Features.model_validate(features).kinds()
    spec = {n: tf.io.VarLenFeature(_KINDS[k]) for n, k in kinds.items()}
    spec["label"] = tf.io.VarLenFeature(tf.int64)
    files = {s: {"data": getattr(output, s)} for s in ("train", "eval")}
    graph = run(Executor, folder / "transform", files, spec, features)
    found = {split: read(folder / "transform", split, graph) for split in files}
    for split, rows in found.items():
        assert len(rows) == len(getattr(output, split))
        for row in rows:
            assert np.isfinite(row.get("dense", 0)).all()
            assert (row.get("ids", np.zeros(1)) >= 0).all()
    return found


def both(
    folder: Path, rows: Sequence[Row], features: Mapping[str, Any] = FEATURES
) -> list[Row]:
    """The transformed rows of a csv, none of them rejected."""
    output = ingest(folder, csv_of(rows), features)
    assert output.rejected == []
    found = transform(folder, output, features)
    return found["train"] + found["eval"]


def test_two_rows_are_enough(tmp_path: Path) -> None:
    output = ingest(
        tmp_path, csv_of(rows_of(2)), split_by={"by": "order", "eval": 0.5}
    )
    found = transform(tmp_path, output)
    assert [len(rows) for rows in found.values()] == [1, 1]
    assert found["eval"][0]["label"] == 1


def test_constant_features_tell_nothing(tmp_path: Path) -> None:
    rows = [
        row | {"price": 3.5, "age": 3, "site": "x", "slot": 4, "tags": "t"}
        for row in rows_of(40)
    ]
    found = both(tmp_path, rows)
    assert {float(row["dense"][0]) for row in found} == {0.0}
    assert len({tuple(row["ids"]) for row in found}) == 1
    assert len({tuple(row["list_tags"]) for row in found}) == 1


@pytest.mark.parametrize(
    "all_rows", [pytest.param(True, marks=pytest.mark.ci), False]
)
def test_missing_features_are_missing(tmp_path: Path, all_rows: bool) -> None:
    gap = dict.fromkeys(("price", "age", "site", "slot", "tags"), "")
    rows = [
        row | (gap if all_rows or i % 4 == 0 else {})
        for i, row in enumerate(rows_of(40))
    ]
    found = both(tmp_path, rows)
    for row in found if all_rows else found[::4]:
        assert row["ids"].tolist() == [0, 0, 0]
        assert len(row["list_tags"]) == 0
    if not all_rows:
        assert all((row["ids"] > 0).all() for row in found[1::4])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("price", "n/a", "column price: not a number"),
        ("price", "1e309", "column price: not a finite number"),
        ("price", "-1e39", "column price: not a finite number"),
        ("slot", str(2**63), "column slot: not an integer of 64 bits"),
        ("slot", "1.5", "column slot: not an integer of 64 bits"),
        ("click", "2", "column click: the label is neither 0 nor 1"),
        ("click", "", "column click: no label"),
    ],
)
def test_one_bad_row_in_a_hundred_is_rejected_alone(
    tmp_path: Path, column: str, value: str, reason: str
) -> None:
    rows = rows_of(200)
    for row in rows[50::100]:
        row[column] = value
    output = ingest(tmp_path, csv_of(rows))
    assert output.reasons == [reason] * 2
    assert output.counts["rejected"] == 2
    del rows[50], rows[149]
    prices = [row["price"] for row in rows]
    assert output.column("price") == [float(np.float32(p)) for p in prices]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_numbers_past_the_doubles_and_the_integers(
    tmp_path: Path, format: str
) -> None:
    rows = rows_of(6)
    texts = ["1e309", str(2**63), str(-(2**63)), str(2**64), "1e-400", "0"]
    data = csv_of(
        [
            row | {"site": t, "price": 0}
            for row, t in zip(rows, texts, strict=False)
        ]
    )
    if format == "jsonl":
        data = b"".join(
            b'{"click": 1, "price": %s, "site": %s}\n'
            % (text.encode(), text.encode())
            for text in texts
        )
    features = {
        "numeric": [{"name": "price", "transform": "none"}],
        "categorical": [{"name": "site", "min_count": 1}],
    }
    output = ingest(tmp_path, data, features, format)
    sites = output.column("site")
    assert sites[-4:-1] == (
        [str(-(2**63)), str(2**64), "0"]
        if format == "jsonl"
        else [str(-(2**63)), str(2**64), "1e-400"]
    )
    if format == "jsonl":
        assert output.reasons == ["column price: not a finite number"]
        wanted = [float(np.float32(v)) for v in (2**63, -(2**63), 2**64, 0, 0)]
        assert output.column("price") == wanted


def test_line_ends_and_a_byte_order_mark_change_nothing(
    tmp_path: Path,
) -> None:
    plain = csv_of(rows_of(40))
    dos = b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")
    found = []
    for name, data in (("plain", plain), ("dos", dos)):
        folder = tmp_path / name
        folder.mkdir()
        output = ingest(folder, data)
        assert output.rejected == []
        found.append(output.kept)
    assert found[0] == found[1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_an_error(tmp_path: Path, encoding: str) -> None:
    data = csv_of(rows_of(40)).decode().encode(encoding)
    with pytest.raises(InputError, match=r"log: this is UTF-(16|32)"):
        ingest(tmp_path, data)


def test_a_nul_is_text_in_text_and_no_number(tmp_path: Path) -> None:
    rows = rows_of(8)
    rows[1]["site"] = "a\0b"
    rows[2]["price"] = "1\0"
    output = ingest(tmp_path, csv_of(rows))
    assert output.reasons == ["column price: not a number"]
    assert output.column("site")[1] == "a\0b"


def test_lists_of_ten_thousand_values(tmp_path: Path) -> None:
    rows = rows_of(8)
    rows[3]["tags"] = "|".join(f"t{i}" for i in range(10_000))
    found = both(tmp_path, rows)
    assert len(found[3]["list_tags"]) == 10_000
    assert len(set(found[3]["list_tags"])) == 10_000


ODD = {
    "numeric": ["ids", "labels", "list_x", "0"],
    "categorical": ["dense", "ctr", "a.b", "click_"],
    "lists": ["x", "list_ids", "list_dense", "self"],
}


def test_features_may_be_called_as_the_models_inputs_are(
    tmp_path: Path,
) -> None:
    names = [name for group in ODD.values() for name in group]
    rows = [{"click": i % 2} | dict.fromkeys(names, i % 3) for i in range(12)]
    features = {
        "numeric": ODD["numeric"],
        "categorical": [
            *({"name": n, "min_count": 1} for n in ODD["categorical"]),
            *({"name": n, "encode": "hash", "list": "|"} for n in ODD["lists"]),
        ],
    }
    found = both(tmp_path, rows, features)
    for field in ("dense", "ids"):
        columns = np.array([row[field] for row in found]).T
        assert len(columns) == 4
        assert all(len(set(column.tolist())) == 3 for column in columns)
    for name in ODD["lists"]:
        assert len({row[f"list_{name}"][0] for row in found}) == 3


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("label", "'label' is reserved for the label"),
        ("click", "feature 'click' is the label's own column"),
        ("", "features.categorical.0.name: received ''; accepted: "),
    ],
)
@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_names_that_no_feature_can_have_are_an_error(
    tmp_path: Path, kind: str, feature: str, message: str
) -> None:
    config = {
        "name": "odd",
        "data": {
            "impressions": {"path": "x", "format": "jsonl"},
            "label": "click",
        },
        "features": {kind: [feature]},
        "push": {"to": "models"},
    }
    path = tmp_path / "odd.yaml"
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError) as error:
        load(path)
    assert message.replace("categorical", kind) in str(error.value)


@pytest.mark.ci
def test_a_hundred_thousand_distinct_values(tmp_path: Path) -> None:
    rows = [{"click": i % 2, "site": f"v{i}"} for i in range(100_000)]
    features = {"categorical": [{"name": "site", "min_count": 1}]}
    output = ingest(tmp_path, csv_of(rows), features)
    found = transform(tmp_path, output, features)
    ids = [int(row["ids"][0]) for row in found["train"]]
    assert len(set(ids)) == len(ids) == 75_000
    # Those that only eval has are out of the vocabulary.
    (unknown,) = {int(row["ids"][0]) for row in found["eval"]}
    assert unknown not in {0, *ids}


@pytest.mark.slow
def test_five_thousand_features(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(5_000)]
    rows = [
        {"click": i % 2} | dict.fromkeys(names, i * 7 % 5) for i in range(12)
    ]
    features = {
        "numeric": names[:2_500],
        "categorical": [{"name": n, "encode": "hash"} for n in names[2_500:]],
    }
    found = both(tmp_path, rows, features)
    assert found[0]["dense"].shape == found[0]["ids"].shape == (2_500,)
    assert len({float(row["dense"][-1]) for row in found}) == 5
    assert not math.isclose(found[0]["dense"][0], found[1]["dense"][0])
