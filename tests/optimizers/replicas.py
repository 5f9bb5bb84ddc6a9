"""Trains a small model on replicas, in a process of its own.

    python replicas.py {mirrored,workers} OUT CASE...

`workers` reads TF_CONFIG. OUT, an .npz, gets `states` of each case.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

import optimizers

ROWS, DIM, STEPS, BATCH = 1009, 4, 6, 12
CASES = {
    "lazy": {},
    "decayed": {"sparse": "decayed", "loss_scale_factor": 8.0},
    "dense": {"sparse": "dense", "global_clipnorm": 0.01},
    "xla": {"kernel": "xla"},
    "clipped": {"clipnorm": 0.01},
    "averaged": {"use_ema": True, "ema_overwrite_frequency": 2},
    "accumulated": {"gradient_accumulation_steps": 2, "clipnorm": 0.01},
    "accumulated dense": {"gradient_accumulation_steps": 2, "sparse": "dense"},
    "Keras 2 lazy": {"global_clipnorm": 0.01},
    "Keras 2 decayed": {"sparse": "decayed"},
    "Keras 2 dense": {"sparse": "dense", "use_ema": True},
}


def batches():
    """Ids [BATCH, 3] and clicks [BATCH] of every step."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        ids = rng.integers(0, 20, (BATCH, 3)).astype(np.int32)
        yield ids, rng.integers(0, 2, BATCH).astype(np.float32)


def part_of(batch, replica, replicas):
    """The rows of a batch that a replica gets: not as many for each."""
    first = BATCH // replicas - 1
    rows = [slice(first), slice(first, None)][replica] if replicas > 1 else ...
    return tuple(tf.constant(x[rows]) for x in batch)


def variables_and_lion(case):
    """Returns the table, the head and Lion for them."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(ROWS, DIM)).astype(np.float32)
    head = rng.normal(size=DIM).astype(np.float32)
    arguments = {"learning_rate": 0.01, "weight_decay": 0.1, **CASES[case]}
    if case.startswith("Keras 2"):
        variables = [tf.Variable(table), tf.Variable(head)]
        lion = optimizers.tf_keras.Lion(**arguments)
    else:
        variables = [keras.Variable(table), keras.Variable(head)]
        lion = optimizers.Lion(**arguments)
    lion.build(variables)
    return variables, lion


def train(strategy, case):
    """Returns the states after the last step, and its graph."""
    with strategy.scope():
        variables, lion = variables_and_lion(case)
    table, head = variables
    scale = CASES[case].get("loss_scale_factor", 1.0)

    def replica_step(ids, clicks):
        with tf.GradientTape() as tape:
            rows = tf.gather(tf_variable(table), ids)
            logits = tf.linalg.matvec(tf.reduce_sum(rows, 1), head)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(clicks, logits)
            loss = scale * tf.reduce_sum(losses) / BATCH
        found = tape.gradient(loss, [tf_variable(v) for v in variables])
        assert isinstance(found[0], tf.IndexedSlices)
        lion.apply_gradients(zip(found, variables, strict=True))

    @tf.function
    def step(ids, clicks):
        strategy.run(replica_step, args=(ids, clicks))

    for batch in batches():
        arguments = [
            strategy.experimental_distribute_values_from_function(
                lambda context, batch=batch, i=i: part_of(
                    batch,
                    context.replica_id_in_sync_group,
                    context.num_replicas_in_sync,
                )[i]
            )
            for i in range(2)
        ]
        step(*arguments)
    graph = step.get_concrete_function(*arguments).graph
    return states(strategy, case, variables, lion), graph


def states(strategy, case, variables, lion):
    """Returns name -> array for the weights and slots of each replica."""
    two = case.startswith("Keras 2")
    slots = lion.momentums if two else lion._momentums
    named = zip(
        ("table", "head", "m0", "m1"), [*variables, *slots], strict=True
    )
    return {
        f"{case}/{name}/{replica}": one.numpy()
        for name, variable in named
        for replica, one in enumerate(
            strategy.experimental_local_results(tf_variable(variable))
        )
    }


def tf_variable(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable


def whole_tables(graph):
    """Returns the operations, of all functions, that make a whole table.

    Not the reads: TensorFlow reads a mirrored table to gather rows from it.
    """
    graphs = [graph, *(f.graph for f in functions(graph))]
    return [
        operation.type
        for one in graphs
        for operation in one.get_operations()
        for output in operation.outputs
        if output.shape.rank
        and output.shape[0] == ROWS
        and operation.type != "ReadVariableOp"
    ]


def functions(graph):
    """Returns the functions that a graph calls, and those that they call."""
    for function in graph._functions.values():
        yield function
        yield from functions(function.graph)


def main(kind, out, cases):
    """Trains every case and saves the states."""
    if kind == "workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    found = {}
    for case in cases:
        state, graph = train(strategy, case)
        found.update(state)
        found[f"{case}/whole tables"] = whole_tables(graph)
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
