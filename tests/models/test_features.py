"""Numeric transforms, hashes, identities and crosses, from formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing.preprocessing_fn import preprocessing_fn
from tests.models.test_vocabulary import rows, transform

DATA = rows(400)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """DATA through every kind of feature but vocabularies."""
    config = {
        "numeric": [
            {"name": "n1", "transform": "log1p_zscore", "default": 1.5}
        ],
        "categorical": [
            {"name": "c1", "encode": "hash", "buckets": 50},
            {"name": "c2", "encode": "hash", "buckets": 50},
        ],
        "crosses": [{"of": ["c1", "c2"], "buckets": 97}],
    }
    result, _ = transform(
        DATA,
        lambda inputs: preprocessing_fn(inputs, {"features": config}),
        tmp_path_factory.mktemp("features"),
    )
    return {
        key: np.array([row[key] for row in result])
        for key in ("ids", "dense", "label")
    }


def test_the_label_passes_through(received: dict[str, Any]) -> None:
    assert received["label"].tolist() == [row["label"][0] for row in DATA]


def test_signed_log_and_z_score(received: dict[str, Any]) -> None:
    raw = np.array([(row["n1"] or [1.5])[0] for row in DATA], np.float32)
    logs = np.sign(raw) * np.log1p(np.abs(raw))
    expected = (logs - logs.mean()) / logs.std()
    np.testing.assert_allclose(
        received["dense"][:, 0], expected, rtol=1e-4, atol=1e-4
    )


def test_hash_ids_begin_at_one_and_missing_is_zero(
    received: dict[str, Any],
) -> None:
    for column, name in enumerate(("c1", "c2")):
        for row, ids in zip(DATA, received["ids"], strict=True):
            expected = 0
            if row[name]:
                expected = 1 + int(
                    tf.strings.to_hash_bucket_fast(row[name][0], 50)
                )
            assert ids[column] == expected


def test_a_cross_depends_on_both_values_and_on_nothing_else(
    received: dict[str, Any],
) -> None:
    seen: dict[tuple[str, str], set[int]] = {}
    for row, ids in zip(DATA, received["ids"], strict=True):
        key = (str(row["c1"]), str(row["c2"]))
        seen.setdefault(key, set()).add(int(ids[2]))
    assert all(len(ids) == 1 for ids in seen.values())
    used = set.union(*seen.values())
    assert used <= set(range(97))
    assert len(used) > 60  # 161 pairs spread over 97 buckets


def test_buckets_hold_equal_shares_and_missing_has_its_own(
    tmp_path: Path,
) -> None:
    config = {"numeric": [{"name": "n1", "transform": "buckets", "buckets": 4}]}
    result, _ = transform(
        DATA,
        lambda inputs: preprocessing_fn(inputs, {"features": config}),
        tmp_path,
    )
    ids = np.array([row["ids"][0] for row in result])
    missing = np.array([not row["n1"] for row in DATA])
    assert (ids[missing] == 0).all()
    counts = np.bincount(ids[~missing], minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 0.2 * (~missing).sum()
    values = np.array([row["n1"][0] for row in DATA if row["n1"]])
    order = np.argsort(values)
    assert (np.diff(ids[~missing][order]) >= 0).all()


def test_a_column_that_never_has_a_value_is_all_missing(
    tmp_path: Path,
) -> None:
    config = {
        "numeric": [{"name": "n1"}],
        "categorical": [{"name": "never_seen"}, {"name": "c1"}],
    }
    result, _ = transform(
        DATA,
        lambda inputs: preprocessing_fn(inputs, {"features": config}),
        tmp_path,
    )
    assert {int(row["ids"][0]) for row in result} == {0}


def test_identities_keep_their_order_and_outside_is_missing(
    tmp_path: Path,
) -> None:
    data = [
        {"c1": [], "c2": [], "tags": [], "n1": [], "label": [value]}
        for value in (0, 1, 6, 7, -1)
    ]

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = preprocessing_fn(
            {"id": inputs["label"], "label": inputs["label"]},
            {
                "features": {
                    "categorical": [
                        {"name": "id", "encode": "identity", "buckets": 7}
                    ]
                }
            },
        )
        return {"ids": outputs["ids"]}

    result, _ = transform(data, function, tmp_path)
    assert [int(row["ids"][0]) for row in result] == [1, 2, 7, 0, 0]
