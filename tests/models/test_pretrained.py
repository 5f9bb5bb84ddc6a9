"""Pretrained embeddings: read from every format, frozen, and trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.checkpointing.saved_state import (
    Meaning,
    columns_of,
    optimizer_names,
    save,
)
from models.checkpointing.warm_start import Base
from models.config.features import Features
from models.config.training import ModelConfig
from models.config.vectors import Pretrained
from models.contracts import rows
from models.errors import InputError
from models.preprocessing import pretrained as files
from models.preprocessing.id_space import keys_of
from models.preprocessing.input_layout import Layout, layout
from models.training import pretrained
from optimizers.registry import build_optimizer

VALUES = ["1", "ü", "b"]
VECTORS = np.array([[1, 2.5], [-1, 0], [3, 1e-3]], np.float32)
SPEC = {"name": "lion", "learning_rate": 0.01, "weight_decay": 0.1}


def parquet(folder: Path) -> dict[str, str]:
    vectors = VECTORS.astype(np.float64).tolist()
    table = pa.table({"v": vectors, "ad": VALUES})
    pq.write_table(table, folder / "a.parquet")
    return {"path": f"{folder}/a.parquet", "key": "ad"}


def columns(folder: Path) -> dict[str, str]:
    table = pa.table({"ad": VALUES, "v0": VECTORS[:, 0], "v1": VECTORS[:, 1]})
    pq.write_table(table, folder / "b.parquet")
    return {"path": f"{folder}/b.parquet"}


def csv(folder: Path) -> dict[str, str]:
    (folder / "a.csv").write_text("ad,x,y\n1,1,2.5\nü,-1,0\nb,3,1e-3\n")
    return {"path": f"{folder}/a.csv"}


def tsv(folder: Path) -> dict[str, str]:
    (folder / "a.tsv").write_text("ad\tv\n1\t1,2.5\nü\t-1,0\nb\t3,1e-3\n")
    return {"path": f"{folder}/a.tsv", "key": "ad"}


def npy(folder: Path) -> dict[str, str]:
    np.save(folder / "a.npy", VECTORS.astype(np.float16).astype(np.float64))
    (folder / "ids").write_text("\n".join(VALUES) + "\n")
    return {"path": f"{folder}/a.npy", "ids": f"{folder}/ids"}


@pytest.mark.parametrize("write", [parquet, columns, csv, tsv, npy])
def test_every_format_gives_the_same(
    tmp_path: Path, write: Callable[[Path], dict[str, str]]
) -> None:
    config = Pretrained.model_validate(write(tmp_path))
    values, vectors = files.read(config)
    assert values.to_pylist() == [value.encode() for value in VALUES]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, VECTORS, rtol=1e-3)
    width = None if config.path[-3:] in ("csv", "tsv") else 2
    assert files.width(config) == width


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ad,v\n1,nan\n", "'1' is not of finite"),
        ("ad,v\n1,x\n", "cannot be read"),
        ("ad\n1\n", "no column beside 'ad'"),
        ('ad,v\n1,"1,2"\n2,"1"\n', "one length"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    config = Pretrained.model_validate(str(path))
    with pytest.raises(InputError, match=r"a\.csv") as error:
        files.read(config)
    assert words in str(error.value)


def features(
    settings: dict[str, Any], dim: int = 2, other: int = 2
) -> Features:
    return Features.model_validate(
        {
            "numeric": ["x"],
            "categorical": [
                {"name": "ad", "dim": dim, "pretrained": settings},
                {"name": "site", "encode": "hash", "buckets": 9, "dim": other},
            ],
        }
    )


class Run:
    """A model, and its optimizer, over a vocabulary of ads."""

    def __init__(
        self, settings: dict[str, Any], ads: list[str], other: int = 2
    ) -> None:
        self.features = features(settings, other=other)
        self.shape: Layout = layout(self.features, lambda _: len(ads))
        text = "\n".join(ads).encode()
        self.meaning = Meaning(
            keys_of(self.features, {f.name: f.size for f in self.shape.ids}),
            lambda _: text,
            columns_of(self.shape),
            optimizer_names(SPEC),
        )
        self.model = build_model(
            self.shape, ModelConfig(name="dcn_v2", hidden=(4,)), 0.3
        )
        self.optimizer = build_optimizer(SPEC, 10, 3, 0)
        self.optimizer.build(self.model.trainable_variables)
        self.before = self.ads()

    def ads(self) -> np.ndarray:
        """Embeddings of the ads, "missing" first, unseen last."""
        places = [
            place
            for layer in self.model.deep.tables
            for place in ((layer.lookup, layer.table), layer.fixed)
        ]
        for lookup, table in places:
            if lookup is not None and "ad" in lookup.first:
                first = lookup.first["ad"]
                size = self.shape.ids[0].size
                return np.array(table.numpy()[first : first + size])
        raise AssertionError

    def give(self, fresh: Any = None) -> pretrained.Coverage:
        (found,) = pretrained.give(
            self.model, self.features, self.meaning.text, fresh or {}
        )
        return found

    def train(self) -> None:
        batch = rows.inputs(self.shape, 200)
        weights = [w.value for w in self.model.trainable_variables]
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.model(batch, training=True) ** 2)
            self.optimizer.apply(
                tape.gradient(loss, weights), self.model.trainable_variables
            )


@pytest.mark.parametrize(
    ("frozen", "other"), [(True, 2), (True, 3), (False, 2)]
)
def test_vectors_are_kept_or_trained_on(
    tmp_path: Path, frozen: bool, other: int
) -> None:
    settings = {**npy(tmp_path), "frozen": frozen}
    run = Run(settings, ["b", "new", "1"], other)
    found = run.give()
    assert (found.values, found.covered, found.given) == (3, 2, 2)
    given = run.ads()
    expected = run.before.copy()  # zeros, where they are frozen
    assert expected.any() != frozen
    expected[[1, 3]] = VECTORS.astype(np.float16)[[2, 0]]
    np.testing.assert_array_equal(given, expected)
    run.train()
    assert np.array_equal(run.ads(), given) == frozen


def test_a_warm_start_reads_vectors_of_new_values_alone(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = csv(tmp_path)
    old = Run(settings, ["b", "gone"])
    old.give()
    old.train()
    save(str(tmp_path / "state"), old.model, old.optimizer, old.meaning)
    new = Run(settings, ["ü", "b"])
    base = Base(str(tmp_path / "state"))
    report = base.carry(new.model, new.optimizer, new.meaning)
    found = new.give(base.fresh(new.model, new.meaning, report))
    assert (found.covered, found.given) == (2, 1)
    np.testing.assert_array_equal(new.ads()[1], VECTORS[1])
    np.testing.assert_array_equal(new.ads()[2], old.ads()[1])
    frozen = Run({**settings, "frozen": True}, ["ü", "x"])
    report = base.carry(frozen.model, frozen.optimizer, frozen.meaning)
    frozen.give(base.fresh(frozen.model, frozen.meaning, report))
    expected = np.zeros((4, 2))
    expected[1] = VECTORS[1]
    np.testing.assert_array_equal(frozen.ads(), expected)


def test_another_width_is_told_with_the_one_to_give(tmp_path: Path) -> None:
    model = build_model(
        layout(features(csv(tmp_path), dim=3), lambda _: 1),
        ModelConfig(hidden=(4,)),
        0.3,
    )
    with pytest.raises(InputError, match="Accepted: dim: 2"):
        pretrained.give(
            model, features(csv(tmp_path), dim=3), lambda _: b"b", {}
        )
