"""Learned rows go where their value is now, whatever the vocabularies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architectures.registry import build_model
from models.checkpointing.checkpoint import DamagedError
from models.checkpointing.saved_state import (
    Meaning,
    columns_of,
    optimizer_names,
    save,
)
from models.checkpointing.warm_start import Base
from models.config.admission import Admission
from models.config.architectures import ModelConfig
from models.config.training import Features, Negatives
from models.errors import InputError
from models.keras_versions import keras_version, start_afresh
from models.preprocessing.admission import SEEN, Ledger, update
from models.preprocessing.id_space import Keys, keys_of, match
from models.preprocessing.input_layout import Layout, asset_name, layout
from models.preprocessing.vocabulary import Vocabulary
from models.variables import named_variables
from optimizers.registry import build_optimizer, learning_rates

words = st.lists(st.binary(min_size=1, max_size=2), unique=True, max_size=12)
LION = {
    "name": "lion",
    "sparse": "decayed",
    "frequency_power": 0.35,
    "learning_rate": 0.01,
}
WITH_SLOTS = ("lion/?_momentum", "lion/?_last_step", "lion/?_seen")
ROWS = ("table", "_momentum", "_last_step", "_seen")
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
ALL = Negatives()
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
        negatives: Negatives = ALL,
        **model: Any,
    ) -> None:
        self.features = Features.model_validate(features)
        self.read: Counter[str] = Counter()
        self.lines = lines = {
            asset_name(f): vocabularies[f.rows]
            for f in self.features.categorical
            if f.encode == "vocab"
        }
        shape: Layout = layout(self.features, lambda name: len(lines[name]))
        config = ModelConfig.model_validate({"hidden": [6], **model})
        start_afresh(1)
        self.model = build_model(shape, config, 0.2)
        self.optimizer = build_optimizer(
            spec, 10, keras_version(self.model), first_step
        )
        self.optimizer.build(self.model.trainable_variables)
        self.meaning = Meaning(
            keys_of(self.features, {f.name: f.size for f in shape.ids}),
            self.text,
            columns_of(shape),
            optimizer_names(spec),
            negatives.shift,
        )
        # Interactions of DCN and DLRM leave single ids to the deep part.
        self.whole_wide = config.name == "wide_deep"
        rng = np.random.default_rng(seed)
        named = named_variables(self.model, self.optimizer)
        for name, variable in named.items():
            if tf.as_dtype(variable.dtype).is_integer:
                variable.assign(rng.integers(1, 99, variable.shape))
            elif not name.endswith("learning_rate"):
                variable.assign(rng.random(variable.shape))

    def text(self, vocabulary: str) -> bytes:
        """Its values, a line each."""
        self.read[vocabulary] += 1
        return b"\n".join(self.lines[vocabulary])

    def bias(self) -> float:
        return float(self.model.deep.out.bias.numpy()[0])

    def step(self, gradient: float) -> None:
        """One, with this gradient of the output's bias and none of others."""
        variables = self.model.trainable_variables
        bias = self.model.deep.out.bias
        self.optimizer.apply_gradients(
            (tf.fill(v.shape, gradient if v is bias else 0.0), v)
            for v in variables
        )

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
    names = ["user", "h", "i", "friend", "n", "user_x_h", "tags"]
    if table == "wide":
        names = names if trained.whole_wide else ["user_x_h"]
    else:
        dims = {"user": 4, "h": 4, "i": 8, "tags": 8, "n": 16}
        width = int(table.removeprefix("embedding_"))
        names = [n for n in names if dims.get(n) == width]
        feature = {"friend": "user"}.get(feature, feature)
    sizes = {name: keys.size for name, keys in trained.meaning.keys.items()}
    return sum(sizes[n] for n in names[: names.index(feature)]) + id


