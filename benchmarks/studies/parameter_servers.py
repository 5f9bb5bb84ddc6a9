"""Lion on tables that are cut over two parameter servers, on this machine.

    python -m benchmarks.studies.parameter_servers [--rows N] [--steps N]
        [--out JSON]

Starts two servers and two workers as processes, and trains a wide model with
embeddings. Odds of the clicks are a sum of hidden weights of ids. It trains one
step at a time, then with both workers at once, and compares the first with the
same steps in one process. docs/parameter_servers.md says why it is so.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.training.metrics import auc, logloss_of_logits
from optimizers import ops
from optimizers.ops import library

FIELDS, BATCH, DIM = 8, 512, 8
SERVERS, WORKERS = 2, 2
RATE, DECAY = 2e-3, 0.01
CHIEF = "chief"


def batch(number: Any, rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids int64 [BATCH, FIELDS], skewed as ids are, and clicks float32."""
    draw = functools.partial(tf.random.stateless_uniform, seed=[1, number])
    u = draw([BATCH, FIELDS])
    per_field = rows // FIELDS
    ids = tf.cast(float(per_field) * u**4, tf.int64)
    ids += per_field * tf.range(FIELDS, dtype=tf.int64)
    # The hidden weight of an id is a hash of it, in [-1, 1].
    hidden = tf.sin(tf.cast(ids % 9973, tf.float32) * 12.9898)
    odds = tf.sigmoid(2 * tf.reduce_sum(hidden, 1) - 1)
    chance = tf.random.stateless_uniform([BATCH], seed=[2, number])
    return ids, tf.cast(chance < odds, tf.float32)


class Wide:
    """A weight and an embedding for each id, in shards, and their momentum.

    Args:
        tables: name -> the shards of a table, in the order of their rows.
        head: float32 [DIM].
    """

    def __init__(self, tables: dict[str, list[Any]], head: Any) -> None:
        self.tables = tables
        self.head = head
        self.momenta = {
            name: [_beside(shard) for shard in shards]
            for name, shards in tables.items()
        }
        self.head_momentum = _beside(head)

    def logits(self, rows: dict[str, tf.Tensor], places: Any) -> tf.Tensor:
        """Logits [BATCH] from the rows of the batch's distinct ids."""
        wide = tf.gather(rows["wide"], places)[..., 0]
        deep = tf.reduce_sum(tf.gather(rows["deep"], places), 1)
        return tf.reduce_sum(wide, 1) + tf.linalg.matvec(deep, self.head)

    def lookup(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows of the ids; each server sends those that it has."""
        return {
            name: tf.nn.embedding_lookup(shards, ids)
            for name, shards in self.tables.items()
        }

    def step(self, ids: tf.Tensor, clicks: tf.Tensor) -> tf.Tensor:
        """One update by Lion; returns the loss."""
        # A row travels once, however often the batch has its id.
        distinct, places = tf.unique(tf.reshape(ids, [-1]))
        places = tf.reshape(places, tf.shape(ids))
        with tf.GradientTape() as tape:
            logits = self.logits(self.lookup(distinct), places)
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(clicks, logits)
            )
        found, head = tape.gradient(loss, [self.tables, self.head])
        rule = (RATE, 0.9, 0.99, DECAY)
        for name, shards in self.tables.items():
            for shard, momentum, gradient in zip(
                shards, self.momenta[name], found[name], strict=True
            ):
                # Where the rows are: only their gradients travel.
                with tf.device(shard.device):
                    ops.resource_sparse_apply_lion(
                        shard,
                        momentum,
                        *rule,
                        gradient.values,
                        gradient.indices,
                    )
        with tf.device(self.head.device):
            ops.resource_apply_lion(self.head, self.head_momentum, *rule, head)
        return loss

    def state(self) -> dict[str, Any]:
        """Every variable; a table's shards as one."""
        return {
            **{
                f"{kind}/{name}": np.concatenate([s.numpy() for s in shards])
                for kind, tables in (
                    ("weights", self.tables),
                    ("momentum", self.momenta),
                )
                for name, shards in tables.items()
            },
            "weights/head": self.head.numpy(),
            "momentum/head": self.head_momentum.numpy(),
        }


def _beside(variable: Any) -> Any:
    """Zeros of the variable's shape on its server."""
    strategy = tf.distribute.get_strategy()
    zeros = functools.partial(tf.zeros, variable.shape)
    with strategy.extended.colocate_vars_with(variable):
        return tf.Variable(zeros, shape=variable.shape, dtype=tf.float32)


def on_servers(rows: int) -> Wide:
    """The model in the scope of a ParameterServerStrategy."""
    tables = {}
    for name, width, deviation in (("wide", 1, 0.0), ("deep", DIM, 0.1)):
        # Each server makes its shard: no process ever has the table.
        initial = tf.random_normal_initializer(stddev=deviation, seed=1)
        table = tf.Variable(
            functools.partial(initial, [rows, width], tf.float32),
            shape=[rows, width],
            dtype=tf.float32,
        )
        tables[name] = list(table.variables)
    return Wide(tables, tf.Variable(tf.ones([DIM]) / DIM))


def alone(state: dict[str, Any]) -> Wide:
    """The same model with these weights, in this process."""
    tables = {
        name: [tf.Variable(state[f"weights/{name}"])]
        for name in ("wide", "deep")
    }
    return Wide(tables, tf.Variable(state["weights/head"]))


def main(rows: int, steps: int) -> dict[str, Any]:
    """Everything; returns what is printed."""
    cluster = _cluster()
    with _processes(cluster):
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), rpc_layer="grpc"
        )
        library.load()
        partitioner = tf.distribute.experimental.partitioners
        strategy = tf.distribute.ParameterServerStrategy(
            resolver,
            # Small variables stay whole, on one server.
            partitioner.MinSizePartitioner(4096, max_shards=SERVERS),
        )
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        with strategy.scope():
            model = on_servers(rows)
        single = alone(model.state())
        distributed = tf.function(lambda n: model.step(*batch(n, rows)))
        here = tf.function(lambda n: single.step(*batch(n, rows)))
        for number in range(steps):  # one step at a time
            coordinator.schedule(distributed, (tf.constant(number),))
            coordinator.join()
            here(tf.constant(number))
        difference = {
            name: float(np.abs(values - single.state()[name]).max())
            for name, values in model.state().items()
        }
        moved = float(np.abs(single.state()["weights/wide"]).max())
        # Each fetches from the other's port what the other has.
        places = [*cluster["ps"], *cluster["worker"]]
        sent, began = _bytes(places), time.perf_counter()
        for number in range(steps, 3 * steps):
            coordinator.schedule(distributed, (tf.constant(number),))
        coordinator.join()
        seconds = time.perf_counter() - began
        sent = _bytes(places) - sent
        scores = _scores(alone(model.state()), rows, 3 * steps)
        return {
            "rows": rows,
            "table_bytes": rows * (1 + DIM) * 4,
            "shards": {
                name: [s.device for s in shards]
                for name, shards in model.tables.items()
            },
            "lion_ops": _lion_ops(distributed),
            "difference_to_one_process": difference,
            "moved": moved,
            "steps_per_second": round(2 * steps / seconds, 1),
            "bytes_per_step": round(sent / (2 * steps)),
            "bytes_per_step_of_rows": _rows_bytes(rows, steps),
            **scores,
        }


