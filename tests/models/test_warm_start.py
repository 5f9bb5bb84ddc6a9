"""What was learned goes where its value is now, whatever the vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import DamagedError, named_variables
from models.config import Features
from models.errors import InputError
from models.keys import Keys, keys_of, match
from models.layout import Layout, asset_name, layout
from models.model_config import ModelConfig
from models.registry import build_model
from models.state import Meaning, columns_of, optimizer_names, save
from models.warm_start import Base
from optimizers.registry import build_optimizer, learning_rates

words = st.lists(st.binary(min_size=1, max_size=2), unique=True, max_size=12)
LION = {"name": "lion", "sparse": "decayed", "learning_rate": 0.01}
FEATURES: dict[str, Any] = {
    "numeric": ["x", {"name": "n", "transform": "buckets", "buckets": 4}],
    "categorical": [
        {"name": "user", "dim": 4, "oov_buckets": 2},
        {"name": "h", "encode": "hash", "buckets": 5, "dim": 4},
        {"name": "i", "encode": "identity", "buckets": 3, "dim": 8},
        {"name": "tags", "list": "|", "dim": 8},
        {"name": "friend", "table": "user", "dim": 4, "oov_buckets": 2},
    ],
    "crosses": [{"of": ["user", "h"], "buckets": 7}],
}
OLD = {"user": [b"a", b"b", b"c"], "tags": [b"x", b"y"]}
NEW = {"user": [b"d", b"c", b"a", b"e"], "tags": [b"y"]}


class Trained:
    """A model and its optimizer, with a value of its own in every place."""

    def __init__(
        self,
        vocabularies: Mapping[str, list[bytes]],
        seed: int,
        spec: dict[str, Any] = LION,
        features: dict[str, Any] = FEATURES,
        first_step: int = 0,
        **model: Any,
    ) -> None:
        self.features = Features.model_validate(features)
        lines = {
            asset_name(f): vocabularies[f.rows]
            for f in self.features.categorical
            if f.encode == "vocab"
        }
        shape: Layout = layout(self.features, lambda name: len(lines[name]))
        config = ModelConfig.model_validate({"hidden": [6], **model})
        keras.utils.clear_session()
        self.model = build_model(shape, config, 0.2)
        self.optimizer = build_optimizer(spec, 10, first_step=first_step)
        self.optimizer.build(self.model.trainable_variables)
        self.meaning = Meaning(
            keys_of(self.features, {f.name: f.size for f in shape.ids}),
            lines.__getitem__,
            columns_of(shape),
            optimizer_names(spec),
        )
        rng = np.random.default_rng(seed)
        for variable in named_variables(self.model, self.optimizer).values():
            if "int" in variable.dtype:
                variable.assign(rng.integers(1, 99, variable.shape))
            elif not variable.path.endswith("learning_rate"):
                variable.assign(rng.random(variable.shape))

    def values(self) -> dict[str, Any]:
        return {
            name: variable.numpy()
            for name, variable in named_variables(
                self.model, self.optimizer
            ).items()
        }


@given(old=words, new=words, oov=st.tuples(*[st.integers(1, 3)] * 2))
@settings(max_examples=200, deadline=None)
def test_ids_are_matched_by_their_values(
    old: list[bytes], new: list[bytes], oov: tuple[int, int]
) -> None:
    found = match(
        Keys("vocab", 1 + len(old) + oov[0], oov[0]),
        Keys("vocab", 1 + len(new) + oov[1], oov[1]),
        lambda: (old, new),
    )
    today = {value: 1 + i for i, value in enumerate(new)}
    roles = [1 + len(new) + i for i in range(oov[1])]
    expected = [0, *(today.get(value, -1) for value in old)]
    expected += roles if oov[0] == oov[1] else [-1] * oov[0]
    assert found.ids.tolist() == expected
    fresh = [today[value] for value in new if value not in old]
    fresh += [] if oov[0] == oov[1] else roles
    assert found.new.tolist() == fresh
    assert found.counts == {
        "kept": len(set(old) & set(new)),
        "new": len(set(new) - set(old)),
        "gone": len(set(old) - set(new)),
    }


def row(trained: Trained, table: str, feature: str, id: int) -> int:
    """By the features' order in a table; shared rows come once."""
    wide = table == "wide"
    names = ["user", "h", "i", "friend", "n", "user_x_h", "tags"]
    if not wide:
        dims = {"user": 4, "h": 4, "i": 8, "tags": 8, "n": 16}
        width = int(table.removeprefix("embedding_"))
        names = [n for n in names if dims.get(n) == width]
        feature = {"friend": "user"}.get(feature, feature)
    sizes = {name: keys.size for name, keys in trained.meaning.keys.items()}
    return sum(sizes[n] for n in names[: names.index(feature)]) + id


