"""Importance, unseen ids and collisions, of a model that is a formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from components.evaluator.config import EvaluateConfig
from components.evaluator.importance import audit
from models.config.labels import Label
from models.config.training import Features
from models.errors import InputError
from tests.components.evaluator import small

FEATURES = {
    "numeric": ["price", "noise"],
    "categorical": [
        {"name": "user", "min_count": 2},
        {"name": "site", "encode": "hash", "buckets": 5},
        {"name": "age", "encode": "identity", "buckets": 9},
        {"name": "tags", "encode": "hash", "buckets": 4, "list": "|"},
        {"name": "slot", "serve": "1"},
    ],
    "crosses": [{"of": ["site", "age"], "buckets": 7}],
    "sequences": [
        {"of": "seen", "items": "user",
         "sides": [{"of": "sites", "items": "site"}, {"of": "gaps"}]}
    ],
}  # fmt: skip
SERVED = {"price": "price", "noise": "noise", "user": "user_", "site": "site",
          "age": "age", "tags": "tags", "seen": "seen", "sites": "sites",
          "gaps": "gaps"}  # fmt: skip
LISTS = ("tags", "seen", "sites")
DTYPES = {"price": tf.float32, "noise": tf.float32, "age": tf.int64}
VOCABULARY = [b"u%d" % n for n in range(20)]


def odds(columns: dict[str, Any]) -> Any:
    """Log-odds of a click, by the model; a missing price counts nothing."""
    price = tf.where(tf.math.is_nan(columns["price"]), 0.0, columns["price"])
    known = tf.reduce_any(
        tf.equal(columns["user_"][:, None], VOCABULARY[:10]), 1
    )
    tags = tf.strings.regex_full_match(columns["tags"], ".*t1.*")
    both = tf.logical_and(
        tf.equal(columns["site"], "s1"), tf.greater(columns["age"], 4)
    )
    terms = [2 * price] + [3 * tf.cast(x, tf.float32) for x in (known, tags)]
    return tf.add_n(terms) + 4 * tf.cast(both, tf.float32) - 5


class Model(tf.Module):
    """The formula, with the signatures and assets of an export."""

    @tf.function(
        input_signature=[
            {
                called: tf.TensorSpec(
                    [None], DTYPES.get(name, tf.string), called
                )
                for name, called in SERVED.items()
            }
        ]
    )
    def raw(self, columns: dict[str, Any]) -> dict[str, Any]:
        ctr, cvr = (
            tf.sigmoid(odds(columns)),
            0.1 + 0.8 * tf.sigmoid(5 * columns["noise"]),
        )
        return {"ctr": ctr, "cvr": cvr, "ctcvr": ctr * cvr}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def examples(self, examples: Any) -> dict[str, Any]:
        return {"ctr": tf.zeros([tf.size(examples)]) + 0.1}


def rows(count: int, seed: int, users: int) -> dict[str, Any]:
    """Columns whose labels are drawn by the formula."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "price": rng.random(count).astype(np.float32),
        "noise": rng.normal(size=count).astype(np.float32),
        "user": [b"u%d" % n for n in rng.integers(0, users, count)],
        "site": [b"s%d" % n for n in rng.integers(0, 8, count)],
        "age": rng.integers(0, 9, count),
        "slot": [b"%d" % n for n in rng.integers(0, 3, count)],
        "tags": [
            [b"t%d" % t for t in rng.integers(0, 6, n)] or None
            for n in rng.integers(0, 3, count)
        ],
    }
    lengths = rng.integers(0, 4, count)
    for name, text, most in (
        ("seen", b"u%d", users),
        ("sites", b"s%d", 9 - seed % 2),
    ):
        columns[name] = [
            [text % i for i in rng.integers(0, most, n)] for n in lengths
        ]
    for sites in columns["sites"][::7]:
        sites[:1] = [b""] * len(sites[:1])  # one that is missing
    columns["gaps"] = [rng.random(n).astype(np.float32) for n in lengths]
    for name in ("price", "user"):
        gone = rng.random(count) < 0.1
        columns[name] = [
            None if is_gone else value
            for value, is_gone in zip(columns[name], gone, strict=True)
        ]
    label = rng.random(count) < predicted(columns)
    bought = rng.random(count) < 0.1 + 0.8 / (1 + np.exp(-5 * columns["noise"]))
    buy = np.where(rng.random(count) < 0.2, -1, bought & label)
    labels = {"label": label.astype(np.int64), "example_label_buy": buy}
    return {**labels, **columns}


