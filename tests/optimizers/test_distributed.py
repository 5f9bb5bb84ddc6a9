"""Lion on two replicas equals Lion on one with the batches of both."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import replicas
import tensorflow as tf

from tests import forks

WORKERS_CASES = ["lazy", "accumulated"]


def start(kind, out, cases, **environment):
    return forks.start(
        ["replicas", kind, str(out), *cases],
        Path(replicas.__file__).parent,
        out.with_suffix(".txt"),
        environment={**os.environ, **environment},
    )


def finish(process, out):
    process.join(600)
    assert process.exitcode == 0, out.with_suffix(".txt").read_text()[-3000:]
    return dict(np.load(out))


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    out = tmp_path_factory.mktemp("mirrored") / "states.npz"
    return finish(start("mirrored", out, replicas.CASES), out)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("localhost", 0))
        ports = [free.getsockname()[1] for free in (one, other)]
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    started = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        out = folder / f"{index}.npz"
        started.append(
            (start("workers", out, WORKERS_CASES, TF_CONFIG=config), out)
        )
    return [finish(*pair) for pair in started]


def assert_equal_to_one_device(case, *replica_states):
    alone, _ = replicas.train(tf.distribute.get_strategy(), case)
    for name in ("table", "head", "m0", "m1"):
        for state in replica_states:
            np.testing.assert_array_equal(
                state[name], replica_states[0][name], err_msg=name
            )
        np.testing.assert_allclose(
            replica_states[0][name],
            alone[f"{case}/{name}/0"],
            rtol=1e-5,
            atol=1e-7,
            err_msg=name,
        )


def of_replica(states, case, replica):
    names = ("table", "head", "m0", "m1")
    return {name: states[f"{case}/{name}/{replica}"] for name in names}


@pytest.mark.parametrize("case", replicas.CASES)
def test_mirrored_replicas_equal_one_device(mirrored, case):
    both = [of_replica(mirrored, case, replica) for replica in range(2)]
    assert_equal_to_one_device(case, *both)


@pytest.mark.parametrize("case", WORKERS_CASES)
def test_workers_equal_one_process(workers, case):
    both = [of_replica(states, case, 0) for states in workers]
    assert_equal_to_one_device(case, *both)


@pytest.mark.parametrize("case", ["lazy", "decayed", "Keras 2 lazy"])
def test_mirrored_replicas_exchange_rows_not_tables(mirrored, case):
    assert mirrored[f"{case}/whole tables"].size == 0
    assert mirrored["dense/whole tables"].size


def test_workers_exchange_rows_not_tables(workers):
    assert workers[0]["lazy/whole tables"].size == 0