def test_every_row_and_slot_goes_where_its_value_is_now(
    tmp_path: Path,
) -> None:
    old, new = Trained(OLD, 1), Trained(NEW, 2)
    before, fresh = old.values(), new.values()
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    found = new.values()
    pairs = {  # feature -> id before, id now
        "user": [(0, 0), (1, 3), (3, 2), (4, 5), (5, 6)],
        "h": [(i, i) for i in range(6)],
        "i": [(i, i) for i in range(4)],
        "n": [(i, i) for i in range(5)],
        "tags": [(0, 0), (2, 1), (3, 2)],
        "user_x_h": [(i, i) for i in range(7)],
    }
    pairs["friend"] = pairs["user"]
    tables = {
        "wide": list(pairs),
        "embedding_4": ["user", "h", "friend"],
        "embedding_8": ["i", "tags"],
        "embedding_16": ["n"],
    }
    for table, features in tables.items():
        part = "" if table == "wide" else "deep_"
        path = f"{part}{table}_table"
        for name in (
            f"model/{path.replace('deep_', 'deep/').replace('_t', '/t')}",
            f"optimizer/lion/{path}_momentum",
            f"optimizer/lion/{path}_last_step",
        ):
            expected = fresh[name].copy()
            for feature in features:
                for then, now in pairs[feature]:
                    expected[row(new, table, feature, now)] = before[name][
                        row(old, table, feature, then)
                    ]
                if name.startswith("model/") and feature in ("user", "friend"):
                    for now in (1, 4):  # d and e: the mean of what had no row
                        expected[row(new, table, feature, now)] = np.mean(
                            [
                                before[name][row(old, table, feature, oov)]
                                for oov in (4, 5)
                            ],
                            axis=0,
                        )
            np.testing.assert_allclose(
                found[name], expected, 1e-6, err_msg=name
            )
    for name, values in before.items():
        if "table" not in name and not name.endswith("learning_rate"):
            np.testing.assert_array_equal(found[name], values, name)
    assert found["optimizer/lion/learning_rate"] == np.float32(0.01)
    assert report.features["user"] == {"kept": 2, "new": 2, "gone": 1}
    assert report.features["tags"] == {"kept": 1, "new": 0, "gone": 1}
    assert report.features["user_x_h"] == {"kept": 7, "new": 0, "gone": 0}
    assert report.initialised == [] and report.left == []


def test_a_schedule_begins_anew_where_the_optimizer_goes_on(
    tmp_path: Path,
) -> None:
    spec = LION | {"schedule": {"name": "linear", "warmup": 2}}
    old = Trained(OLD, 1, spec)
    steps = int(old.optimizer.iterations.numpy())
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    base = Base(str(tmp_path))
    assert base.steps(old.meaning) == steps > 0
    new = Trained(NEW, 2, spec, first_step=steps)
    base.carry(new.model, new.optimizer, new.meaning)
    assert int(new.optimizer.iterations.numpy()) == steps
    assert learning_rates(new.optimizer) == {"lion": pytest.approx(0.005)}


def test_another_architecture_and_optimizer_keep_what_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Trained(OLD, 1)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    base = Base(str(tmp_path))
    new = Trained(NEW, 2, {"name": "adam"}, hidden=[6, 5])
    assert base.steps(new.meaning) == 0
    before, fresh = old.values(), new.values()
    report = base.carry(new.model, new.optimizer, new.meaning)
    found = new.values()
    kernel = "model/deep/hidden_0/kernel"
    np.testing.assert_array_equal(found[kernel], before[kernel])
    for name in report.initialised:
        np.testing.assert_array_equal(found[name], fresh[name], name)
    assert [n for n in report.initialised if n.startswith("model/")] == [
        "model/deep/hidden_1/kernel",
        "model/deep/hidden_1/bias",
        "model/deep/out/kernel",
    ]
    assert "optimizer/adam/iteration" in report.initialised
    assert "optimizer/lion/wide_table_momentum" in report.left
    assert "the optimizer was lion" in caplog.text


def test_layers_begin_anew_where_their_inputs_have_moved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Trained(OLD, 1)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    moved = {**FEATURES, "categorical": FEATURES["categorical"][::-1]}
    new = Trained(OLD, 2, features=moved)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    assert "model/deep/hidden_0/kernel" in report.initialised
    assert "model/wide/table" not in report.initialised
    assert "user" in caplog.text and "another place" in caplog.text


def test_a_model_without_anything_in_common_is_refused(tmp_path: Path) -> None:
    old = Trained(OLD, 1)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    other = {"numeric": ["other", "another"]}
    new = Trained({}, 2, features=other, hidden=[])
    with pytest.raises(InputError, match="warm_start: nothing of the model"):
        Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    old = Trained(OLD, 1)
    with pytest.raises(FileNotFoundError):
        Base(str(tmp_path))
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    (arrays,) = tmp_path.glob("step-*/arrays.bin")
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 1
    arrays.write_bytes(data)
    with pytest.raises(DamagedError, match="checksum"):
        Base(str(tmp_path))
