"""Waiting requests share calls; what waits is bounded; nobody is mixed up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from serving.batching import Batcher
from serving.columns import Array
from serving.errors import BadInputError, OverloadedError
from serving.manifest import BLOCK


class Doubling:
    """Doubles x; refuses negative ones; notes the sizes of its calls."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def predict(
        self, signature: str, features: Mapping[str, Array]
    ) -> dict[str, Array]:
        self.go.wait(10)
        x = features["x"]
        self.sizes.append(len(x))
        if (x < 0).any():
            raise BadInputError("negative")
        if signature == "broken":
            raise RuntimeError("broken")
        return {"ctr": 2 * x}


def columns(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32)}


def run(work: Any, model: Doubling, **options: Any) -> Any:
    with ThreadPoolExecutor(4) as executor:

        async def main() -> Any:
            return await work(Batcher(model, executor, **options))

        return asyncio.run(main())


def test_requests_that_wait_go_into_one_call() -> None:
    model = Doubling()
    model.go.clear()

    async def work(batcher: Batcher) -> list[Any]:
        asked = [
            asyncio.create_task(
                batcher.predict("a" if i % 9 else "b", columns(i, i + 0.5))
            )
            for i in range(40)
        ]
        await asyncio.sleep(0.1)
        model.go.set()
        return await asyncio.gather(*asked)

    found = run(work, model)
    assert [v["ctr"].tolist() for v in found] == [
        [2 * i, 2 * i + 1] for i in range(40)
    ]
    assert len(model.sizes) < 15
    assert all(size % BLOCK == 0 for size in model.sizes)


def test_only_the_request_with_the_fault_is_refused() -> None:
    model = Doubling()
    model.go.clear()

    async def work(batcher: Batcher) -> list[Any]:
        asked = [
            asyncio.create_task(batcher.predict("a", columns(value)))
            for value in (1, 2, 3, -1, 4)
        ]
        broken = asyncio.create_task(batcher.predict("broken", columns(1)))
        await asyncio.sleep(0.1)
        asked[4].cancel()
        model.go.set()
        return await asyncio.gather(*asked, broken, return_exceptions=True)

    found = run(work, model)
    assert [v["ctr"].tolist() for v in found[:3]] == [[2], [4], [6]]
    assert isinstance(found[3], BadInputError)
    assert isinstance(found[4], asyncio.CancelledError)
    assert isinstance(found[5], RuntimeError)


def test_a_large_request_takes_turns() -> None:
    model = Doubling()
    order: list[str] = []

    async def work(batcher: Batcher) -> None:
        async def ask(name: str, size: int) -> None:
            values = columns(*range(size))
            found = await batcher.predict("a", values)
            assert found["ctr"].tolist() == (2 * values["x"]).tolist()
            order.append(name)

        large = asyncio.create_task(ask("large", 20_001))
        await asyncio.sleep(0)
        await asyncio.gather(large, *(ask("small", 1) for _ in range(5)))

    run(work, model)
    assert order == ["small"] * 5 + ["large"]
    assert max(model.sizes) <= 1024


def test_too_many_rows_are_refused_and_not_queued() -> None:
    model = Doubling()
    model.go.clear()

    async def work(batcher: Batcher) -> None:
        asked = []
        for _ in range(4):  # not at the same time: they would share a call
            asked.append(
                asyncio.create_task(batcher.predict("a", columns(1, 2)))
            )
            await asyncio.sleep(0.05)
        assert batcher.waiting == 4
        with pytest.raises(OverloadedError, match="4 rows wait"):
            await batcher.predict("a", columns(1, 2))
        model.go.set()
        await asyncio.gather(*asked)
        assert batcher.waiting == 0
        await batcher.predict("a", columns(1, 2))

    run(work, model, most_waiting=5)


def test_a_request_waits_for_company_if_asked() -> None:
    model = Doubling()

    async def work(batcher: Batcher) -> None:
        await asyncio.gather(
            *(batcher.predict("a", columns(i)) for i in range(10))
        )

    run(work, model, wait=0.05)
    assert model.sizes == [BLOCK]


@pytest.mark.parametrize("steady", [True, False])
def test_quick_calls_of_few_rows_need_no_thread(steady: bool) -> None:
    threads: list[int] = []

    class Noting(Doubling):
        def predict(
            self, signature: str, features: Mapping[str, Array]
        ) -> dict[str, Array]:
            threads.append(threading.get_ident())
            return super().predict(signature, features)

    async def work(batcher: Batcher) -> list[bool]:
        found = []
        for count, small in ((1, True), (1, True), (1, False), (100, True)):
            threads.clear()
            x = columns(*range(count))
            answer = await batcher.predict("a", x, small)
            assert answer["ctr"].tolist() == (2 * x["x"]).tolist()
            found.append(threads == [threading.get_ident()])
        with pytest.raises(BadInputError):
            await batcher.predict("a", columns(-1), True)
        with pytest.raises(RuntimeError):
            await batcher.predict("broken", columns(1), True)
        return found

    # The first call tells what a call costs.
    here = run(work, Noting(), steady=steady)
    assert here == [False, steady, False, False]


def test_a_slow_model_never_holds_up_the_event_loop() -> None:
    class Slow(Doubling):
        def predict(
            self, signature: str, features: Mapping[str, Array]
        ) -> dict[str, Array]:
            assert threading.current_thread() is not threading.main_thread()
            end = time.thread_time() + 0.003
            while time.thread_time() < end:
                pass
            return super().predict(signature, features)

    async def work(batcher: Batcher) -> None:
        for _ in range(5):
            await batcher.predict("a", columns(1), True)

    run(work, Slow(), steady=True)
