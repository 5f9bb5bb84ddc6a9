"""Replicas, in one process or several, train as one device does."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import forks
from tests.models import together, training

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    # The last batch of an epoch has one row: a replica has none of it.
    training.write(folder, rows=31 * training.BATCH + 1)
    training.train(folder, None, {"dropout": 0.0, **together.BEFORE})
    return folder


@pytest.fixture(scope="module")
def replicas(examples: Path) -> dict[str, Any]:
    """Results of each process: a mirrored one, and two workers."""
    cases = list(together.CASES)
    # To save time; Adam's exchange is the same.
    few = [case for case in cases if case != "adam"]
    mirrored = start("mirrored", examples, few)
    zero, one = workers(examples, cases)
    return finish({"mirrored": mirrored, "worker 0": zero, "worker 1": one})


@pytest.fixture(scope="module")
def alone(examples: Path) -> Callable[[str], Any]:
    """Case -> what one device gives; it leaves `alone-<case>`."""

    @functools.cache
    def trained(case: str) -> Any:
        folder = examples.parent / f"alone-{case}"
        return training.train(examples, folder, together.settings(case))

    return trained


def workers(
    examples: Path, cases: list[str], **environment: str
) -> list[tuple[Any, Path]]:
    places = [socket.create_server(("localhost", 0)) for _ in range(2)]
    names = [f"localhost:{one.getsockname()[1]}" for one in places]
    for place in places:
        place.close()
    started = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": names}, "task": task}
        environment["TF_CONFIG"] = json.dumps(config)
        one = start("workers", examples, cases, index, **environment)
        started.append(one)
    return started


def start(
    kind: str,
    examples: Path,
    cases: list[str],
    index: int = 0,
    **environment: str,
) -> tuple[Any, Path]:
    out = examples.parent / f"{kind}-{index}.npz"
    words = ["tests.models.together", kind, str(examples), str(out), *cases]
    process = forks.start(
        words,
        ROOT,
        out.with_suffix(".txt"),
        environment={**os.environ, **environment},
    )
    return process, out


def finish(started: dict[str, tuple[Any, Path]]) -> dict[str, Any]:
    """Results of processes; what all of them printed if one failed."""
    for process, _ in started.values():
        process.join(900)
    for process, _ in started.values():
        assert process.exitcode == 0, "".join(
            f"\n{name}: {out.with_suffix('.txt').read_text()[-3000:]}"
            for name, (_, out) in started.items()
        )
    return {name: dict(np.load(out)) for name, (_, out) in started.items()}


@pytest.mark.parametrize("case", together.CASES)
def test_replicas_train_as_one_device(
    replicas: dict[str, Any], alone: Callable[[str], Any], case: str
) -> None:
    result, expected = alone(case)
    assert (case == "adam") == result.stopped_early
    for process, found in replicas.items():
        if f"{case}/steps" not in found:
            continue
        assert found[f"{case}/steps"].tolist() == [
            result.steps,
            result.examples,
        ]
        assert found[f"{case}/logloss"] == pytest.approx(
            result.eval_logloss, abs=1e-5
        )
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[f"{case}/{name}"],
                values,
                rtol=1e-5,
                atol=1e-5,
                err_msg=f"{process}: {name}",
            )
    both = replicas["worker 0"], replicas["worker 1"]
    for name in expected:  # the same bits, else they would drift apart
        np.testing.assert_array_equal(*(f[f"{case}/{name}"] for f in both))


def test_replicas_tell_the_gradient_that_one_device_has(
    replicas: dict[str, Any], alone: Callable[[str], Any], examples: Path
) -> None:
    assert replicas
    for case, kinds in (
        ("lion", ("mirrored", "workers")),
        ("adam", ("workers",)),
    ):
        alone(case)
        expected = training.scalars(examples.parent / f"alone-{case}")
        for kind in kinds:
            found = training.scalars(examples.parent / f"{kind}-{case}")
            for tag, rtol in (
                ("train/gradient_norm", 1e-3),
                ("train/update_norm", 1e-3),
                ("train/rows_touched", 0),
            ):
                # Which steps are looked at depends on the clock.
                both = sorted(set(expected[tag]) & set(found[tag]))
                assert both, tag
                np.testing.assert_allclose(
                    [found[tag][step] for step in both],
                    [expected[tag][step] for step in both],
                    rtol=rtol,
                    err_msg=f"{kind} {case} {tag}",
                )


def test_replicas_exchange_rows_not_tables(replicas: dict[str, Any]) -> None:
    for found in replicas.values():
        assert found["lion/whole tables"].size == 0
        if "adam/whole tables" not in found:
            continue
        # Keras's Adam updates the whole table, after the exchange.
        adam = {str(kind) for kind in found["adam/whole tables"]}
        assert adam and not any("Collective" in kind for kind in adam)
        assert not adam & {"AddN", "UnsortedSegmentSum", "IndexedSlices"}


@pytest.mark.slow
def test_a_worker_that_stalls_is_waited_for(examples: Path) -> None:
    """15 s: TensorFlow's own patience is 10."""
    events = examples.parent / "workers-lion"
    shutil.rmtree(events, ignore_errors=True)
    started = workers(examples, ["lion"])
    stalled = started[1][0]
    while not events.exists():  # then they are connected, and train
        assert stalled.is_alive()
        time.sleep(0.002)
    os.kill(stalled.pid, signal.SIGSTOP)
    time.sleep(15)
    assert stalled.is_alive()
    os.kill(stalled.pid, signal.SIGCONT)
    found = finish(dict(zip("01", started, strict=True)))
    np.testing.assert_array_equal(*(f["lion/steps"] for f in found.values()))