@pytest.mark.parametrize(
    ("model", "spec", "slots"),
    [
        ("wide_deep", LION, WITH_SLOTS),
        ("tfrs_dcn", LION, ("m/?", "last_step/?", "seen/?")),
        ("tfrs_dlrm", LION, ("m/?", "last_step/?", "seen/?")),
        ("tfrs_dlrm", {"name": "adafactor"}, ("r/?", "v/?")),
    ],
)
def test_every_row_and_slot_goes_where_its_value_is_now(
    tmp_path: Path, model: str, spec: dict[str, Any], slots: tuple[str, ...]
) -> None:
    old = Trained(OLD, 1, spec, name=model)
    new = Trained(NEW, 2, spec, name=model)
    before, fresh = old.values(), new.values()
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    # `user` and `friend` have one vocabulary.
    assert old.read == new.read == {"vocab_user": 1, "vocab_tags": 1}
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
        "wide": list(pairs) if new.whole_wide else ["user_x_h"],
        "embedding_4": ["user", "h", "friend"],
        "embedding_8": ["i", "tags"],
        "embedding_16": ["n"],
    }
    for table, features in tables.items():
        of = "wide" if table == "wide" else f"deep/{table}"
        path = f"{of}/table"
        of_slot = path.replace("/", "_") if model == "wide_deep" else path
        for name in (
            f"model/{path}",
            *("optimizer/" + slot.replace("?", of_slot) for slot in slots),
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
        if (
            "table" not in name or name.startswith("optimizer/c/")
        ) and not name.endswith("learning_rate"):
            np.testing.assert_array_equal(found[name], values, name)
    if spec is LION:
        assert learning_rates(new.optimizer) == {"lion": pytest.approx(0.01)}
    assert report.features["user"] == {"kept": 2, "new": 2, "gone": 1}
    assert report.features["tags"] == {"kept": 1, "new": 0, "gone": 1}
    assert report.features["user_x_h"] == {"kept": 7, "new": 0, "gone": 0}
    assert report.initialised == [] and report.left == []


@pytest.mark.parametrize("name", ["din", "bst"])
def test_a_history_reads_the_rows_of_its_items_after_a_warm_start(
    tmp_path: Path, name: str
) -> None:
    sequence = {"of": "seen", "items": "user", "sides": [{"of": "gaps"}]}
    features = {
        "categorical": [{"name": "user", "dim": 4}],
        "sequences": [{**sequence, "max_len": 3}],
    }
    old = Trained({"user": OLD["user"]}, 1, features=features, name=name)
    new = Trained({"user": NEW["user"]}, 2, features=features, name=name)
    before = old.values()
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    # One vocabulary, which is read once, and one set of rows.
    assert old.read == new.read == {"vocab_user": 1}
    counts = {"kept": 2, "new": 2, "gone": 1}
    assert report.features == {"user": counts, "seen": counts}
    assert report.initialised == [] and report.left == []
    found = new.values()
    for path in ("model/deep/embedding_4/table",
                 "optimizer/lion/deep_embedding_4_table_momentum"):  # fmt: skip
        for then, now in ((0, 0), (1, 3), (3, 2), (4, 5)):
            np.testing.assert_array_equal(found[path][now], before[path][then])
    for path, values in before.items():
        if path.startswith("model/") and not path.endswith("/table"):
            np.testing.assert_array_equal(found[path], values, path)

    def asked(ids: dict[str, int]) -> Any:
        """Logits of a user c, after a, and after c and a."""
        seen = tf.ragged.constant([[ids["a"]], [ids["c"], ids["a"]]], tf.int64)
        gaps = tf.ragged.constant([[1.0], [1.0, 2.0]])
        user = tf.constant([[ids["c"]], [ids["c"]]], tf.int64)
        return {"ids": user, "list_seen": seen, "numbers_gaps": gaps}

    np.testing.assert_allclose(
        new.model(asked({"a": 3, "c": 2})),
        old.model(asked({"a": 1, "c": 3})),
        rtol=1e-5,
    )


def test_a_schedule_begins_anew_where_the_optimizer_goes_on(
    tmp_path: Path,
) -> None:
    spec = LION | {"schedule": {"name": "linear", "warmup": 2}}
    old = Trained(OLD, 1, spec)
    steps = int(old.optimizer.iterations.numpy())
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    base = Base(str(tmp_path))
    assert base.steps(old.model, old.meaning) == steps > 0
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
    assert base.steps(new.model, new.meaning) == 0
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


@pytest.mark.parametrize(
    "names", [("tfrs_dcn", "dcn_v2"), ("dlrm", "tfrs_dlrm")]
)
def test_between_two_kerases_the_optimizer_begins_anew(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    before, now = names
    old = Trained(OLD, 1, name=before)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    base = Base(str(tmp_path))
    new = Trained(NEW, 2, name=now)
    assert base.steps(new.model, new.meaning) == 0
    fresh = new.values()
    report = base.carry(new.model, new.optimizer, new.meaning)
    found = new.values()
    slots = [name for name in found if name.startswith("optimizer/")]
    for name in slots:
        np.testing.assert_array_equal(found[name], fresh[name], name)
    assert report.carried and not set(slots) - {
        *report.initialised,
        *(name for name in slots if name.endswith("learning_rate")),
    }


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


def test_a_slot_without_the_name_of_its_table_begins_anew(
    tmp_path: Path,
) -> None:
    old = Trained(OLD, 1, {"name": "adafactor"})
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    new = Trained(OLD, 2, {"name": "adafactor"})
    before, fresh = old.values(), new.values()
    Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    found = new.values()
    nameless = [name for name in found if "/adafactor/table" in name]
    assert len(nameless) == 8  # of rows and of columns, four tables
    for name in nameless:
        np.testing.assert_array_equal(found[name], fresh[name], name)
    wide = "optimizer/adafactor/wide_table_velocity"
    np.testing.assert_array_equal(found[wide], before[wide])


@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dcn"])
@pytest.mark.parametrize("name", ["ftrl", "adam"])
def test_the_bias_is_that_of_negatives_as_they_are_sampled_now(
    tmp_path: Path, model: str, name: str
) -> None:
    spec = {"name": name, "learning_rate": 1.0 if name == "ftrl" else 1e-9}
    spec |= {"use_ema": True} if name == "adam" else {}
    old = Trained(OLD, 1, spec, negatives=Negatives(keep=0.25), name=model)
    bias = old.bias()
    for _ in range(3):  # FTRL computes weights from its slots
        old.step(0.7)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    new = Trained(OLD, 2, spec, name=model)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    moved = math.log(0.25)  # p / (1 - p) = keep · q / (1 - q)
    assert report.bias_moved == pytest.approx(moved)
    assert new.bias() == pytest.approx(old.bias() + moved)
    new.step(0.0)
    assert new.bias() == pytest.approx(old.bias() + moved)
    if name == "adam":
        path = "adam/deep_out_bias_average"
        path = path if model == "wide_deep" else "average/deep/out/bias"
        expected = 0.99 * (old.values()[f"optimizer/{path}"] + moved)
        expected += 0.01 * new.bias()
        assert new.values()[f"optimizer/{path}"] == pytest.approx(expected)
    assert (bias != old.bias()) == (name == "ftrl")


def test_reweighted_negatives_need_no_other_bias(tmp_path: Path) -> None:
    sampled = Negatives(keep=0.25, reweight=True)
    old = Trained(OLD, 1, negatives=sampled)
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    new = Trained(OLD, 2)
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    assert report.bias_moved == 0
    assert new.bias() == old.bias()


def test_without_a_known_bias_it_warns_that_predictions_are_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = Trained(OLD, 1, negatives=Negatives(keep=0.25))
    save(str(tmp_path), old.model, old.optimizer, old.meaning)
    new = Trained(OLD, 2)
    monkeypatch.setattr(
        "models.checkpointing.warm_start.OUTPUT", "model/unknown"
    )
    report = Base(str(tmp_path)).carry(new.model, new.optimizer, new.meaning)
    assert report.bias_moved == 0 and new.bias() == old.bias()
    assert "the odds that are predicted begin 4 times as high" in caplog.text


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


def test_a_state_is_whole_with_the_folders_beside_it_or_not_at_all(
    tmp_path: Path,
) -> None:
    old = Trained(OLD, 1)
    ledgers, state = tmp_path / "ledgers", tmp_path / "state"
    ledgers.mkdir()
    for text in ("one", "two"):
        (ledgers / f"{text}.arrow").write_text(text)
        beside = {"ledgers": str(ledgers)}
        save(str(state), old.model, old.optimizer, old.meaning, beside)
        Base(str(state))
        copied = {p.name: p.read_text() for p in state.glob("ledgers/*")}
        assert copied == {f"{text}.arrow": text}
        (ledgers / f"{text}.arrow").unlink()
    ledgers.rmdir()
    with pytest.raises(tf.errors.NotFoundError):
        save(str(state), old.model, old.optimizer, old.meaning, beside)
    with pytest.raises(FileNotFoundError):
        Base(str(state))


def test_rows_of_three_days_stay_come_and_go_with_their_slots(
    tmp_path: Path,
) -> None:
    """Values that the ledger keeps are carried bit for bit."""
    asked = Admission(days=2, evict_after=2)
    rule = Vocabulary("vocab_user", 3, 1000, asked)
    features = {
        "categorical": [
            {"name": "user", "dim": 4, "min_count": 3, "admission": 2}
        ]
    }
    logs: list[dict[bytes, int]] = [
        {b"a": 9, b"b": 5, b"c": 2},
        {b"b": 4, b"c": 1, b"d": 3},  # c: three in two days; a stays
        {b"b": 1, b"d": 7, b"e": 2},  # a is gone; e waits
    ]
    expected = [{b"a", b"b"}, {b"a", b"b", b"c", b"d"}, {b"b", b"c", b"d"}]
    ledger, before = Ledger(), None
    for day, seen in enumerate(logs):
        whole = {**seen, b"": sum(seen.values())}
        numbers = list(whole.values())
        counts = pa.table(
            [list(whole), [day] * len(whole), numbers, numbers], schema=SEEN
        )
        ledger, values, _ = update(ledger, counts, rule)
        assert set(values) == expected[day]
        today = Trained({"user": values}, day, features=features)
        fresh = today.values()
        if before is not None:
            report = Base(str(tmp_path / str(day - 1))).carry(
                today.model, today.optimizer, today.meaning
            )
            old, now = expected[day - 1], expected[day]
            assert report.features["user"] == {
                "kept": len(old & now),
                "new": len(now - old),
                "gone": len(old - now),
            }
            found, was = today.values(), before.values()
            lines = before.lines["vocab_user"]
            for path, table in was.items():
                if "table" not in path or not path.endswith(ROWS):
                    continue
                rows = 2 + len(values)  # missing, and what has no row
                assert len(found[path]) == rows
                for id, value in enumerate(values, 1):
                    if value in lines:
                        other = table[1 + lines.index(value)]
                    elif path.startswith("model/"):
                        other = table[1 + len(lines)]
                    else:
                        other = fresh[path][id]
                    np.testing.assert_array_equal(found[path][id], other, path)
        save(
            str(tmp_path / str(day)),
            today.model,
            today.optimizer,
            today.meaning,
        )
        before = today