def predicted(columns: dict[str, Any]) -> Any:
    def filled(name: str) -> Any:
        missing = np.float32(np.nan) if name == "price" else b""
        return tf.constant(
            [
                missing
                if v is None or name == "gaps"
                else b"|".join(v)
                if isinstance(v, list)
                else v
                for v in columns[name]
            ],
            DTYPES.get(name, tf.string),
        )

    asked = {called: filled(name) for name, called in SERVED.items()}
    return tf.sigmoid(odds(asked)).numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Training and test rows, their files, and the model's folder."""
    home = tmp_path_factory.mktemp("importance")
    found: dict[str, Any] = {"home": home}
    for split, count, users in (("train", 600, 40), ("test", 1500, 60)):
        found[split] = rows(count, len(split), users)
        small.write(home / "examples", found[split], split)
        files = sorted((home / f"examples/Split-{split}").iterdir())
        found[f"{split}_files"] = [str(path) for path in files]
    folder = home / "model/Format-Serving"
    model = Model()
    signatures = {"serving_default": model.raw, "examples": model.examples}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    for name, text in (
        ("assets/vocab_user", b"\n".join(VOCABULARY) + b"\n"),
        ("assets/vocab_slot", b"0\n1\n2\n"),
        (
            "assets.extra/manifest.json",
            json.dumps(
                {
                    "inputs": SERVED,
                    "config": {
                        "features": Features.model_validate(
                            FEATURES
                        ).model_dump(mode="json")
                    },
                }
            ).encode(),
        ),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text)
    return found | {"model": str(folder)}


def audited(made: dict[str, Any], **settings: Any) -> dict[str, Any]:
    labels = settings.pop("labels", ())
    evaluate = {"importance": settings.pop("importance", True), **settings}
    return audit(
        made["test_files"],
        made["train_files"],
        made["model"],
        1500,
        EvaluateConfig.model_validate(evaluate),
        labels=labels,
    )


@pytest.fixture(scope="module")
def found(made: dict[str, Any]) -> dict[str, Any]:
    return audited(made, importance={"repeats": 3})


def test_what_the_model_uses_matters_and_nothing_else(
    found: dict[str, Any],
) -> None:
    by_name = {one["name"]: one for one in found["features"]}
    assert set(by_name) == set(SERVED) - {"sites", "gaps"}
    for metric in ("logloss", "auc"):
        entry = by_name["noise"][metric]
        assert [entry["value"], *entry["interval"]] == pytest.approx([0] * 3)
    for name in ("price", "user", "site", "age", "tags"):
        logloss, auc = by_name[name]["logloss"], by_name[name]["auc"]
        low, high = logloss["interval"]
        assert 0 < low < logloss["value"] < high
        assert auc["interval"][1] < 0.01 and auc["value"] < 0
    values = [one["logloss"]["value"] for one in found["features"]]
    assert values == sorted(values, reverse=True)
    assert by_name["site"]["crosses"] == by_name["age"]["crosses"]
    assert by_name["site"]["crosses"] == ["site_x_age"]
    assert by_name["price"]["crosses"] == []


def test_the_rise_is_that_of_values_dealt_to_other_rows(
    made: dict[str, Any], found: dict[str, Any]
) -> None:
    columns = made["test"]
    label, base = columns["label"], predicted(columns)
    rng = np.random.default_rng(5)
    rises = []
    for _ in range(20):
        dealt = [columns["user"][n] for n in rng.permutation(1500)]
        other = predicted({**columns, "user": dealt})
        rises.append(
            (
                log_loss(label, other) - log_loss(label, base),
                roc_auc_score(label, other) - roc_auc_score(label, base),
            )
        )
    (user,) = (one for one in found["features"] if one["name"] == "user")
    for metric, drawn in zip(
        ("logloss", "auc"), np.transpose(rises), strict=True
    ):
        away = abs(user[metric]["value"] - drawn.mean())
        assert away < 4 * drawn.std()


@pytest.mark.ci
def test_each_output_of_several_labels_has_its_own_importance(
    made: dict[str, Any],
) -> None:
    labels = (Label("click"), Label("buy", of="click"))
    found = audited(made, labels=labels)
    alone = audited(made)
    by_name = {one["name"]: one for one in found["features"]}
    for one in alone["features"]:
        beside = by_name[one["name"]]
        assert {k: beside[k] for k in one} == one  # as of the click alone
        assert "outputs" not in one
        assert list(beside["outputs"]) == ["cvr", "ctcvr"]
    cvr = {n: one["outputs"]["cvr"] for n, one in by_name.items()}
    assert max(cvr, key=lambda n: cvr[n]["logloss"]["value"]) == "noise"
    low, _ = cvr["noise"]["logloss"]["interval"]
    assert low > 0
    for name in ("price", "site"):  # cvr does not read them, ctcvr does
        assert cvr[name]["logloss"]["value"] == pytest.approx(0)
        assert by_name[name]["outputs"]["ctcvr"]["logloss"]["value"] > 0
    columns, buy = made["test"], made["test"]["example_label_buy"]
    noise = columns["noise"]
    # audit() deals each feature's values in turn, from one generator.
    rng, names = np.random.default_rng(20231123), list(SERVED)
    for _ in range(names.index("noise") + 1):
        dealt = rng.permutation(len(noise))
    rows = (buy >= 0) & (columns["label"] == 1)
    before, after = (
        log_loss(buy[rows], (0.1 + 0.8 / (1 + np.exp(-5 * x)))[rows])
        for x in (noise, noise[dealt])
    )
    assert cvr["noise"]["logloss"]["value"] == pytest.approx(
        after - before, abs=1e-5
    )


