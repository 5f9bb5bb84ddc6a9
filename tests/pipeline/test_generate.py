"""Generated logs: same bytes for a seed, and true to what they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from pipeline.commands.generate import (
    FORMATS,
    SHAPES,
    GenerateError,
    Summary,
    generate,
    generate_days,
)

ROWS = 102_000  # More than one chunk.
WINDOW = pd.Timedelta(minutes=30)


def _read(folder: Path, kind: str, format: str) -> pd.DataFrame:
    path = folder / f"{kind}.{format}"
    if format == "parquet":
        return pd.read_parquet(path)
    if format == "jsonl":
        return pd.read_json(path, lines=True, convert_dates=False)
    separator = {"tsv": "\t", "csv": ","}[format]
    return pd.read_csv(path, sep=separator)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return generate(ROWS, folder, seed=7, format="parquet")


@pytest.fixture(scope="module")
def impressions(folder: Path, summary: Summary) -> pd.DataFrame:
    return _read(folder, "impressions", "parquet")


@pytest.fixture(scope="module")
def clicks(folder: Path, summary: Summary) -> pd.DataFrame:
    return _read(folder, "clicks", "parquet")


@pytest.fixture(scope="module")
def truth(folder: Path, summary: Summary) -> pd.DataFrame:
    return _read(folder, "truth", "parquet")


@pytest.fixture(scope="module")
def joined(impressions: pd.DataFrame, clicks: pd.DataFrame) -> pd.DataFrame:
    shown = impressions[["impression_id", "timestamp", "click"]]
    both = clicks.merge(
        shown, "left", on="impression_id", suffixes=("", "_shown")
    )
    both["delay"] = pd.to_datetime(both["timestamp"]) - pd.to_datetime(
        both["timestamp_shown"]
    )
    return both


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, format: str, shape: str
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        generate(2000, folder, seed=seed, format=format, shape=shape)
    one, two, three = map(_bytes, folders)
    assert one == two
    assert one.keys() == three.keys()
    assert all(one[name] != three[name] for name in one)


def test_a_new_process_gives_the_same_bytes_without_tensorflow(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from pipeline.commands.generate import generate; "
        f"generate(1500, Path({str(tmp_path / 'other')!r})); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    generate(1500, tmp_path / "here")
    assert _bytes(tmp_path / "here") == _bytes(tmp_path / "other")


def test_the_clicks_of_the_log_give_the_label(
    impressions: pd.DataFrame, joined: pd.DataFrame
) -> None:
    assert (joined["delay"].dropna() > pd.Timedelta(0)).all()
    assert not (joined["delay"] == WINDOW).any()
    clicked = joined.loc[joined["delay"] < WINDOW, "impression_id"]
    label = impressions["impression_id"].isin(clicked)
    assert (label == (impressions["click"] == 1)).all()


def test_the_click_log_has_late_repeated_and_unknown_clicks(
    summary: Summary, joined: pd.DataFrame
) -> None:
    known = joined[joined["delay"].notna()]
    assert summary.clicks == len(joined)
    assert summary.orphans == len(joined) - len(known) > 0
    assert summary.duplicates == known["impression_id"].duplicated().sum() > 0
    assert summary.late_clicks == (known["delay"] > WINDOW).sum() > 0
    columns = ["impression_id", "timestamp", "dwell_seconds"]
    copies = known[known.duplicated(columns)]
    assert 0 < len(copies) < summary.duplicates
    seconds = known["delay"].dt.total_seconds()
    assert 10 < seconds.median() < 60
    assert seconds.max() > 4 * 3600
    assert joined["dwell_seconds"].isna().any()


def test_both_logs_are_in_order_of_time_over_a_week(
    impressions: pd.DataFrame, clicks: pd.DataFrame
) -> None:
    for log in (impressions, clicks):
        assert (
            log["timestamp"]
            .str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
            .all()
        )
        assert log["timestamp"].is_monotonic_increasing
    time = pd.to_datetime(impressions["timestamp"])
    assert time.dt.date.nunique() == 7
    assert (time.dt.hour == impressions["hour"]).all()
    by_hour = impressions["hour"].value_counts()
    assert by_hour[15] > 2 * by_hour[3]
    assert impressions["impression_id"].is_unique


def test_the_label_is_drawn_from_the_truth(
    summary: Summary, impressions: pd.DataFrame, truth: pd.DataFrame
) -> None:
    assert list(truth["impression_id"]) == list(impressions["impression_id"])
    p, label = truth["probability"], impressions["click"]
    assert p.between(0, 1, inclusive="neither").all()
    assert 0.05 < label.mean() < 0.15
    decile = pd.qcut(p, 10, labels=False)
    for part in (p.index, *(p.index[decile == i] for i in range(10))):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(label[part].mean() - p[part].mean()) < 4 * error
    tail = slice(ROWS - ROWS // 10, None)
    assert summary.positives == label.sum()
    assert summary.truth_logloss == pytest.approx(log_loss(label, p), abs=1e-6)
    assert summary.truth_auc == pytest.approx(roc_auc_score(label, p), abs=1e-6)
    assert summary.truth_logloss_last_tenth == pytest.approx(
        log_loss(label[tail], p[tail]), abs=1e-6
    )
    assert summary.truth_auc_last_tenth == pytest.approx(
        roc_auc_score(label[tail], p[tail]), abs=1e-6
    )


def test_ids_follow_zipf_and_keep_their_hierarchy(
    impressions: pd.DataFrame,
) -> None:
    for name, ids in (("user_id", 20_000), ("ad_id", 2000), ("site_id", 500)):
        count = impressions[name].value_counts().to_numpy()
        assert len(count) <= ids
        rank = np.arange(1, 101)
        slope = np.polyfit(np.log(rank), np.log(count[:100]), 1)[0]
        assert -1.4 < slope < -0.9
    for one, group in (
        ("ad_id", "campaign_id"),
        ("campaign_id", "advertiser_id"),
        ("site_id", "site_category"),
    ):
        assert (impressions.groupby(one)[group].nunique() == 1).all()


def test_values_are_missing_where_promised(impressions: pd.DataFrame) -> None:
    missing = impressions.isna().mean()
    holes = {"country", "connection", "interests", "price", "page_depth"}
    holes |= {"session_seconds", "user_clicks"}
    assert set(missing.index[missing > 0]) >= holes
    assert missing.max() < 0.2
    listed = impressions["interests"].dropna().str.split("|")
    assert listed.str.len().max() > 1
    assert impressions["user_impressions"].max() > 200


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_formats_agree_and_broken_lines_are_as_many_as_said(
    tmp_path: Path, folder: Path, impressions: pd.DataFrame, format: str
) -> None:
    summary = generate(ROWS, tmp_path, seed=7, format=format)
    path = tmp_path / f"impressions.{format}"
    lines = path.read_bytes().splitlines(keepends=True)
    bad = [line for line in lines if b"broken" in line]
    assert summary.broken_lines == len(bad) == ROWS // 20_000
    path.write_bytes(b"".join(line for line in lines if b"broken" not in line))
    pd.testing.assert_frame_equal(
        _read(tmp_path, "impressions", format), impressions, check_dtype=False
    )
    pd.testing.assert_frame_equal(
        _read(tmp_path, "clicks", format),
        _read(folder, "clicks", "parquet"),
        check_dtype=False,
    )
    same = "truth.parquet"
    assert (tmp_path / same).read_bytes() == (folder / same).read_bytes()


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_a_thousand_rows_have_a_broken_line_of_each_kind(
    tmp_path: Path, format: str
) -> None:
    assert generate(1000, tmp_path, format=format).broken_lines == 3
    lines = (tmp_path / f"impressions.{format}").read_bytes().splitlines()
    cut, word, garbled = (line for line in lines if b"broken" in line)
    if format == "jsonl":
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(cut)
        assert json.loads(word)["price"] == "n/a"
    else:
        separator = {"tsv": b"\t", "csv": b","}[format]
        assert cut.count(separator) < lines[0].count(separator)
        assert word.count(separator) == lines[0].count(separator)
        assert b"n/a" in word.split(separator)
    with pytest.raises(UnicodeDecodeError):
        garbled.decode()


def test_criteo_rows_have_criteos_shape(tmp_path: Path) -> None:
    summary = generate(20_000, tmp_path, shape="criteo")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"impressions.tsv", "truth.parquet", "summary.json"}
    table = pd.read_csv(tmp_path / "impressions.tsv", sep="\t", header=None)
    assert table.shape == (20_000, 40)
    label, numbers, hashes = table[0], table.loc[:, 1:13], table.loc[:, 14:]
    p = pd.read_parquet(tmp_path / "truth.parquet")["probability"]
    assert summary.positives == label.sum()
    assert summary.broken_lines == summary.clicks == 0
    assert summary.truth_auc == pytest.approx(roc_auc_score(label, p), abs=1e-6)
    assert 0.15 < label.mean() < 0.35
    assert (numbers.dropna() % 1 == 0).all(axis=None)
    assert numbers[2].min() < 0 <= numbers.drop(columns=2).min().min()
    written = pd.read_csv(
        tmp_path / "impressions.tsv", sep="\t", header=None, dtype=str
    ).loc[:, 14:]
    assert written.stack().str.fullmatch("[0-9a-f]{8}").all()
    distinct = hashes.nunique()
    assert distinct[22] == 3
    assert distinct[16] > 5000
    assert hashes[35].isna().mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_one_row_is_enough(tmp_path: Path, format: str, shape: str) -> None:
    summary = generate(1, tmp_path, format=format, shape=shape)
    assert summary.rows == 1
    assert summary.truth_auc is None
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == 1
    assert len(pd.read_parquet(tmp_path / "truth.parquet")) == 1
    if shape == "ads":
        assert len(_read(tmp_path, "impressions", format)) == 1


def test_reuse_returns_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    first = generate(1000, tmp_path)
    mark = tmp_path / "impressions.tsv"
    mark.write_text("kept")
    assert generate(1000, tmp_path, reuse=True) == first
    assert mark.read_bytes() == b"kept"
    assert generate(1001, tmp_path, reuse=True) != first
    assert mark.read_bytes() != b"kept"
    generate(1000, tmp_path)
    mark.unlink()
    assert generate(1000, tmp_path, reuse=True) == first
    assert mark.exists()
    (tmp_path / "summary.json").write_text("{")
    assert generate(1000, tmp_path, reuse=True) == first


def test_other_files_stay_and_a_failure_leaves_no_traces(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    generate(1000, tmp_path)
    before = _bytes(tmp_path)

    def stop(done: int, rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(1000, tmp_path, seed=2, progress=stop)
    assert _bytes(tmp_path) == before
    assert before["mine.txt"] == b"mine"


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(100_001, tmp_path, progress=lambda *now: seen.append(now))
    assert seen == [(100_000, 100_001), (100_001, 100_001)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": 0}, "`rows` must be a whole number from 1"),
        ({"rows": -5}, "Received: -5"),
        ({"rows": 1.5}, "Received: 1.5"),
        ({"rows": True}, "Received: True"),
        ({"rows": 10**12}, "to 1000000000"),
        ({"seed": -1}, "`seed` must be a whole number from 0"),
        ({"format": "xml"}, "tsv, csv, jsonl, parquet. Received: 'xml'"),
        ({"shape": "video"}, "ads, criteo, shop. Received: 'video'"),
    ],
)
def test_errors_name_the_argument_and_what_is_accepted(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(GenerateError) as caught:
        generate(**{"rows": 10, "out": tmp_path / "logs", **arguments})
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_in_the_place_of_the_folder_is_refused(
    tmp_path: Path, inside: str
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(GenerateError, match="taken' is a file"):
        generate(10, tmp_path / "taken" / inside)


def test_days_drift_apart(tmp_path: Path) -> None:
    rows, share = 20_000, 0.2
    for drift, name in ((share, "drift"), (0.0, "still")):
        generate_days(
            rows, tmp_path / name, 3, 5, format="parquet", drift=drift
        )
    days = [
        pd.read_parquet(tmp_path / f"drift/2024-01-0{n}/impressions.parquet")
        for n in (1, 2, 3)
    ]
    for number, day in enumerate(days, 1):
        assert len(day) == rows
        assert set(day.timestamp.str[:10]) == {f"2024-01-0{number}"}
    ids = pd.concat([day.impression_id for day in days])
    assert ids.is_unique
    # An ad that is seen often is seen the next day, unless it is replaced.
    for then, now, passed in ((0, 1, 1), (1, 2, 1), (0, 2, 2)):
        counts = days[then].ad_id.value_counts()
        often = set(counts[counts >= 20].index)
        kept = len(often & set(days[now].ad_id)) / len(often)
        assert len(often) > 80
        assert abs(kept - (1 - share) ** passed) < 0.12
    assert set(days[0].campaign_id) == set(days[2].campaign_id)
    still = [
        pd.read_parquet(tmp_path / f"still/2024-01-0{n}/impressions.parquet")
        for n in (1, 2)
    ]
    assert not still[0].ad_id.equals(still[1].ad_id)
    top = [set(day.ad_id.value_counts().index[:100]) for day in still]
    assert len(top[0] & top[1]) > 80
    # Each day something else makes them click.
    rates = [day.groupby("device").click.mean() for day in (*still, days[2])]
    assert np.abs(rates[0] - rates[1]).max() < 0.03
    assert np.abs(rates[0] - rates[2]).max() > 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drift", "0.1"], "--drift needs --days"),
        (["--days", "0"], "--days must be 1 or more"),
        (["--days", "2", "--drift", "1"], "`drift` must be a number from 0"),
        (["--days", "2", "--shape", "criteo"], "with --shape ads"),
    ],
)
def test_wrong_days_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    from pipeline.cli import main

    given = ["generate", "--rows", "10", "--out", str(tmp_path / "x")]
    assert main([*given, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_clicks_are_biased_by_the_slot_of_a_page(tmp_path: Path) -> None:
    generate(40_000, tmp_path, 3, "parquet", position_bias=1.0)
    rows = _read(tmp_path, "impressions", "parquet")
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    pages = rows["slot"].to_numpy().reshape(-1, 8)
    assert (np.sort(pages, axis=1) == np.arange(1, 9)).all()
    odds = truth["relevance"] / (1 - truth["relevance"]) / rows["slot"]
    np.testing.assert_allclose(
        truth["probability"], odds / (1 + odds), atol=2e-6
    )
    # The ranker favours advertisers whose ads are no better.
    means = rows.assign(relevance=truth["relevance"]).groupby("advertiser_id")[
        ["slot", "relevance"]
    ]
    assert means.mean()["slot"].std() > 1
    assert abs(means.mean().corr().iloc[0, 1]) < 0.6


def test_without_bias_the_bytes_are_as_before(tmp_path: Path) -> None:
    generate(500, tmp_path / "a", 3)
    generate(500, tmp_path / "b", 3, position_bias=0.0, policy_bias=0.0)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert b"slot" not in (tmp_path / "a" / "impressions.tsv").read_bytes()


@pytest.mark.parametrize(
    ("bias", "shape"), [(-1.0, "ads"), (6.0, "ads"), (1.0, "criteo")]
)
@pytest.mark.parametrize("name", ["position_bias", "policy_bias"])
def test_wrong_biases_are_refused(
    tmp_path: Path, name: str, bias: float, shape: str
) -> None:
    with pytest.raises(GenerateError, match=name):
        generate(10, tmp_path, shape=shape, **{name: bias})


def test_propensities_take_the_bias_of_the_policy_away(tmp_path: Path) -> None:
    generate(40_000, tmp_path, 3, "parquet", policy_bias=1.0)
    rows = _read(tmp_path, "impressions", "parquet")
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    weight = 1 / rows["propensity"]
    assert weight.mean() == pytest.approx(8, rel=0.03)
    shares = weight.groupby(rows["banner"]).sum() / weight.sum()
    assert shares.to_numpy() == pytest.approx(1 / 8, abs=0.015)
    uniform = truth["uniform"].mean()
    assert rows["click"].mean() > 1.2 * uniform
    found = np.average(rows["click"], weights=weight)
    assert found == pytest.approx(uniform, rel=0.05)
    odds = truth["probability"] / (1 - truth["probability"])
    by_banner = np.log(odds).groupby(rows["banner"]).mean()
    assert np.diff(by_banner) == pytest.approx(2 / 7, abs=0.12)


def test_conversions_follow_their_rate_and_the_end_of_the_log(
    tmp_path: Path,
) -> None:
    generate(40_000, tmp_path, 3, "parquet", conversions=True)
    rows = _read(tmp_path, "impressions", "parquet")
    orders = _read(tmp_path, "orders", "parquet")
    rate = pd.read_parquet(tmp_path / "truth.parquet")["cvr"]
    clicked = rows["click"] == 1
    assert not rows.loc[~clicked, "converted"].any()
    known = rows["conversion"].notna()
    last = pd.to_datetime(rows["timestamp"]) >= "2024-01-07"
    assert (known == ~last).all()
    seen = clicked & known
    found = rows.loc[seen, "conversion"].mean()
    assert found == pytest.approx(rate[seen].mean(), abs=0.02)
    assert rows.loc[clicked & ~known, "converted"].mean() < 0.8 * found
    assert rate[clicked].mean() > 1.2 * rate.mean()
    # The orders within a day of their impression are the conversions.
    shown = rows.set_index("impression_id").loc[orders["impression_id"]]
    came, at = (
        pd.to_datetime(one["timestamp"]).astype("int64").to_numpy()
        for one in (orders, shown)
    )
    wait = (came - at) / (came[0] // 1_704_067_200)
    soon = wait <= 86_400
    assert (shown["click"] == 1).all() and (wait > 0).all()
    assert set(orders["impression_id"][soon]) == set(
        rows["impression_id"][rows["converted"] == 1]
    )


def test_conversions_change_no_other_column(tmp_path: Path) -> None:
    generate(2000, tmp_path / "a", 3, "parquet")
    generate(2000, tmp_path / "b", 3, "parquet", conversions=True)
    one, two = (_read(tmp_path / n, "impressions", "parquet") for n in "ab")
    pd.testing.assert_frame_equal(one, two[one.columns])
    with pytest.raises(GenerateError, match="`conversions` needs the shape"):
        generate(10, tmp_path, shape="shop", conversions=True)
