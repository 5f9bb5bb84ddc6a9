"""The shop's log: histories decide, and nothing else tells what they do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.commands.generate import generate

ROWS = 100_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Impressions beside their truth."""
    folder = tmp_path_factory.mktemp("shop")
    generate(ROWS, folder, 1, "parquet", shape="shop")
    shown = pd.read_parquet(folder / "impressions.parquet")
    truth = pd.read_parquet(folder / "truth.parquet")
    assert (shown["impression_id"] == truth["impression_id"]).all()
    return shown.join(truth.drop(columns="impression_id"))


def gauc(rows: pd.DataFrame, score: pd.Series) -> float:
    """AUC within users, weighted by their rows."""
    total = weight = 0.0
    for _, some in rows.groupby("user_id"):
        if 0 < some["click"].sum() < len(some):
            auc = roc_auc_score(some["click"], score[some.index])
            total, weight = total + len(some) * auc, weight + len(some)
    return total / weight


def test_clicks_are_drawn_from_the_truth(rows: pd.DataFrame) -> None:
    for name in ("probability", "typical"):
        deviation = np.sqrt((rows[name] * (1 - rows[name])).sum())
        assert abs(rows["click"].sum() - rows[name].sum()) < 4 * deviation
    # By topics too: `typical` is their mean over all tastes.
    by_topic = rows.groupby("topic")[["probability", "typical"]].mean()
    gap = by_topic["probability"] - by_topic["typical"]
    assert gap.abs().max() < 0.05


def test_what_was_clicked_before_tells_what_comes_next(
    rows: pd.DataFrame,
) -> None:
    before: dict[tuple[str, int], int] = {}
    counts = []
    for user, topic, click in zip(
        rows["user_id"], rows["topic"], rows["click"], strict=True
    ):
        counts.append(before.get((user, topic), 0))
        before[user, topic] = counts[-1] + click
    last = rows.tail(ROWS // 5)
    alike = pd.Series(np.minimum(counts, 2), rows.index)[last.index]
    truth = gauc(last, last["probability"])
    typical = gauc(last, last["typical"])
    seen = gauc(last, alike + 0.5 * last["typical"])
    print(truth, typical, seen)
    assert truth > typical + 0.12
    assert seen > typical + 0.06


def test_users_come_and_go(rows: pd.DataFrame) -> None:
    """So that an id of the test rows is rare in the train rows, or new."""
    number = np.arange(ROWS)
    found = pd.Series(number).groupby(rows["user_id"])
    assert (found.max() - found.min()).max() < 7000
    assert found.size().median() == pytest.approx(150, rel=0.1)
    old = set(rows["user_id"].head(9 * ROWS // 10))
    assert rows["user_id"].tail(ROWS // 30).isin(old).mean() < 0.1


def test_no_column_tells_the_topic(rows: pd.DataFrame) -> None:
    assert rows.groupby("item_id")["topic"].nunique().max() == 1
    assert rows.groupby("category")["topic"].nunique().min() == 5
