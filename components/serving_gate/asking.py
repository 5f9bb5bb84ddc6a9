"""Ask a server by every way, and compare its answers with the model's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from components.serving_gate.rows import Rows
from components.serving_gate.server import Server
from models.config.labels import CTR
from serving.client import Client, PredictError

TOLERANCE = 1e-5  # of a probability
HALF = 1e-2  # where half precision rounds batches of other sizes otherwise
_TIMEOUT = 60.0  # seconds for an answer
_ROUNDS = 3  # a busy machine makes some answers late, never early
_SHARE = 0.99
Answers = npt.NDArray[np.float64]
Ask = Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of requests of one row, by one protocol.

    late: more than 1 % took longer than the limit, so that the rest was left.
    """

    p50: float
    p99: float
    requests: int
    late: bool


def ways(
    server: Server, rows: Rows, names: Sequence[str] = (CTR,)
) -> dict[str, Ask]:
    """Way to ask -> asks for all rows at once.

    Args:
        server: which is asked.
        rows: to ask for.
        names: of the outputs.
    """
    client = Client(server.url, server.name, timeout=_TIMEOUT)
    predict = _Grpc(server, names)
    everything = rows.request(server.name, slice(None))
    examples = rows.examples_request(server.name)
    return {
        "REST": lambda: client.predict(rows.json()),
        "REST, examples": lambda: client.predict_examples(rows.serialized),
        "gRPC": lambda: predict(everything),
        "gRPC, examples": lambda: predict(examples),
    }


def singly(
    server: Server, rows: Rows, names: Sequence[str] = (CTR,)
) -> dict[str, list[Ask]]:
    """Protocol -> asks for one row, for each row; see `ways`."""
    client = Client(server.url, server.name, timeout=_TIMEOUT)
    predict = _Grpc(server, names)

    def by_rest(row: dict[str, Any]) -> Ask:
        return lambda: client.predict([row])

    def by_grpc(request: predict_pb2.PredictRequest) -> Ask:
        return lambda: predict(request)

    return {
        "REST": [by_rest(row) for row in rows.json()],
        "gRPC": [
            by_grpc(rows.request(server.name, slice(row, row + 1)))
            for row in range(len(rows.serialized))
        ],
    }


