"""Where a training runs: its strategy, its processes, whether XLA compiles."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context

from models.errors import InputError
from models.training.cluster import is_chief, tf_config, workers

log = logging.getLogger("lionctr.train")

# TensorFlow's own, 10 s, ends a training when a machine stalls for a moment.
# A process that died is mostly noticed at once, by its connections.
HEARTBEAT_SECONDS = 60

# How TensorFlow says that another process does not answer, or is a new one.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
"""Errors of a process whose peer has gone."""


class Team:
    """The processes that train together; they decide together.

    What one process measures by itself (a clock, a signal, a metric) must not
    decide how many steps it makes: the others would wait for it forever.
    """

    def __init__(self, strategy: Any) -> None:
        self.strategy = strategy
        self.alone = not isinstance(
            strategy, tf.distribute.MultiWorkerMirroredStrategy
        )
        self.chief = self.alone or is_chief()
        self._gather_replicas = tf.function(self._gather_values)

    def gather_from_processes(self, *values: float) -> npt.NDArray[np.float64]:
        """Values of each process [processes, values], the chief's first.

        All must call it, and none goes on before all have.
        """
        values_here = np.array([values], np.float64)
        if self.alone:
            return values_here
        found: npt.NDArray[np.float64] = self._gather_replicas(
            tf.constant(values_here)
        ).numpy()
        return found[:: len(found) // workers()]  # a row for each replica

    def _gather_values(self, values_here: tf.Tensor) -> tf.Tensor:
        def here() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # A tensor that was made outside has no device.
            return context.all_gather(tf.identity(values_here), axis=0)

        found = self.strategy.run(here)
        return self.strategy.experimental_local_results(found)[0]


def build_strategy(name: str) -> Any:
    """The strategy that `train.strategy` names.

    `auto` takes a TPU if there is one, the workers of TF_CONFIG if it names
    several, all GPUs if there are several, else one device. `multi_worker`
    must be built before TensorFlow runs anything.

    Raises:
        InputError: what the strategy needs is not there.
    """
    if name == "auto":
        name = _best()
    if name == "mirrored":
        devices = [
            device.name
            for kind in ("GPU", "CPU")
            for device in tf.config.list_logical_devices(kind)
        ]
        gpus = [device for device in devices if "GPU" in device]
        strategy = _mirrored(*(gpus or devices))
    elif name == "multi_worker":
        if workers() < 2:
            raise InputError(
                "train.strategy: multi_worker needs the environment variable"
                " TF_CONFIG with two workers or more, as Kubeflow's training"
                f" operator sets it. Received: {os.environ.get('TF_CONFIG')!r}"
            )
        strategy = _one_of_workers()
    elif name == "tpu":
        try:
            resolver = (
                tf.distribute.cluster_resolver.TPUClusterResolver.connect(
                    os.environ.get("TPU_NAME") or "local"
                )
            )
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(
                "train.strategy: tpu found no TPU. Accepted: a TPU on this"
                " machine, or its name in the environment variable TPU_NAME."
                f" TensorFlow says: {str(error).splitlines()[0]}"
            ) from error
        strategy = tf.distribute.TPUStrategy(resolver)
    else:
        strategy = tf.distribute.get_strategy()
    log.info("strategy: %s, replicas: %d", name, strategy.num_replicas_in_sync)
    return strategy


def use_jit(setting: str | bool, strategy: Any) -> bool:
    """True if XLA compiles steps: by itself on accelerators only.

    XLA compiles no step in which replicas exchange rows, but on TPUs.

    Raises:
        InputError: `train.jit: true` where several replicas are no TPUs.
    """
    replicas = strategy.num_replicas_in_sync
    apart = replicas > 1 and not isinstance(strategy, tf.distribute.TPUStrategy)
    if setting is True and apart:
        raise InputError(
            f"train.jit: received true; accepted with {replicas} replicas that"
            " are no TPUs: auto, false (XLA compiles no exchange between them)"
        )
    if isinstance(setting, bool):
        return setting
    chosen = not apart and any(
        tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU")
    )
    log.info(
        "jit: auto: steps are %s (XLA pays on one GPU, and on TPUs)",
        "compiled by XLA" if chosen else "TensorFlow graphs",
    )
    return chosen


@functools.cache
def _mirrored(*devices: str) -> Any:
    """The strategy of these devices, one for all trainings of a process.

    Each strategy numbers its collective operations from the same number on,
    and TensorFlow refuses a number that was met with another shape before.
    """
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _one_of_workers() -> Any:
    """The strategy of this process among the workers.

    There is one for all trainings of a process: a second would start the
    server of the first anew, and whom that one serves would wait forever.
    """
    cluster = tf_config()["cluster"]
    jobs = [kind for kind in ("chief", "worker") if cluster.get(kind)]
    # As the strategy would do by itself, but with our heartbeat.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(
                name=kind, num_tasks=len(cluster[kind])
            )
            for kind in jobs
        ],
    )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _best() -> str:
    if os.environ.get("TPU_NAME"):
        return "tpu"
    if workers() > 1:  # asked before devices are: see above
        return "multi_worker"
    if tf.config.list_logical_devices("TPU"):
        return "tpu"
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"
