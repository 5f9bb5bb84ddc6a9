"""Put rows of waiting requests into one call of the model; bound the queue."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.columns import Array
from serving.errors import BadInputError, OverloadedError

# A matrix product gives a row the same bits in every batch of whole blocks;
# without them an answer would depend on who asks at the same time.
BLOCK = 16
_LARGEST = 1024  # rows of a call; a larger request takes turns with others
_PARALLEL = 2  # calls at a time; more would wait for the same cores


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
    """A request, or a part of one; `asked` by `time.perf_counter`."""

    signature: str
    columns: Mapping[str, Array]
    rows: int
    answer: asyncio.Future[dict[str, Array]]
    asked: float


class Batcher:
    """Calls one version for all requests of one event loop.

    While calls are under way, requests wait and go into the next call
    together. Nobody waits for company unless `wait` says so.
    """

    def __init__(
        self,
        predictor: Predictor,
        executor: Executor,
        wait: float = 0.0,
        most_waiting: int = 65536,
        observer: Observer | None = None,
    ) -> None:
        """Calls nothing yet.

        Args:
            predictor: the version to call.
            executor: whose threads call it.
            wait: seconds that a request waits for others, at most.
            most_waiting: rows that may wait; further requests are refused.
            observer: hears of each call.
        """
        self._predictor = predictor
        self._executor = executor
        self._wait = wait
        self._most_waiting = most_waiting
        self._observer = observer
        self._pieces: deque[Piece] = deque()
        self.running = 0  # calls
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = 0  # rows

    async def predict(
        self, signature: str, columns: Mapping[str, Array]
    ) -> dict[str, Array]:
        """As the version's `predict`.

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
            return await self._ask(signature, columns, rows)
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
        self, signature: str, columns: Mapping[str, Array], rows: int
    ) -> dict[str, Array]:
        answer = asyncio.get_running_loop().create_future()
        self._pieces.append(
            Piece(signature, columns, rows, answer, time.perf_counter())
        )
        self.waiting += rows
        if self._wait and self.waiting < _LARGEST:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._wait, self._start)
        else:
            self._start()
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
            self.running += 1
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(
                self._executor,
                observed,
                self._predictor,
                batch,
                self._observer,
            )
            call.add_done_callback(functools.partial(self._end, batch))

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
        error = done.exception()
        answers = [error] * len(batch) if error else done.result()
        for piece, answer in zip(batch, answers, strict=True):
            if piece.answer.done():
                continue
            if isinstance(answer, BaseException):
                piece.answer.set_exception(answer)
            else:
                piece.answer.set_result(answer)
        self._start()


def observed(
    predictor: Predictor, batch: Sequence[Piece], observer: Observer | None
) -> list[dict[str, Array] | Exception]:
    """As `call_together`; the observer hears of it."""
    start = time.perf_counter()
    answers = call_together(predictor, batch)
    if observer is not None:
        observer.called(batch, answers, start, time.perf_counter())
    return answers


def call_together(
    predictor: Predictor, batch: Sequence[Piece]
) -> list[dict[str, Array] | Exception]:
    """The answer to each of several requests of one signature."""
    try:
        return _call(predictor, batch)
    except BadInputError as error:
        if len(batch) == 1:
            return [error]
    # The model does not say whose values it refused.
    answers: list[dict[str, Array] | Exception] = []
    for piece in batch:
        answers += call_together(predictor, [piece])
    return answers


def _call(
    predictor: Predictor, batch: Sequence[Piece]
) -> list[dict[str, Array] | Exception]:
    rows = sum(piece.rows for piece in batch)
    missing = -rows % BLOCK
    columns = {}
    for name, first in batch[0].columns.items():
        parts = [piece.columns[name] for piece in batch]
        if missing:
            parts.append(first[:1].repeat(missing))
        columns[name] = np.concatenate(parts) if len(parts) > 1 else first
    outputs = predictor.predict(batch[0].signature, columns)
    answers: list[dict[str, Array] | Exception] = []
    start = 0
    for piece in batch:
        end = start + piece.rows
        answers.append({k: v[start:end] for k, v in outputs.items()})
        start = end
    return answers
