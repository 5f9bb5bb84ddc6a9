"""Rows of a group come into one batch; the pairs that do are counted."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.input_pipeline.dataset import Batches
from models.input_pipeline.groups import by_group, count_pairs
from tests.examples import example

SPEC = {
    "ids": tf.io.FixedLenFeature([1], tf.int64),
    "groups": tf.io.FixedLenFeature([], tf.int64),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
ROWS = 5000


class Transform:
    """As much of tft.TFTransformOutput as Batches asks for."""

    def transformed_feature_spec(self) -> dict[str, Any]:
        return dict(SPEC)


TRANSFORM: Any = Transform()
RNG = np.random.default_rng(3)
GROUPS = RNG.integers(-1, 400, ROWS)
LABELS = (RNG.random(ROWS) < 0.3).astype(int)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("grouped")
    for part, rows in enumerate(np.array_split(np.arange(ROWS), 2)):
        with tf.io.TFRecordWriter(str(folder / f"part-{part}")) as writer:
            for row in rows.tolist():
                writer.write(
                    example(
                        ids=[row],
                        groups=int(GROUPS[row]),
                        label=int(LABELS[row]),
                    )
                )
    return [f"{folder}/part-*"]


def batches(data: Any) -> list[Any]:
    return [inputs["ids"][:, 0].numpy() for inputs, _ in data]


def slow_pairs(groups: Any, labels: Any, partners: int | None) -> Any:
    places: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        if group >= 0:
            places.setdefault(int(group), []).append(row)
    pairs, rows = 0, set()
    for found in places.values():
        for (i, one), (j, other) in combinations(enumerate(found), 2):
            near = partners is None or j - i <= partners
            if near and labels[one] != labels[other]:
                pairs += 1
                rows |= {one, other}
    return pairs, len(rows)


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.booleans()), max_size=25),
    st.none() | st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_pairs_are_counted(rows: Any, partners: int | None) -> None:
    groups = np.array([g for g, _ in rows], np.int64)
    labels = np.array([y for _, y in rows], np.int8)
    found = count_pairs(groups, labels, partners)
    assert found == slow_pairs(groups, labels, partners)


@given(st.lists(st.integers(-1, 4), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_rows_of_a_group_are_neighbours(rows: Any, shuffled: bool) -> None:
    groups = np.array(rows, np.int64)
    random = np.random.default_rng(1) if shuffled else None
    order = by_group(groups, random)
    assert sorted(order.tolist()) == list(range(len(rows)))
    known = [int(g) for g in groups[order] if g >= 0]
    changes = sum(a != b for a, b in pairwise(known))
    assert changes == max(len(set(known)) - 1, 0)


@pytest.mark.parametrize("shuffle", [0, 1000, ROWS])
def test_an_epoch_has_each_row_once_and_goes_on_anywhere(
    files: list[str], shuffle: int
) -> None:
    data = Batches(files, TRANSFORM, 256, shuffle, 7, grouped=True)
    whole = batches(data.epoch(1))
    assert sorted(np.concatenate(whole).tolist()) == list(range(ROWS))
    rest = batches(data.epoch(1, skip=9))
    for one, other in zip(whole[9:], rest, strict=True):
        np.testing.assert_array_equal(one, other)
    pieces = [batches(data.epoch(1, 0, (i,), 2)) for i in (0, 1)]
    for one, *parts in zip(whole, *pieces, strict=True):
        np.testing.assert_array_equal(one, np.concatenate(parts))


def test_the_pairs_that_batches_hold_are_told(files: list[str]) -> None:
    shares = []
    for shuffle, of, partners in (
        (512, 1, None), (ROWS, 1, None), (ROWS, 2, None), (ROWS, 1, 3),
    ):  # fmt: skip
        data = Batches(files, TRANSFORM, 256, shuffle, 7, grouped=True)
        found = data.pairs(of, partners)
        seen = compared = 0
        for number in range(of):
            for rows in batches(data.epoch(0, 0, (number,), of)):
                some = slow_pairs(GROUPS[rows], LABELS[rows], partners)
                seen, compared = seen + some[0], compared + some[1]
        assert (found.seen, found.compared) == (seen, compared)
        total = slow_pairs(GROUPS, LABELS, None)
        assert (found.total, found.comparable) == total
        shares.append(found.share)
    # A batch cuts a group of 12 now and then, a small buffer cuts them all.
    assert shares[1] > 0.98 > shares[3] > shares[0]
    assert shares[1] > shares[2] > 0.95
    plain = Batches(files, TRANSFORM, 256, ROWS, 7)
    held = [
        slow_pairs(GROUPS[rows], LABELS[rows], None)[0]
        for rows in batches(plain.epoch())
    ]
    assert sum(held) < 0.1 * found.total
