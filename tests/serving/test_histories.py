"""Histories in requests: unequal lengths are refused, unknown ids counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_service_pb2_grpc,
)

from models.config.training import Features
from models.export import Served, export
from serving import manifest
from tests.serving.tiny import RunningServer

FEATURES = {
    "categorical": ["ad", "kind"],
    "sequences": [
        {
            "of": "seen",
            "items": "ad",
            "sides": [{"of": "kinds", "items": "kind"}, {"of": "gaps"}],
        }
    ],
}
NAMES = ("ad", "kind", "seen", "kinds", "gaps")
ROW = {"ad": "a", "kind": "k", "seen": "a|b", "kinds": "k|", "gaps": "2|1"}
WRONG = [("kinds", "k", [1, 2]), ("gaps", "1|2|3", [3, 2]), ("gaps", "", [0])]


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return lambda raw: {
            "length": tf.sparse.reduce_sum(
                tf.sparse.map_values(tf.ones_like, raw["gaps"]), 1
            )
        }

    def raw_feature_spec(self) -> dict[str, Any]:
        kinds = {"gaps": tf.float32}
        return {
            name: tf.io.VarLenFeature(kinds.get(name, tf.string))
            for name in NAMES
        }


@pytest.fixture(scope="module")
def served(
    session_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server whose version 9 says how long a history is, as log-odds."""
    folder = tmp_path_factory.mktemp("histories") / "9"
    model = Served(
        lambda inputs, training: inputs["length"],
        Transform(),
        Features.model_validate(FEATURES),
    )
    export(model, str(folder), {})
    (folder / "assets").mkdir(exist_ok=True)
    for name, words in (("ad", "a\nc\n"), ("kind", "k\n")):
        (folder / f"assets/vocab_{name}").write_text(words)
    manifest.write(str(folder), manifest.about(str(folder)))
    server = session_server
    shutil.copytree(folder, server.model_dir / ".new")
    (server.model_dir / ".pinned").write_text("9")
    (server.model_dir / ".new").rename(server.model_dir / "9")
    server.wait_for(lambda: server.states().get(9) == "AVAILABLE")
    yield server
    (server.model_dir / ".pinned").unlink()
    server.revoke(9)
    server.wait_for(lambda: 9 not in server.states())


def test_a_history_whose_sides_have_its_length_is_answered(
    served: RunningServer,
) -> None:
    rows = [ROW, {**ROW, "seen": "", "kinds": "", "gaps": ""}]
    status, answer = served.predict({"instances": rows})
    assert status == 200, answer
    expected = [0.880797, 0.5]  # of two items, and of none
    assert answer["predictions"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("name", "text", "lengths"), WRONG)
def test_unequal_lengths_are_refused_with_the_features_name(
    served: RunningServer, name: str, text: str, lengths: list[int]
) -> None:
    rows = [ROW, {**ROW, name: text}]
    status, answer = served.predict({"instances": rows})
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    for feature in NAMES:
        values = [row[feature] for row in rows]
        request.inputs[feature].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(served.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(request, timeout=20)
    assert status == 400
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    for told in (answer["error"], refused.value.details()):
        assert f"feature '{name}'" in told and "'seen'" in told
        assert all(f"[{length}]" in told for length in lengths)


def test_items_that_no_vocabulary_has_are_counted(
    served: RunningServer,
) -> None:
    """By the vocabulary of the feature that a list shares."""

    def counted() -> bool:
        served.predict({"instances": [ROW, {**ROW, "seen": "c|a"}]})
        _, text = served.call("/metrics")
        counter = "lionctr_feature_unknown_rows_total{"
        lines = [x for x in text.splitlines() if x.startswith(counter)]
        found = {
            name: float(line.split()[-1])
            for line in lines
            for name in ("seen", "kinds", "gaps")
            if f'feature="{name}"' in line
        }
        return found.get("seen", 0) > 0 == found.get("kinds") and (
            "gaps" not in found
        )

    served.wait_for(counted)