def test_unseen_ids_are_those_of_no_training_row(
    made: dict[str, Any], found: dict[str, Any]
) -> None:
    train, test = made["train"], made["test"]
    label, p = test["label"], predicted(test)
    by_name = {one["name"]: one for one in found["ids"]}
    assert found["train_rows"] == 600
    for name, one in by_name.items():

        def split(value: Any, name: str = name) -> list[Any]:
            if value is None:
                return []
            return list(filter(None, value)) if name in LISTS else [value]

        seen = {v for value in train[name] for v in split(value)}
        cold = np.array([not set(split(v)) <= seen for v in test[name]])
        assert one["unseen"] == pytest.approx(cold.mean())
        assert one["cold"]["rows"] == cold.sum()
        assert one["rest"]["positives"] == label[~cold].sum()
        for part, rows_of in (("cold", cold), ("rest", ~cold)):
            entry = one[part]["metrics"]["logloss"]
            if not rows_of.any():
                assert entry["value"] is None
                continue
            assert entry["value"] == pytest.approx(
                log_loss(label[rows_of], p[rows_of]), rel=1e-5
            )
            low, high = entry["interval"]
            assert low < entry["value"] < high
    assert by_name["user"]["unseen"] > 0.2 and by_name["age"]["unseen"] == 0
    outside = [v not in (*VOCABULARY, None) for v in test["user"]]
    assert by_name["user"]["out_of_vocabulary"] == pytest.approx(
        np.mean(outside)
    )
    assert by_name["site"]["out_of_vocabulary"] is None
    outside = [not set(items) <= set(VOCABULARY) for items in test["seen"]]
    assert by_name["seen"]["out_of_vocabulary"] == pytest.approx(
        np.mean(outside)
    )
    assert by_name["seen"]["unseen"] > 0.2
    assert by_name["sites"]["unseen"] > 0 == by_name["site"]["unseen"]


def test_values_that_share_a_bucket_are_counted(
    made: dict[str, Any], found: dict[str, Any]
) -> None:
    train = made["train"]
    sites = set(train["site"])
    tags = {t for value in train["tags"] for t in value or ()}
    crossed = {
        b"%s\x1f%d" % (site, age + 1)
        for site, age in zip(train["site"], train["age"], strict=True)
    }
    assert len(found["collisions"]) == 3
    for one in found["collisions"]:
        values, buckets = {
            "site": (sites, 5),
            "tags": (tags, 4),
            "site_x_age": (crossed, 7),
        }[one["name"]]
        of = tf.strings.to_hash_bucket_fast(sorted(values), buckets).numpy()
        counts = np.bincount(of)
        assert one == {
            "name": one["name"],
            "buckets": buckets,
            "values": len(values),
            "used": int((counts > 0).sum()),
            "shared": int(counts[counts > 1].sum()),
        }


def test_a_sample_is_bounded_and_grouped(made: dict[str, Any]) -> None:
    found = audited(made, importance={"rows": 400}, group="user")
    assert (found["rows"], found["of"], found["repeats"]) == (400, 1500, 1)
    assert found == audited(made, importance={"rows": 400}, group="user")
    (user,) = (one for one in found["ids"] if one["name"] == "user")
    assert user["cold"]["rows"] + user["rest"]["rows"] == 400
    assert 0.2 < user["unseen"] < 0.5


def test_it_stands_in_the_evaluation_only_where_it_is_asked_for(
    made: dict[str, Any], tmp_path: Path
) -> None:
    from tfx.types import artifact_utils, standard_artifacts

    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    examples.uri = str(made["home"] / "examples")
    names = ["train", "test"]
    examples.split_names = artifact_utils.encode_split_names(names)
    model.uri = str(made["home"] / "model")
    for asked in (True, False):
        evaluation, _ = small.evaluated(
            tmp_path / str(asked),
            examples,
            [model],
            {"importance": asked, "too_few": "pass"},
            split="test",
        )
        assert ("importance" in small.read(evaluation)) == asked


def test_a_model_of_elsewhere_is_named(
    made: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"evaluate.importance: .*manifest"):
        audited({**made, "model": str(tmp_path)})
