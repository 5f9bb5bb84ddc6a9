"""Which files of daily logs are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.config.sections import DataConfig, Spans
from components.click_log_gen.files.spans import resolve, resolved
from models.errors import InputError


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for day in ("2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"):
        for part in "ba":
            path = tmp_path / day / f"log-{part}.tsv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{day}{part}\n")
    (tmp_path / "2024-02-30").mkdir()  # there is no such day
    (tmp_path / "2024-02-30/log-a.tsv").write_text("x\n")
    return tmp_path


def files(path: str) -> LogFiles:
    return LogFiles(path=(path,), format="tsv", columns=("a",))


def names(root: Path, source: LogFiles) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in source.path]


def test_last_days_slide_with_the_newest(logs: Path) -> None:
    source = files(f"{logs}/{{DATE}}/log-*.tsv")
    found, versions = resolve(source, Spans(last=2))
    assert names(logs, found) == [
        "2024-02-29/log-a.tsv",
        "2024-02-29/log-b.tsv",
        "2024-03-01/log-a.tsv",
        "2024-03-01/log-b.tsv",
    ]
    assert versions == {19782: 0, 19783: 0}  # days since 1970-01-01


@pytest.mark.parametrize(
    ("spans", "days"),
    [
        ({"last": 1}, ["2024-03-01"]),
        ({"last": 1, "until": "2024-02-28"}, ["2024-02-28"]),
        ({"since": "2024-02-29"}, ["2024-02-29", "2024-03-01"]),
        (
            {"since": "2024-02-27", "until": "2024-02-28"},
            ["2024-02-27", "2024-02-28"],
        ),
        (
            {"last": 9, "skip_missing": True},
            ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"],
        ),
    ],
)
def test_ranges(logs: Path, spans: dict[str, object], days: list[str]) -> None:
    source = files(f"{logs}/{{YYYY}}-{{MM}}-{{DD}}/log-a.tsv")
    found, _ = resolve(source, Spans.model_validate(spans))
    assert names(logs, found) == [f"{day}/log-a.tsv" for day in days]


def test_a_missing_day_stops_the_run(logs: Path) -> None:
    source = files(f"{logs}/{{DATE}}/log-a.tsv")
    with pytest.raises(InputError, match=r"2024-02-26; .*2024-02-27 to 2024"):
        resolve(source, Spans(last=5))
    with pytest.raises(InputError, match="2025-01-01"):
        spans = {"last": 1, "until": "2025-01-01", "skip_missing": True}
        resolve(source, Spans.model_validate(spans))


def joined(root: Path, clicks: list[str], **spans: object) -> DataConfig:
    """The impressions of `logs` and a click log with files of some days."""
    for day in clicks:
        (root / f"clicks-{day}.tsv").write_text("x\n")
    log = {"format": "tsv", "columns": ["id", "t"]}
    return DataConfig.model_validate(
        {
            "impressions": {**log, "path": f"{root}/{{DATE}}/log-a.tsv"},
            "clicks": {**log, "path": f"{root}/clicks-{{DATE}}.tsv"}
            | {"key": "id"},
            "time": "t",
            "spans": spans,
        }
    )


@pytest.mark.parametrize("skip", [False, True])
def test_clicks_are_read_of_the_days_of_the_impressions(
    logs: Path, skip: bool
) -> None:
    (logs / "2024-02-29/log-a.tsv").unlink()
    days = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"]
    later = ["2024-03-02", "2024-03-03"]
    spans = {"last": 3, "skip_missing": True} if skip else {"last": 1}
    data, versions = resolved(joined(logs, days + later, **spans))
    assert data.clicks is not None
    wanted = ["2024-02-28", "2024-03-01"] if skip else ["2024-03-01"]
    assert names(logs, data.impressions) == [f"{d}/log-a.tsv" for d in wanted]
    assert names(logs, data.clicks) == [f"clicks-{d}.tsv" for d in wanted]
    assert len(versions) == len(wanted)


@pytest.mark.parametrize("skip", [False, True])
def test_a_day_without_clicks_is_never_skipped(logs: Path, skip: bool) -> None:
    data = joined(logs, ["2024-02-28"], last=3, skip_missing=skip)
    with pytest.raises(InputError) as error:
        resolved(data)
    assert str(error.value) == (
        "data.spans: data.clicks.path has no files of 2024-02-29, 2024-03-01,"
        " of which there are impressions; give an empty click file for a day"
        " without clicks, or end the spans before it"
    )


@pytest.mark.parametrize(
    ("glob", "parts"),
    [
        ("log-[ab].tsv", "ab"),
        ("log-[!b].tsv", "a"),
        ("log-[b-c].tsv", "b"),
        ("[l]og-[]a].tsv", "a"),
        ("log-[\\^b].tsv", "b"),
    ],
)
def test_a_glob_may_have_a_class(logs: Path, glob: str, parts: str) -> None:
    found, _ = resolve(files(f"{logs}/{{DATE}}/{glob}"), Spans(last=1))
    wanted = [f"2024-03-01/log-{part}.tsv" for part in parts]
    assert names(logs, found) == wanted


def test_no_day_at_all_names_the_pattern(logs: Path) -> None:
    source = files(f"{logs}/{{DATE}}-x/log-a.tsv")
    (logs / "newest-x").mkdir()
    (logs / "newest-x/log-a.tsv").write_text("x\n")
    with pytest.raises(
        InputError, match=r"no file matches '.*\{DATE\}-x/"
    ) as e:
        resolve(source, Spans(last=2))
    assert "1970" not in str(e.value)
    source = files(f"{logs}/{{DATE}}/log-a.tsv")
    with pytest.raises(InputError, match="no files of 2025-01-01; it has"):
        resolve(source, Spans.model_validate({"since": "2025-01-01"}))


def test_numbers_and_the_highest_version(tmp_path: Path) -> None:
    for span, version in ((9, 1), (10, 2), (10, 11), (11, 1)):
        path = tmp_path / f"span-{span}/version-{version}/log.tsv"
        path.parent.mkdir(parents=True)
        path.write_text("x\n")
    source = files(f"{tmp_path}/span-{{SPAN}}/version-{{VERSION}}/log.tsv")
    found, versions = resolve(source, Spans(since=9, until=10))
    assert names(tmp_path, found) == [
        "span-9/version-1/log.tsv",
        "span-10/version-11/log.tsv",
    ]
    assert versions == {9: 1, 10: 11}


def test_a_day_named_twice_must_be_one_day(tmp_path: Path) -> None:
    for folder, file in (("2024-01-01", "2024-01-01"), ("2024-01-02", "old")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{file}.tsv").write_text("x\n")
    (tmp_path / "2024-01-02/2024-01-01.tsv").write_text("x\n")
    source = files(f"{tmp_path}/{{DATE}}/{{DATE}}.tsv")
    found, _ = resolve(source, Spans(last=1))
    assert names(tmp_path, found) == ["2024-01-01/2024-01-01.tsv"]


@pytest.mark.parametrize(
    ("path", "spans", "message"),
    [
        ("a/{DATE}/*", None, "placeholder"),
        ("a/*", {"last": 1}, "needs {DATE}"),
        ("a/{YYYY}/{MM}/*", {"last": 1}, "needs {DATE}"),
        ("{DATE}", {}, "either"),
        ("{DATE}", {"last": 1, "since": "2024-01-01"}, "either"),
        ("{DATE}", {"since": "2024-01-02", "until": "2024-01-01"}, "after"),
        ("{DATE}", {"since": "2024-01-02", "until": 7}, "both"),
        ("{SPAN}", {"since": "2024-01-02"}, "accepted: a number"),
        ("{DATE}", {"since": "1705276800"}, "accepted: a date"),
        ("{DATE}", {"since": "20240102"}, "accepted: a date"),
        ("{DATE}", {"since": "2024-01-02", "until": True}, "received True"),
        ("{DATE}", {"since": "2024-13-45"}, "received '2024-13-45'"),
        ("{DATE}", {"since": 7}, "accepted: a date"),
        ("{DATE}", {"last": 0}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_named(
    path: str, spans: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(
            {
                "impressions": {
                    "path": path,
                    "format": "tsv",
                    "columns": ["label"],
                },
                "label": "label",
                "spans": spans,
            }
        )
