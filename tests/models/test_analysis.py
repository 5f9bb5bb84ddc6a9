"""The analysis' parts, saved and merged, against NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.config.training import Features
from models.preprocessing import analyzers
from models.preprocessing.preprocessing_fn import Observed
from models.preprocessing.vocabulary import Vocabulary

FEATURES = Features.model_validate(
    {
        "numeric": [{"name": "n"}, {"name": "b", "transform": "buckets"}],
        "categorical": [{"name": "c", "min_count": 1}],
    }
)


def batch(seed: int, rows: int) -> Observed:
    rng = np.random.default_rng(seed)
    return Observed(
        rng.integers(0, 2, rows),
        (rng.choice(np.array([b"a", b"b", b"c", b""], object), rows),),
        rng.normal(1e4, 1, (rows, 1)).astype(np.float32),
        (rng.random(rows, np.float32),),
    )


FILES = {
    "a": [batch(0, 500), batch(1, 0), batch(2, 3000)],
    "b": [batch(3, 1)],
    "c": [],
    "d": [batch(4, 40_000)],
}


def written(order: Sequence[str], folder: Path) -> dict[str, bytes]:
    """Files after FILES were merged in `order`."""
    total = analyzers.parts(FEATURES)
    for file in order:
        found = analyzers.parts(FEATURES)
        for values in FILES[file]:
            analyzers.add(found, values)
        for part, other in zip(total, found, strict=True):
            saved = other.save()
            assert saved.schema == part.schema
            part.merge(saved)
    folder.mkdir()
    for part in total:
        part.write(str(folder))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_order_of_merging_does_not_change_counts(tmp_path: Path) -> None:
    first = written("abcd", tmp_path / "1")
    other = written("dbca", tmp_path / "2")
    for name in ("label_counts", "vocab_c"):
        assert first[name] == other[name]
    assert len(first) == 4


def test_many_merges_count_as_one_does(tmp_path: Path) -> None:
    wanted = Vocabulary("v", 2, 200_000)
    drawn = np.random.default_rng(5).zipf(1.2, 600_000) % 400_000
    part = analyzers.Counts(wanted)
    for values in np.array_split(drawn, 300):
        part.add(np.array([b"%d" % v for v in values], object))
    part.write(str(tmp_path))
    count = Counter(drawn.tolist())
    kept = [(n, b"%d" % v) for v, n in count.items() if n >= 2]
    expected = [value for _, value in sorted(kept, reverse=True)]
    assert (tmp_path / "v").read_bytes().split(b"\n")[:-1] == expected


@pytest.mark.parametrize("order", ["abcd", "dbca", "b", "c"])
def test_results_are_those_of_numpy(tmp_path: Path, order: str) -> None:
    written(order, tmp_path / "out")
    found = analyzers.read(FEATURES, str(tmp_path / "out"))
    batches = [b for file in order for b in FILES[file]] or [batch(0, 0)]
    dense = np.concatenate([b.dense for b in batches]).astype(np.float64)
    numbers = np.concatenate([b.numbers[0] for b in batches])
    labels = np.concatenate([b.label for b in batches])
    expected = np.bincount(labels, minlength=2)
    lines = (tmp_path / "out/label_counts").read_text().split()
    assert lines == [str(n) for n in expected]
    boundaries = found.boundaries["b"]
    assert boundaries.shape == (1, 31)
    if len(dense):
        np.testing.assert_allclose(found.mean, dense.mean(axis=0), rtol=1e-7)
        np.testing.assert_allclose(found.variance, dense.var(axis=0), rtol=1e-6)
        ranks = np.searchsorted(np.sort(numbers), boundaries[0], "right")
        at = np.arange(1, 32) / 32 * len(numbers)
        assert np.abs(ranks - at).max() <= 1 + 0.002 * len(numbers)
    else:
        assert not found.mean.any()
        assert not boundaries.any()
