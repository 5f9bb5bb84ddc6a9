"""Sides of sequences stay beside their items."""

from __future__ import annotations

import pytest
import tensorflow as tf

from models.config.sequences import SequenceFeature
from models.preprocessing.category_text import canonical
from models.preprocessing.sequence_lists import checked, newest

SEQUENCE = SequenceFeature.model_validate(
    {
        "of": "seen",
        "items": "ad",
        "max_len": 2,
        "sides": [{"of": "kinds", "items": "kind"}],
    }
)
SEEN = [["a"], ["b|c|d"], [], ["e"], ["f", "g", "h"]]


def _read(kinds: list[list[str]]) -> dict[str, tf.SparseTensor]:
    """Columns of examples, split as the graph splits them."""
    columns = {"seen": SEEN, "kinds": kinds}
    raw = {
        name: tf.ragged.constant(lists, tf.string).to_sparse()
        for name, lists in columns.items()
    }
    return canonical(raw, dict.fromkeys(raw, "|"), placed=tuple(raw))


def test_a_lone_side_without_a_text_is_missing() -> None:
    read = _read([[""], ["x||z"], [], ["y"], ["", "", "w"]])
    checked(SEQUENCE, read)
    found = newest(SEQUENCE, read, tf.constant(5, tf.int64))
    assert found.rows.numpy().tolist() == [0, 1, 1, 3, 4, 4]
    columns = {n: v.numpy().tolist() for n, v in found.columns.items()}
    assert columns == {
        "seen": [b"a", b"d", b"c", b"e", b"h", b"g"],
        "kinds": [b"", b"z", b"", b"y", b"w", b""],
    }


@pytest.mark.parametrize("kinds", [["x"], [], ["x|y"], ["x", "y", "z", ""]])
def test_a_side_of_another_length_is_refused(kinds: list[str]) -> None:
    read = _read([["x"], kinds, [], ["y"], ["", "", "w"]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="kinds"):
        checked(SEQUENCE, read)
