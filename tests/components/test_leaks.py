"""A feature that tells the label is named; an honest one, or an id, is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from components.data_checks import LEAK_AUC
from components.statistics_gen.single_feature import Sample

ROWS = 20_000
RNG = np.random.default_rng(3)
CLICK = (RNG.random(ROWS) < 0.1).astype(np.int64)


def column(values: Any, missing: Any = None) -> pa.Array:
    """Lists of at most one value, as the decoder of tf.Examples gives them."""
    kept = np.zeros(ROWS, bool) if missing is None else np.asarray(missing)
    offsets = np.r_[0, np.cumsum(~kept)].astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values).filter(pa.array(~kept))
    )


def texts(values: Any) -> Any:
    return pa.array([f"v{value}".encode() for value in values])


def report(size: int = 1 << 18, batch: int = 3000, **columns: Any) -> Any:
    """Sample of one batch after the other."""
    data = pa.record_batch({"label": column(CLICK), **columns})
    sample = Sample("label", ROWS, size=size)
    for number, start in enumerate(range(0, ROWS, batch)):
        sample.add(number, data.slice(start, batch))
    return sample.report()


def auc(values: pa.Array, **more: Any) -> float:
    return float(report(x=values, **more)["features"]["x"]["auc"])


def flipped(share: float) -> Any:
    return np.where(RNG.random(ROWS) < share, 1 - CLICK, CLICK)


normal = RNG.normal(size=ROWS)
LEAKS = {
    "a copy": column(CLICK),
    "a noisy copy": column(flipped(0.005)),
    "another number": column((5 - 3 * CLICK).astype(np.float32)),
    "text": column(texts(CLICK)),
    "many texts": column(texts(CLICK * 500 + RNG.integers(0, 500, ROWS))),
    "near zero": column((normal * np.where(CLICK, 1e-4, 1)).astype(np.float32)),
    "missing when clicked": column(normal, CLICK == 1),
    "an id when clicked": column(texts(range(ROWS)), CLICK == 0),
    "rows by label": column(np.argsort(np.argsort(CLICK, kind="stable"))),
}
HONEST = {
    "an id": column(texts(range(ROWS))),
    "a row's number": column(np.arange(ROWS)),
    "a strong number": column(normal + 1.81 * CLICK),
    "rare texts": column(texts(RNG.integers(0, ROWS // 3, ROWS))),
    "nothing": column(texts(range(ROWS)), np.ones(ROWS, bool)),
    "a constant": column(np.zeros(ROWS)),
    "no number": column(np.full(ROWS, np.nan)),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_feature_that_tells_the_label_is_found(name: str) -> None:
    assert auc(LEAKS[name]) > LEAK_AUC


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_is_none(name: str) -> None:
    assert auc(HONEST[name]) < 0.91


def test_an_id_of_each_row_scores_nothing() -> None:
    assert auc(HONEST["an id"]) == 0.5


def test_the_auc_of_a_number_is_scikit_learns() -> None:
    found = report(x=HONEST["a strong number"])["features"]["x"]
    wanted = roc_auc_score(CLICK, normal + 1.81 * CLICK)
    assert found["auc"] == pytest.approx(wanted, abs=2e-3)
    assert wanted == pytest.approx(0.9, abs=0.01)
    falling = report(x=column(-normal - 1.81 * CLICK))["features"]["x"]
    assert falling["auc"] == pytest.approx(found["auc"], abs=2e-3)


def test_rows_of_several_values_are_told_apart() -> None:
    lists = pa.array([[b"a", b"b"] if c else [b"a", b"c"] for c in CLICK])
    assert auc(lists) == 1.0
    pairs = pa.array([[1.0, float(c)] for c in CLICK])
    assert auc(pairs) == 1.0


def test_a_sample_is_a_share_of_each_batch_and_says_so() -> None:
    found = report(size=5000, batch=1024, x=LEAKS["text"])
    assert found["total"] == ROWS
    assert found["rows"] == pytest.approx(5000, abs=20)
    assert found["features"]["x"]["auc"] == 1.0


def test_the_order_in_which_threads_bring_batches_changes_nothing() -> None:
    data = pa.record_batch({"label": column(CLICK), "x": HONEST["rare texts"]})
    starts = list(enumerate(range(0, ROWS, 1000)))
    reports = []
    for order in (starts, starts[::-1]):
        sample = Sample("label", ROWS)
        for number, start in order:
            sample.add(number, data.slice(start, 1000))
        reports.append(sample.report())
    assert reports[0] == reports[1]


@pytest.mark.parametrize("clicks", [0, 1, 9])
def test_too_few_rows_of_a_label_tell_nothing(clicks: int) -> None:
    label = np.zeros(ROWS, np.int64)
    label[:clicks] = 1
    found = report(label=column(label), x=column(label))["features"]["x"]
    assert found == {"auc": None, "by": "too few rows of one label"}
