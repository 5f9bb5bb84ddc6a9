"""Put rows of waiting requests into one call of the model; bound the queue."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.columns import Array
from serving.errors import BadInputError, OverloadedError
from serving.manifest import BLOCK
from serving.tf_serving import DEFAULT_SIGNATURE

_LARGEST = 1024  # rows of a call; a larger request takes turns with others
_PARALLEL = 2  # calls at a time; more would wait for the same cores
_FEW = 64  # rows of a call that may be quick
_QUICK = 0.002  # seconds of CPU; to wake a thread takes a tenth of it


class Predictor(Protocol):
    """A loaded version."""

    def predict(
        self, signature: str, features: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Runs one signature."""


class Observer(Protocol):
    """Hears of each call of the model, in the thread that made it."""

    def called(
        self,
        batch: Sequence[Piece],
        answers: Sequence[dict[str, Array] | Exception],
        start: float,
        end: float,
    ) -> None:
        """A call of so many requests, from `start` to `end`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A request, or a part of one; `asked` by `time.perf_counter`.

    small: whether its values are, so that its rows tell what it costs.
    """

    signature: str
    columns: Mapping[str, Array]
    rows: int
    answer: asyncio.Future[dict[str, Array]]
    asked: float
    small: bool = False


class Batcher:
    """Calls one version for all requests of one event loop.

    While calls are under way, requests wait and go into the next call
    together. Nobody waits for company unless `wait` says so. Calls of few
    rows run in the event loop itself, as long as they turn out to be quick.
    """

    def __init__(
        self,
        predictor: Predictor,
        executor: Executor,
        wait: float = 0.0,
        most_waiting: int = 65536,
        observer: Observer | None = None,
        steady: bool = False,
        block: int = BLOCK,
    ) -> None:
        """Calls nothing yet.

        Args:
            predictor: the version to call.
            executor: whose threads call it.
            wait: seconds that a request waits for others, at most.
            most_waiting: rows that may wait; further requests are refused.
            observer: hears of each call.
            steady: whether a call's cost follows from its size.
            block: rows that calls are filled up to; without it, an answer
                would depend on who asks at the same time.
        """
        self._predictor = predictor
        self._executor = executor
        self._wait = wait
        self._most_waiting = most_waiting
        self._observer = observer
        self._pieces: deque[Piece] = deque()
        self.running = 0  # calls
        self._timer: asyncio.Handle | None = None
        self.waiting = 0  # rows
        self._steady = steady
        self._block = block
        self._cost = math.inf  # of late calls of few rows, in CPU seconds

    async def predict(
        self,
        signature: str,
        columns: Mapping[str, Array],
        small: bool = False,
    ) -> dict[str, Array]:
        """As the version's `predict`.

        Args:
            signature, columns: of the version.
            small: whether the values are; see `Piece`.

        Raises:
            BadInputError: the model refused the values.
            OverloadedError: too many rows wait already.
        """
        rows = len(next(iter(columns.values())))
        if self.waiting and self.waiting + rows > self._most_waiting:
            raise OverloadedError(
                f"{self.waiting} rows wait already, of at most"
                f" {self._most_waiting}; try again"
            )
        if rows <= _LARGEST:
            return await self._ask(signature, columns, rows, small)
        found = []
        for start in range(0, rows, _LARGEST):
            part = {k: v[start : start + _LARGEST] for k, v in columns.items()}
            size = min(_LARGEST, rows - start)
            found.append(await self._ask(signature, part, size))
        return {
            name: np.concatenate([part[name] for part in found])
            for name in found[0]
        }

    async def _ask(
        self,
        signature: str,
        columns: Mapping[str, Array],
        rows: int,
        small: bool = False,
    ) -> dict[str, Array]:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        now = time.perf_counter()
        self._pieces.append(Piece(signature, columns, rows, answer, now, small))
        self.waiting += rows
        if self.waiting >= _LARGEST:
            self._start()
        elif self._timer is None:
            # Those that the loop has read at the same time come along.
            self._timer = (
                loop.call_later(self._wait, self._start)
                if self._wait
                else loop.call_soon(self._start)
            )
        return await answer

    def _start(self) -> None:
        """Calls with what waits, as far as calls are allowed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pieces and self.running < _PARALLEL:
            batch = self._next()
            if not batch:
                continue
            if self._is_quick(batch):
                _give(batch, self._call(batch))
                continue
            self.running += 1
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(self._executor, self._call, batch)
            call.add_done_callback(functools.partial(self._end, batch))

    def _is_quick(self, batch: list[Piece]) -> bool:
        """True if a call would not hold the loop up."""
        return (
            self._cost < _QUICK
            and sum(piece.rows for piece in batch) <= _FEW
            and all(piece.small for piece in batch)
        )

    def _call(self, batch: list[Piece]) -> list[dict[str, Array] | Exception]:
        """As `observed`; a fault of the model is the answer to all."""
        start = time.thread_time()
        try:
            answers = observed(
                self._predictor, batch, self._observer, self._block
            )
        except Exception as error:
            return [error] * len(batch)
        if self._steady and sum(piece.rows for piece in batch) <= _FEW:
            cost = time.thread_time() - start
            known = cost if math.isinf(self._cost) else self._cost
            self._cost = 0.8 * known + 0.2 * cost
        return answers

    def _next(self) -> list[Piece]:
        batch: list[Piece] = []
        rows = 0
        while self._pieces:
            piece = self._pieces[0]
            if batch and (
                piece.signature != batch[0].signature
                or rows + piece.rows > _LARGEST
            ):
                break
            self._pieces.popleft()
            self.waiting -= piece.rows
            if not piece.answer.done():  # its client may be gone
                batch.append(piece)
                rows += piece.rows
        return batch

    def _end(self, batch: list[Piece], done: asyncio.Future[Any]) -> None:
        self.running -= 1
        error = done.exception()  # such as of an executor that is closed
        _give(batch, [error] * len(batch) if error else done.result())
        self._start()


def _give(
    batch: Sequence[Piece], answers: Sequence[dict[str, Array] | BaseException]
) -> None:
    for piece, answer in zip(batch, answers, strict=True):
        if piece.answer.done():
            continue
        if isinstance(answer, BaseException):
            piece.answer.set_exception(answer)
        else:
            piece.answer.set_result(answer)


def observed(
    predictor: Predictor,
    batch: Sequence[Piece],
    observer: Observer | None,
    block: int = BLOCK,
) -> list[dict[str, Array] | Exception]:
    """As `call_together`; the observer hears of it."""
    start = time.perf_counter()
    answers = call_together(predictor, batch, block)
    if observer is not None:
        observer.called(batch, answers, start, time.perf_counter())
    return answers


def call_together(
    predictor: Predictor, batch: Sequence[Piece], block: int = BLOCK
) -> list[dict[str, Array] | Exception]:
    """The answer to each of several requests of one signature."""
    try:
        return _call(predictor, batch, block)
    except BadInputError as error:
        if len(batch) == 1:
            return [error]
    # The model does not say whose values it refused.
    answers: list[dict[str, Array] | Exception] = []
    for piece in batch:
        answers += call_together(predictor, [piece], block)
    return answers


def _call(
    predictor: Predictor, batch: Sequence[Piece], block: int
) -> list[dict[str, Array] | Exception]:
    rows = sum(piece.rows for piece in batch)
    missing = -rows % block
    neutral = batch[0].signature == DEFAULT_SIGNATURE
    columns = {}
    for name, first in batch[0].columns.items():
        parts = [piece.columns[name] for piece in batch]
        if missing:
            kind = first.dtype.kind
            parts.append(
                _neutral(first.dtype, missing)
                if neutral and kind in "fO"
                else first[:1].repeat(missing)
            )
        columns[name] = np.concatenate(parts) if len(parts) > 1 else first
    outputs = predictor.predict(batch[0].signature, columns)
    answers: list[dict[str, Array] | Exception] = []
    start = 0
    for piece in batch:
        end = start + piece.rows
        answers.append({k: v[start:end] for k, v in outputs.items()})
        start = end
    return answers


@functools.cache
def _neutral(dtype: np.dtype[Any], rows: int) -> Array:
    """Missing values, which cost the graph least."""
    return np.full(rows, np.nan if dtype.kind == "f" else "", dtype)
