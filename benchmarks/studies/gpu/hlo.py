"""Compile serialized HLO with jax, without TensorFlow."""

from __future__ import annotations

import re
from typing import Any


def compiled(
    hlo: bytes, device: Any, states: int
) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    """Program for `device`, and shape and dtype of each parameter.

    The first `states` parameters are donated to the first results.
    """
    # No public function of jax takes HLO; these two have been there for long.
    from jaxlib import _jax, xla_client

    computation = xla_client.XlaComputation(hlo)
    shape = computation.program_shape()
    text = _jax.mlir.xla_computation_to_mlir_module(computation)
    for i in range(states):
        text = re.sub(
            rf"(@main\(.*?%arg{i}: tensor<[^>]*>)",
            rf"\1 {{tf.aliasing_output = {i} : i32}}",
            text,
            count=1,
        )
    program = device.client.compile_and_load(text, [device])
    return program, [
        (tuple(one.dimensions()), one.numpy_dtype())
        for one in shape.parameter_shapes()
    ]
