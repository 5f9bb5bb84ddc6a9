"""Answers and their times, as the ServingGate judges them."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from components.serving_gate import rows
from components.serving_gate.asking import (
    HALF,
    differences,
    faults,
    measured,
)
from serving.client import PredictError
from serving.graph import is_half
from tests.examples import example


def test_answers_within_the_tolerance_are_the_models_own() -> None:
    expected = np.array([0.1, 0.2])
    assert not list(differences("REST", expected + 9e-6, expected))
    (line,) = differences("REST", expected + [0, 2e-5], expected)
    assert line.startswith("REST: 1 of 2 rows differ")
    assert line.endswith("row 1 is 0.20002 instead of 0.2")


def test_half_precision_has_a_tolerance_of_its_own() -> None:
    types = ["DT_FLOAT", "DT_BFLOAT16", "DT_HALF"]
    found = []
    for name in types:
        graph = meta_graph_pb2.MetaGraphDef()
        function = graph.graph_def.library.function.add()
        node = function.node_def.add(op="MatMul")
        node.attr["T"].type = types_pb2.DataType.Value(name)
        found.append(is_half(graph))
    assert found == [False, True, True]
    expected = np.array([0.1])
    assert not list(differences("REST", expected + 9e-3, expected, HALF))


def test_an_answer_that_is_no_number_differs() -> None:
    (line,) = faults("REST", lambda: [0.1, None], np.array([0.1, 0.2]))
    assert "1 of 2 rows differ" in line and "is nan instead of 0.2" in line


def test_an_answer_too_few_is_told() -> None:
    (line,) = faults("gRPC", lambda: [0.1], np.array([0.1, 0.2]))
    assert line == "gRPC: 1 answers to 2 rows"


def test_a_server_that_refuses_is_told_in_its_words() -> None:
    def ask() -> list[float]:
        raise PredictError("http://here answered 400: missing feature 'a'", 400)

    (line,) = faults("REST", ask, np.array([0.1]))
    assert line == "REST: http://here answered 400: missing feature 'a'"
    best, (same,), late = measured("REST", [ask], np.array([0.1]), 1.0)
    assert same == line.replace(":", ", one row:", 1) and not late
    assert best.requests == 0


def test_one_late_answer_in_a_hundred_is_let_pass() -> None:
    """And a round that a busy machine spoilt is repeated."""
    waits = iter([0.0] * 1 + [0.05] * 200)

    def slow() -> list[float]:
        time.sleep(next(waits))
        return [0.5]

    asks = [slow, *[lambda: [0.5]] * 99]
    best, wrong, late = measured("gRPC", asks, np.full(100, 0.5), 20.0)
    assert not wrong and not late
    assert best.requests == 100 and best.p99 < 20 and not best.late

    spoilt = iter([True, True, True] + [False] * 200)

    def sometimes() -> list[float]:
        time.sleep(0.05 * next(spoilt))
        return [0.5]

    best, _, late = measured("gRPC", [sometimes] * 50, np.full(50, 0.5), 20.0)
    assert not late and best.requests == 50


def test_a_round_ends_when_the_limit_is_broken_for_sure() -> None:
    asked = 0

    def slow() -> list[float]:
        nonlocal asked
        asked += 1
        time.sleep(0.02)
        return [0.5]

    best, wrong, (line,) = measured("REST", [slow] * 200, np.full(200, 0.5), 5)
    assert asked == 1 + 3 * 3  # to connect; three rounds of three late ones
    assert not wrong and best.late and best.p99 >= 20
    assert "99 % of 200 requests of one row are answered in at least" in line


def test_without_a_limit_the_time_is_measured_only() -> None:
    best, _, late = measured("REST", [lambda: [0.5]] * 3, np.full(3, 0.5), None)
    assert not late and best.requests == 3 and math.isfinite(best.p50)
    assert best.p50 <= best.p99 == pytest.approx(best.p99)


def test_a_vector_is_a_text_of_its_numbers() -> None:
    serialized = [example(item=[0.1, -1.0, 1e-30]), b""]
    found = rows.columns(serialized, {"item": "item"}, {"item": ","})
    assert found == {"item": [b"0.1,-1.0,1e-30", None]}
