"""TF Serving's JSON without a server: several outputs, and any body."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BadInputError
from serving.tf_serving import decode, encode

SIGNATURES = {
    "serving_default": {
        "x": np.dtype(np.float32),
        "c": np.dtype(object),
    },
    "examples": {"examples": np.dtype(object)},
}
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "c", "b64", "y"]), inner),
    ),
    max_leaves=8,
)
BODIES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            "instances": VALUES,
            "inputs": VALUES,
            "signature_name": st.one_of(
                VALUES, st.sampled_from(["", "examples", "serving_default"])
            ),
        },
    ),
)


@given(BODIES)
def test_any_json_is_decoded_or_refused(body: object) -> None:
    try:
        request = decode(json.dumps(body).encode(), SIGNATURES)
    except BadInputError as error:
        assert str(error)
        return
    assert request.columns.keys() == SIGNATURES[request.signature].keys()
    assert len({len(column) for column in request.columns.values()}) == 1
    assert all(len(column) for column in request.columns.values())


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    try:
        decode(body, SIGNATURES)
    except BadInputError:
        return
    raise AssertionError(body)


def test_deep_nesting_is_refused() -> None:
    for body in (b"[" * 100_000, b'{"inputs":' + b"[" * 100_000):
        try:
            decode(body, SIGNATURES)
        except BadInputError as error:
            assert "JSON" in str(error)
        else:
            raise AssertionError


def test_several_outputs_keep_their_names() -> None:
    outputs = {
        "ctr": np.array([0.25, 0.5], np.float32),
        "logits": np.array([[1, 2], [3, 4]], np.int64),
    }
    assert json.loads(encode(outputs, by_row=True)) == {
        "predictions": [
            {"ctr": 0.25, "logits": [1, 2]},
            {"ctr": 0.5, "logits": [3, 4]},
        ]
    }
    assert json.loads(encode(outputs, by_row=False)) == {
        "outputs": {"ctr": [0.25, 0.5], "logits": [[1, 2], [3, 4]]}
    }


def test_a_float32_keeps_its_short_form() -> None:
    answer = encode({"ctr": np.array([0.2], np.float32)}, by_row=True)
    assert answer == b'{"predictions":[0.2]}'
