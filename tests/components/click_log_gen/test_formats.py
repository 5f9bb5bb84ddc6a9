"""Every log format, ours and a user's, keeps to one contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.log_formats import FORMATS, log_format
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files import spans
from components.click_log_gen.formats import contract
from components.click_log_gen.formats.log_format import LogFormat
from tests.components.click_log_gen.ingest import (
    convert_log,
    log_of,
    write_log,
)

ROWS = [
    {"click": n % 2, "price": n / 4, "site": f"s{n % 7}", "tag": "é, x"}
    for n in range(60)
]
COLUMNS = {"price": "float", "site": "string", "tag": "string"}
FIXED = """
import pyarrow as pa

from components.click_log_gen.formats.text import TextFormat

WIDTHS = {"click": (0, 1), "price": (1, 7), "site": (7, 11)}


class Fixed(TextFormat):
    names_columns = True

    def names(self, chunk, source):
        return list(WIDTHS)

    def parse(self, lines, source, columns):
        rows = [lines.row(n) for n in range(len(lines))]
        short = {n: "not 11 bytes" for n, r in enumerate(rows) if len(r) != 11}
        good = [row for n, row in enumerate(rows) if n not in short]
        arrays = {}
        for name in columns:
            start, end = WIDTHS[name]
            cells = [row[start:end].strip() for row in good]
            arrays[name] = pa.array(cells, pa.binary())
        return lines.rows(arrays, short)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_formats.py").write_text(FIXED)
    (tmp_path / "log").write_text(
        "".join(f"{r['click']}{r['price']:6.2f}{r['site']:4}\n" for r in ROWS)
    )
    return tmp_path


@pytest.mark.parametrize("name", FORMATS.names)
def test_our_formats_keep_to_the_contract(tmp_path: Path, name: str) -> None:
    log = write_log(tmp_path / "log", name, ROWS)
    header = name in ("csv", "tsv")
    settings = {"header": True} if header else {}
    assert isinstance(log_format(name), LogFormat)
    contract.check(name, log, COLUMNS, **settings)


def test_a_users_format_keeps_to_the_contract(here: Path) -> None:
    contract.check(
        "my_formats:Fixed", here / "log", {"price": "float", "site": "string"}
    )


def test_a_users_format_is_ingested(here: Path) -> None:
    with (here / "log").open("a") as log:
        log.write("1 2.0\n")
    fixed = log_of(here / "log", "my_formats:Fixed")
    output = convert_log(here / "out", fixed, max_rejected=1.0)
    assert sorted(output.column("price")) == [row["price"] for row in ROWS]
    assert output.reasons == ["not 11 bytes"]
    assert output.counts["read"] == len(ROWS) + 1


def test_the_data_version_follows_a_users_format(here: Path) -> None:
    config = DataConfig.model_validate(
        {
            "impressions": log_of(here / "log", "my_formats:Fixed"),
            "label": "click",
        }
    )
    before = spans.data_version(config)
    assert before == spans.data_version(config)
    with (here / "my_formats.py").open("a") as module:
        module.write("# changed\n")
    assert spans.data_version(config) != before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"format": "cvs"}, ["'cvs'", "did you mean 'csv'", *FORMATS.names]),
        ({"format": "nowhere:X"}, ["`format`", "nowhere", "ModuleNotFound"]),
        ({"format": "my_formats:WIDTHS"}, ["`format`", "a LogFormat"]),
        ({"format": "my_formats:Fix"}, ["has no 'Fix'", "a LogFormat"]),
        ({"format": "jsonl", "header": True}, ["`header`", "jsonl"]),
        ({"format": "my_formats:Fixed", "quote": "'"}, ["`quote`"]),
        ({"format": "csv"}, ["`columns: [...]` or `header: true`"]),
    ],
)
def test_what_no_format_is_or_takes_is_refused(
    here: Path, given: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ValueError) as error:
        LogFiles.model_validate({"path": "log", **given})
    for word in words:
        assert word in str(error.value)


class Dishonest(LogFormat):
    """Reads two rows, counts three."""

    def read(self, chunk, source, columns):
        honest = log_format("jsonl")
        yield from honest.read(chunk, source, columns)

    def count(self, chunk, source):
        return 3


def test_the_contract_finds_a_wrong_count(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", "jsonl", ROWS)
    with pytest.raises(AssertionError, match="60 rows read, 3 counted"):
        contract.check(f"{__name__}:Dishonest", log, COLUMNS)