class _Grpc:
    """TF Serving's PredictionService, of one model."""

    def __init__(self, server: Server, names: Sequence[str]) -> None:
        self._names = names
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),  # it is on this machine
        ]
        channel = grpc.insecure_channel(server.grpc, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def __call__(self, request: predict_pb2.PredictRequest) -> Sequence[Any]:
        """By row, as the REST client gives them."""
        response = self._stub.Predict(request, timeout=_TIMEOUT)
        columns = [_values(response.outputs[name]) for name in self._names]
        if len(columns) == 1:
            return columns[0]
        return [
            dict(zip(self._names, row, strict=True))
            for row in zip(*columns, strict=True)
        ]


def _values(tensor: Any) -> Sequence[float]:
    values: Sequence[float] = tensor.float_val
    if values:
        return values
    return np.frombuffer(tensor.tensor_content, np.float32).tolist()


def faults(
    way: str,
    ask: Ask,
    expected: Answers,
    tolerance: float = TOLERANCE,
    names: Sequence[str] = (CTR,),
) -> Iterator[str]:
    """Faults of the answers to all rows, in words."""
    try:
        answers = _numbers(ask(), names)
    except (PredictError, grpc.RpcError) as error:
        yield f"{way}: {_reason(error)}"
        return
    yield from differences(way, answers, expected, tolerance, names)


def differences(
    way: str,
    answers: Answers,
    expected: Answers,
    tolerance: float = TOLERANCE,
    names: Sequence[str] = (CTR,),
) -> Iterator[str]:
    """Differences of answers from the model's own, in words.

    Both are [N, outputs], or [N] of one.
    """
    if len(answers) != len(expected):
        yield f"{way}: {len(answers)} answers to {len(expected)} rows"
        return
    answers, expected = (
        values.reshape(-1, len(names)) for values in (answers, expected)
    )
    # An answer that is no number is at any distance.
    far = ~(np.abs(answers - expected) <= tolerance)
    for name, wrong, given, wanted in zip(
        names, far.T, answers.T, expected.T, strict=True
    ):
        if not wrong.any():
            continue
        row = int(np.argmax(wrong))
        which = f" {name}" if len(names) > 1 else ""
        yield (
            f"{way}: {int(wrong.sum())} of {len(wrong)} rows differ from the"
            f" model's own prediction by more than {tolerance:g}; row {row}"
            f"{which} is {given[row]:.9g} instead of {wanted[row]:.9g}"
        )


def measured(
    way: str,
    asks: Sequence[Ask],
    expected: Answers,
    limit: float | None,
    tolerance: float = TOLERANCE,
    names: Sequence[str] = (CTR,),
) -> tuple[Latency, list[str], list[str]]:
    """The latency of requests of one row.

    A round that keeps the limit ends the measurement: of the others a busy
    machine may be the reason.

    Args:
        way: the protocol.
        asks: one for each row.
        expected: the model's own predictions, [N, outputs].
        limit: of the 99th percentile, in milliseconds; None: there is none.
        tolerance: of the answers.
        names: of the outputs.

    Returns:
        The best round, what is wrong with the answers, and with the latency.
    """
    best = Latency(math.inf, math.inf, 0, True)
    one = f"{way}, one row"
    wrong: list[str] = []
    try:
        asks[0]()  # connects
        for _ in range(_ROUNDS):
            latency, answers = _round(asks, limit, names)
            part = expected[: len(answers)]
            wrong = list(differences(one, answers, part, tolerance, names))
            if latency.p99 < best.p99:
                best = latency
            if limit is None or best.p99 <= limit:
                return best, wrong, []
    except (PredictError, grpc.RpcError) as error:
        return best, [f"{one}: {_reason(error)}"], []
    least = "at least " if best.late else ""
    return (
        best,
        wrong,
        [
            (
                f"{way}: 99 % of {len(asks)} requests of one row are answered"
                f" in {least}{best.p99:.3g} ms, in the best of {_ROUNDS}"
                f" rounds; threshold: serving_gate.p99_ms {limit:g}"
            )
        ],
    )


def _round(
    asks: Sequence[Ask], limit: float | None, names: Sequence[str]
) -> tuple[Latency, Answers]:
    """Asks for each row once; leaves off when the limit is broken surely."""
    times: list[float] = []
    answers: list[Any] = []
    allowed = len(asks) - math.ceil(_SHARE * len(asks))
    late = 0
    for ask in asks:
        began = time.perf_counter()
        answers += ask()
        times.append(1000 * (time.perf_counter() - began))
        late += limit is not None and times[-1] > limit
        if late > allowed:
            break
    times.sort()
    rank = len(asks) - allowed - 1  # of the percentile, in a whole round
    if late > allowed:
        rank = len(times) - late  # no request that was late is below it
    latency = Latency(
        times[len(times) // 2],
        times[min(rank, len(times) - 1)],
        len(times),
        late > allowed,
    )
    return latency, _numbers(answers, names)


def _numbers(answers: Sequence[Any], names: Sequence[str]) -> Answers:
    """Answers of rows: numbers, or of several outputs mappings of them."""
    rows = [
        [one.get(name) for name in names] if isinstance(one, dict) else [one]
        for one in answers
    ]
    # A server's JSON has null for NaN.
    return np.array(
        [[math.nan if n is None else n for n in row] for row in rows],
        np.float64,
    ).reshape(-1, len(names))


def _reason(error: PredictError | grpc.RpcError) -> str:
    if isinstance(error, PredictError):
        return str(error)
    return f"{error.code().name}: {error.details()}"
