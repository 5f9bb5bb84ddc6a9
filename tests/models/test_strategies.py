"""Strategies: found, chosen and refused, and what XLA compiles in them."""

from __future__ import annotations

import pytest
import tensorflow as tf

from models.errors import InputError
from models.training.distribution import build_strategy, use_jit


def test_workers_without_a_cluster_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="TF_CONFIG with two workers"):
        build_strategy("multi_worker")
    monkeypatch.setenv("TF_CONFIG", "{worker")
    with pytest.raises(InputError, match="TF_CONFIG is not JSON"):
        build_strategy("auto")


def test_without_a_tpu_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(InputError, match=r"strategy: tpu found no TPU.*TPU_N"):
        build_strategy("tpu")
    assert build_strategy("auto").num_replicas_in_sync == 1


@pytest.mark.parametrize("name", ["auto", "one_device"])
def test_one_device_is_enough(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert build_strategy(name).num_replicas_in_sync == 1


@pytest.mark.parametrize("replicas", [1, 2])
def test_on_several_gpus_no_step_is_compiled(
    monkeypatch: pytest.MonkeyPatch, replicas: int
) -> None:
    # TensorFlow: "Trying to access resource ... located in another device".
    devices = tf.config.list_logical_devices("CPU") * replicas
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices)
    monkeypatch.setattr(
        tf.distribute.Strategy, "num_replicas_in_sync", replicas
    )
    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
    assert use_jit("auto", strategy) == (replicas == 1)
    assert not use_jit(False, strategy)
    if replicas == 1:
        assert use_jit(True, strategy)
        return
    with pytest.raises(
        InputError, match=r"train\.jit: received true; accepted"
    ):
        use_jit(True, strategy)
