"""Features that only training sees: constants of the exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from components.evaluator.config import EvaluateConfig
from components.evaluator.evaluation import evaluate
from components.evaluator.predictions import predictions
from models.config.features import Features
from models.export import AS_LOGGED, Served, export, export_id
from tests.examples import example

SPEC = {"place": tf.string, "user": tf.string, "age": tf.float32}
SPEC |= {"slot": tf.int64}


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return lambda raw: raw

    def raw_feature_spec(self) -> dict[str, Any]:
        return {name: tf.io.VarLenFeature(t) for name, t in SPEC.items()}


class Model:
    """The logit is a sum that tells every value of the row apart."""

    def __call__(self, inputs: dict[str, Any], training: bool) -> tf.Tensor:
        dense = {
            name: value.to_tensor() if hasattr(value, "to_tensor") else value
            for name, value in inputs.items()
        }
        rows = inputs["user"].bounding_shape()[0]

        def one(name: str, of: Any) -> tf.Tensor:
            wide = tf.pad(of(dense[name]), [[0, 0], [0, 1]])
            return tf.reshape(wide[:, 0], [rows])

        return (
            one("place", lambda t: tf.cast(t == "top", tf.float32))
            + 0.25 * one("user", lambda t: tf.cast(t == "u", tf.float32))
            + 0.1 * one("age", lambda t: t)
            + 0.01 * one("slot", lambda t: tf.cast(t, tf.float32))
        )


ROWS = [
    example(label=1, place="top", user="u", age=3.0, slot=4),
    example(label=0, place="side", user="w", age=None, slot=None),
    example(label=0, place=None, user="u", age=1.0, slot=2),
]
LOGGED = [1 + 0.25 + 0.3 + 0.04, 0.0, 0.25 + 0.1 + 0.02]


def features(**serve: Any) -> Features:
    """The features, with `serve` of some."""

    def one(name: str, **more: Any) -> dict[str, Any]:
        given = {"serve": serve[name]} if name in serve else {}
        return {"name": name, **more, **given}

    return Features.model_validate(
        {
            "numeric": [one("age")],
            "categorical": [
                one("place"),
                one("user"),
                one("slot", encode="identity", buckets=9),
            ],
        }
    )


def exported(folder: Path, **serve: Any) -> Any:
    path = str(folder / "m")
    export(Served(Model(), Transform(), features(**serve)), path, {})
    return tf.saved_model.load(path)


@pytest.mark.parametrize(
    ("serve", "served"),
    [
        ({"place": "top"}, [1.59, 1.0, 1.37]),
        ({"place": "side"}, [0.59, 0.0, 0.37]),
        ({"place": "missing"}, [0.59, 0.0, 0.37]),
        ({"place": "top", "age": 2.0}, [1.49, 1.2, 1.47]),
        ({"age": "missing"}, [1.29, 0.0, 0.27]),
        ({"slot": 8}, [1.63, 0.08, 0.43]),
        ({"slot": "missing", "place": "top"}, [1.55, 1.0, 1.35]),
    ],
)
def test_a_request_without_the_feature_gets_the_constant(
    tmp_path: Path, serve: dict[str, Any], served: list[float]
) -> None:
    signatures = exported(tmp_path, **serve).signatures
    expected = 1 / (1 + np.exp(-np.array(served)))
    rows = tf.constant(ROWS)
    found = signatures["examples"](examples=rows)["ctr"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    logged = signatures[AS_LOGGED](examples=rows)["ctr"]
    np.testing.assert_allclose(logged, 1 / (1 + np.exp(-np.array(LOGGED))))

    raw = {
        "place": tf.constant(["top", "side", ""]),
        "user": tf.constant(["u", "w", "u"]),
        "age": tf.constant([3.0, np.nan, 1.0]),
        "slot": tf.constant([4, -1, 2], tf.int64),
    }
    raw = {name: value for name, value in raw.items() if name not in serve}
    _, arguments = signatures["serving_default"].structured_input_signature
    assert set(arguments) == set(raw)
    found = signatures["serving_default"](**raw)["ctr"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_such_feature_no_such_signature(tmp_path: Path) -> None:
    assert set(exported(tmp_path).signatures) == {"examples", "serving_default"}


def test_no_row_gets_no_answer(tmp_path: Path) -> None:
    signatures = exported(tmp_path, place="top").signatures
    empty = signatures["examples"](examples=tf.zeros([0], tf.string))
    assert empty["ctr"].shape == [0]


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"slot": 9}, "an integer from 0 to 8"),
        ({"slot": "top"}, "received 'top'"),
        ({"age": "old"}, "missing"),
        (
            dict.fromkeys(("age", "place", "user"), "missing") | {"slot": 1},
            "every",
        ),
    ],
)
def test_constants_that_cannot_be_served_are_refused(
    serve: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as error:
        features(**serve)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("given", "text"), [(1, "1"), (2.0, "2"), (True, "1"), ("0.5", "0.5")]
)
def test_a_number_is_the_category_that_ingest_makes_of_it(
    given: Any, text: str
) -> None:
    assert features(place=given).constants() == {"place": text}


def test_the_evaluation_is_of_the_rows_as_logged_and_as_served(
    tmp_path: Path,
) -> None:
    exported(tmp_path, place="top")
    with tf.io.TFRecordWriter(str(tmp_path / "rows")) as writer:
        for row in ROWS:
            writer.write(row)
    columns = predictions(
        [str(tmp_path / "rows")],
        {"candidate": str(tmp_path / "m"), "baseline": str(tmp_path / "m")},
        {},
    )
    logged = 1 / (1 + np.exp(-np.array(LOGGED)))
    for column in columns.predictions:
        np.testing.assert_allclose(column, logged, atol=1e-6)
    found = evaluate(columns, EvaluateConfig(), "eval")
    for key, logits in (("metrics", LOGGED), ("as_served", [1.59, 1.0, 1.37])):
        p = 1 / (1 + np.exp(-np.array(logits)))
        loss = -np.mean(np.log([p[0], 1 - p[1], 1 - p[2]]))
        value = found[key]["logloss"]["value"]
        assert value == pytest.approx(loss, rel=1e-6)
    assert "baseline" not in found["as_served"]["logloss"]


class Vocabularies:
    """A transform whose vocabulary is `text`."""

    def __init__(self, folder: Path, text: str) -> None:
        (folder / "assets").mkdir(parents=True)
        (folder / "assets" / "vocab_user").write_text(text)
        self.transform_savedmodel_dir = str(folder)


def test_an_export_is_another_if_its_weights_mean_something_else(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {
        "features": features().model_dump(mode="json"),
        "negatives": {"keep": 1.0},
        "code_version": "1",
        "optimizer": {"name": "lion"},
    }
    constant = features(place="top").model_dump(mode="json")
    others = [
        settings | {"features": constant},
        settings | {"negatives": {"keep": 0.5}},
        settings | {"code_version": "2"},
    ]

    class Weighted:
        variables = (tf.Variable([1.0, 2.0], name="w"),)

    one, same, other = (
        Vocabularies(tmp_path / name, text)
        for name, text in (("a", "u\nw"), ("b", "u\nw"), ("c", "w\nu"))
    )
    first = export_id(Weighted(), one, settings)
    assert export_id(Weighted(), same, settings) == first
    told = settings | {"optimizer": {"name": "adam"}}
    assert export_id(Weighted(), one, told) == first
    found = [export_id(Weighted(), one, some) for some in others]
    found.append(export_id(Weighted(), other, settings))
    Weighted.variables[0].assign([1.0, 3.0])
    found.append(export_id(Weighted(), one, settings))
    assert len({first, *found}) == len(found) + 1