def _scores(model: Wide, rows: int, seen: int) -> dict[str, float]:
    """On rows that no step has seen."""
    labels, logits = [], []
    for number in range(seen, seen + 8):
        ids, clicks = batch(number, rows)
        places = tf.reshape(tf.range(tf.size(ids)), tf.shape(ids))
        found = model.lookup(tf.reshape(ids, [-1]))
        labels.append(clicks.numpy())
        logits.append(model.logits(found, places).numpy())
    y, z = np.concatenate(labels), np.concatenate(logits)
    return {"auc": auc(y, z), "logloss": logloss_of_logits(y, z)}


def _rows_bytes(rows: int, step: int) -> int:
    """Rows of a batch to the worker, their gradients back, and their ids."""
    distinct = len(np.unique(batch(step, rows)[0].numpy()))
    return distinct * (2 * 4 * (1 + DIM) + 8)


def _lion_ops(function: Any) -> dict[str, list[str]]:
    """Lion's ops in the function's graph -> the devices they must run on."""
    found: dict[str, list[str]] = {}
    graph = function.get_concrete_function(tf.constant(0)).graph
    for operation in graph.get_operations():
        if "Lion" in operation.type:
            found.setdefault(operation.type, []).append(operation.device)
    return found


def _bytes(addresses: Sequence[str]) -> int:
    """Through connections to these so far, as the kernel counts."""
    ports = {address.rpartition(":")[2] for address in addresses}
    text = subprocess.run(
        ["ss", "-tinH"], capture_output=True, text=True, check=True
    ).stdout
    total, ours = 0, False
    for line in text.splitlines():
        if not line.startswith(("\t", " ")):
            ours = line.split()[3].rpartition(":")[2] in ports
        elif ours:
            counts = re.findall(r"bytes_(?:sent|received):(\d+)", line)
            total += sum(map(int, counts))
    return total


def _cluster() -> dict[str, list[str]]:
    with contextlib.ExitStack() as stack:
        free = [
            stack.enter_context(socket.socket())
            for _ in range(SERVERS + WORKERS + 1)
        ]
        for one in free:
            one.bind(("localhost", 0))
        places = [f"localhost:{one.getsockname()[1]}" for one in free]
    return {
        "ps": places[:SERVERS],
        "worker": places[SERVERS:-1],
        CHIEF: places[-1:],
    }


@contextlib.contextmanager
def _processes(cluster: dict[str, list[str]]) -> Iterator[None]:
    """Servers and workers, which end with the block."""
    started = []
    try:
        for kind in ("ps", "worker"):
            for index in range(len(cluster[kind])):
                task = {"type": kind, "index": index}
                config = json.dumps({"cluster": cluster, "task": task})
                started.append(
                    subprocess.Popen(
                        [sys.executable, __file__, "--serve"],
                        env={**os.environ, "TF_CONFIG": config},
                    )
                )
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def serve() -> None:
    """A server or a worker, as TF_CONFIG says; ends when killed."""
    # Before the server starts: what it can run is known by then.
    library.load()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
    ).join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.serve:
        serve()
    else:
        result = json.dumps(main(options.rows, options.steps), indent=1)
        print(result)
        if options.out:
            options.out.write_text(result)
