"""The ingest's counts in lines for a person."""

from __future__ import annotations

from pipeline import counts

SPAN = {"first": "2014-10-21T00:00:00Z", "last": "2014-10-21T23:00:00Z"}
COUNTS = {
    "read": 1200,
    "rejected": 3,
    "train": 1000,
    "eval": 197,
    "positives": {"train": 300, "eval": 20},
    "times": {"train": SPAN, "eval": SPAN},
    "out_of_range": {"slot": 2, "site": 0},
    "warnings": ["the eval split has 20 positives"],
    "clicks": {"read": 320, "times": SPAN},
}


def test_ingests_line_has_rows_and_integers_out_of_range() -> None:
    assert counts.rows(COUNTS) == (
        "1,200 rows, 3 rejected, 1,000 train, 197 eval; out of range: slot 2"
    )


def test_each_split_has_its_positives_and_times_and_warnings_follow() -> None:
    when = "2014-10-21T00:00:00Z to 2014-10-21T23:00:00Z"
    assert counts.details(COUNTS, ("train", "eval")) == [
        f"train        300 positives  {when}",
        f"eval          20 positives  {when}",
        f"clicks       320 rows       {when}",
        "warning: the eval split has 20 positives",
    ]
    assert counts.times(COUNTS) == dict.fromkeys(
        ("train", "eval", "clicks"), SPAN
    )
    assert counts.times({}) == {}


def test_a_refusal_is_explained_by_what_is_odd_about_its_split() -> None:
    assert counts.about(COUNTS, "eval") == COUNTS["warnings"]
    assert counts.about(COUNTS, "train") == counts.about({}, "eval") == []
