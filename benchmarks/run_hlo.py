"""Runs and times Lion's saved HLO with jax, without TensorFlow.

    python benchmarks/lion_hlo.py --out hlo      # where TensorFlow is
    python benchmarks/run_hlo.py hlo/*-gpu.hlo.pb          # where jax is

`var` and `m` are donated: the update is in place. The first run's result is
compared with the rule in NumPy. Bytes: the dense op reads var, m and grad and
writes var and m; the sparse one counts rows of the batch, distinct or not.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RATES = (1e-3, 0.9, 0.99, 0.01)  # lr, beta_1, beta_2, weight_decay


def main() -> None:
    """Prints parity, time and bandwidth of each file; 1 if any is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.hlo.pb")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument(
        "--peak", type=float, help="the device's memory bandwidth, GB/s"
    )
    options = parser.parse_args()
    try:
        import jax
    except ImportError:
        parser.exit(2, "run_hlo.py needs jax: pip install 'jax[cuda12]'\n")

    device = jax.devices()[0]
    print(f"{device.platform}: {device.device_kind}, jax {jax.__version__}")
    wrong = False
    for path in options.files:
        program, shapes = compiled(path.read_bytes(), device, 2)
        arrays = _inputs(shapes)
        state = [jax.device_put(array, device) for array in arrays[:2]]
        rest = [jax.device_put(array, device) for array in arrays[2:]]
        state = _execute(program, state, rest)
        error = _worst(state, arrays)
        seconds = []
        for _ in range(options.repeat):
            start = time.perf_counter()
            state = _execute(program, state, rest)
            seconds.append(time.perf_counter() - start)
        moved = arrays[2].nbytes * 5 + sum(a.nbytes for a in arrays[3:])
        middle = statistics.median(seconds)
        share = (
            f", {moved / middle / options.peak / 1e7:.0f} % of the peak"
            if options.peak
            else ""
        )
        print(
            f"{path.name}: {middle * 1e3:.3f} ms (least "
            f"{min(seconds) * 1e3:.3f}), {moved / middle / 1e9:.1f} GB/s"
            f"{share}; off by at most {error:.1e}"
        )
        wrong |= not error < 1e-5
    sys.exit(wrong)


def compiled(
    hlo: bytes, device: Any, states: int
) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    """Returns the program for `device` and its parameters' shapes, dtypes.

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


def _inputs(shapes: list[tuple[tuple[int, ...], Any]]) -> list[Any]:
    """Random var, m, grad and, if the op takes them, ids; then the rates."""
    rng = np.random.default_rng(0)
    arrays: list[Any] = []
    for shape, dtype in shapes[:-4]:
        if np.issubdtype(dtype, np.integer):
            values = rng.integers(0, shapes[0][0][0], shape)
        else:
            values = rng.standard_normal(shape, np.float32)
        arrays.append(values.astype(dtype))
    return arrays + [np.asarray(rate, np.float32) for rate in RATES]


def _execute(program: Any, state: list[Any], rest: list[Any]) -> list[Any]:
    result = program.execute([*state, *rest])
    for array in result:
        array.block_until_ready()
    return list(result)


def _worst(state: list[Any], arrays: list[Any]) -> float:
    """How far `state` is from the rule in NumPy, at the worst element."""
    lr, beta_1, beta_2, weight_decay = arrays[-4:]
    var, m, grad = arrays[0].copy(), arrays[1].copy(), arrays[2]
    rows: Any = slice(None)
    if len(arrays) == 8:
        rows, segments = np.unique(arrays[3], return_inverse=True)
        total = np.zeros((len(rows), *grad.shape[1:]), grad.dtype)
        np.add.at(total, segments, grad)
        grad = total
    old, old_m, one = var[rows], m[rows], np.float32(1)
    c = beta_1 * old_m + (one - beta_1) * grad
    var[rows] = old - lr * (np.sign(c) + weight_decay * old)
    m[rows] = beta_2 * old_m + (one - beta_2) * grad
    # Where c is all but 0 its sign depends on the order of the additions.
    sure = np.ones(var.shape, bool)
    sure[rows] = np.abs(c) > 1e-6
    off = np.abs(np.asarray(state[0]) - var)[sure].max()
    return float(max(off, np.abs(np.asarray(state[1]) - m).max()))


if __name__ == "__main__":
    main()
