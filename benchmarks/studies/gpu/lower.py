"""Save the programs that `run.py` runs on a GPU as HLO, and references.

    python -m benchmarks.studies.gpu.lower --out build/hlo

Needs TensorFlow and the op library, but no GPU. Beside the updates of single
variables there is the whole training step of the product's wide and deep
model, as a function of its weights; small ones come with the numbers that
the CPU kernels give for them.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.studies.gpu.saving import register_tpu, save
from optimizers import ops
from optimizers.ops.library import load

FIELDS, NUMBERS, DIM = 26, 13, 16
RATES = (1e-3, 0.9, 0.99, 0.01)  # lr, beta_1, beta_2, weight_decay
HIDDEN = {"256-128": (256, 128), "1024x5": (1024,) * 5}
# FBGEMM's published shape: 10 tables of 1.68M rows, all in one here.
FBGEMM = {"rows": 16_800_000, "width": 128, "ids": 1_048_570}


def main() -> None:
    """Writes programs, references and `programs.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/hlo"))
    parser.add_argument("--platform", choices=["GPU", "TPU"], default="GPU")
    parser.add_argument(
        "--updates", action="store_true", help="small updates alone, with text"
    )
    options = parser.parse_args()
    if load().ops is None:
        parser.exit(1, f"The op library is not usable: {load().reason}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.platform == "TPU":
        register_tpu()
    out, platform = options.out, options.platform
    if options.updates:
        programs = _updates(out, platform, large=False)
    else:
        programs = [*_updates(out, platform), *_steps(out, platform)]
    listed = json.dumps(programs, indent=1)
    (out / "programs.json").write_text(listed, "utf-8")


def _updates(
    out: Path, platform: str, large: bool = True
) -> list[dict[str, Any]]:
    small = {"parameters": 4099, "rows": 997, "width": 24, "ids": 1500}
    programs = []
    for var, m, cautious in (
        ("float32", "float32", False),
        ("float32", "float32", True),
        ("float32", "bfloat16", False),
        ("bfloat16", "bfloat16", False),
        ("float16", "float32", False),
    ):
        variant = (var, m, cautious)
        programs += _update(out, platform, "small", *variant, small)
    if large:
        sizes = {"parameters": 100_000_000, **FBGEMM}
        for m in ("float32", "bfloat16"):
            variant = ("float32", m, False)
            programs += _update(out, platform, "large", *variant, sizes)
    return programs


def _update(
    out: Path,
    platform: str,
    size: str,
    var: str,
    m: str,
    cautious: bool,
    shape: dict[str, int],
) -> list[dict[str, Any]]:
    """The dense and the sparse update of a variable of these dtypes."""
    wide = [tf.TensorSpec([], tf.float32)] * 4
    scalars = (*wide, tf.TensorSpec([], tf.int32))  # rates, step

    def options(step: Any) -> dict[str, Any]:
        return {
            "cautious": cautious,
            "seed": 1,
            "step": step,
            "stochastic": True,
        }

    def dense(var: Any, m: Any, grad: Any, *rates_step: Any) -> Any:
        *rates, step = rates_step
        return ops.lion_update(var, m, grad, *rates, **options(step))

    def sparse(var: Any, m: Any, grad: Any, ids: Any, *rates_step: Any) -> Any:
        *rates, step = rates_step
        return ops.sparse_lion_update(
            var, m, grad, ids, *rates, **options(step)
        )

    flat, table = [shape["parameters"]], [shape["rows"], shape["width"]]
    rows = [shape["ids"], shape["width"]]
    found = []
    for kind, function, shapes in (
        ("dense", dense, [(flat, var), (flat, m), (flat, var)]),
        ("sparse", sparse, [(table, var), (table, m), (rows, var)]),
    ):
        given = [tf.TensorSpec(s, d) for s, d in shapes]
        if kind == "sparse":
            given.append(tf.TensorSpec([shape["ids"]], tf.int32))
        name = f"{kind}-{size}-{var}-{m}{'-cautious' * cautious}"
        specs = (*given, *scalars)
        save(out / f"{name}.hlo.pb", function, specs, platform)
        if size == "small":
            save(out / f"{name}.hlo.txt", function, specs, platform)
        found.append(
            {
                "name": name,
                "kind": kind,
                "size": size,
                "states": 2,
                "cautious": cautious,
            }
        )
    return found


def _steps(out: Path, platform: str) -> list[dict[str, Any]]:
    import keras

    found = []
    for (name, hidden), policy in itertools.product(
        HIDDEN.items(), ("float32", "mixed_bfloat16")
    ):
        keras.config.set_dtype_policy(policy)
        found.append(
            _step(
                out, platform, f"step-{name}-{policy}", hidden, 65_536, 100_000
            )
        )
    keras.config.set_dtype_policy("float32")
    found.append(_step(out, platform, "step-small", (16, 8), 64, 50))
    return found


def _step(
    out: Path,
    platform: str,
    name: str,
    hidden: tuple[int, ...],
    batch: int,
    size: int,
) -> dict[str, Any]:
    """One step: weights, momenta, batch -> weights, momenta, loss."""
    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import IdFeature, Layout

    layout = Layout(
        tuple(IdFeature(f"C{i}", size, DIM) for i in range(FIELDS)),
        (),
        tuple(f"I{i}" for i in range(NUMBERS)),
    )
    model = build_model(layout, ModelConfig(hidden=hidden), 0.25)
    variables = model.trainable_variables
    count = len(variables)

    def step(*arguments: Any) -> Any:
        weights, momenta = arguments[:count], arguments[count : 2 * count]
        ids, numbers, label = arguments[2 * count :]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, _ = model.stateless_call(
                list(weights),
                [v.value for v in model.non_trainable_variables],
                {"ids": ids, "dense": numbers},
                training=True,
            )
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
            )
        gradients = tape.gradient(loss, weights)
        states = []
        for var, m, grad in zip(weights, momenta, gradients, strict=True):
            if isinstance(grad, tf.IndexedSlices):
                states.append(
                    ops.sparse_lion_update(
                        var, m, grad.values, grad.indices, *RATES
                    )
                )
            else:
                states.append(ops.lion_update(var, m, grad, *RATES))
        new, new_m = zip(*states, strict=True)
        return *new, *new_m, loss

    state = [tf.TensorSpec(v.shape, v.dtype) for v in variables] * 2
    inputs = (
        tf.TensorSpec([batch, FIELDS], tf.int64),
        tf.TensorSpec([batch, NUMBERS], tf.float32),
        tf.TensorSpec([batch], tf.float32),
    )
    save(out / f"{name}.hlo.pb", step, (*state, *inputs), platform)
    if batch < 1000:
        rng = np.random.default_rng(0)
        given = [rng.normal(size=s.shape, scale=0.1) for s in state]
        given += [
            rng.integers(0, size, inputs[0].shape),
            rng.normal(size=inputs[1].shape),
            rng.integers(0, 2, inputs[2].shape),
        ]
        arrays = [
            np.asarray(x, s.dtype.as_numpy_dtype)
            for x, s in zip(given, (*state, *inputs), strict=True)
        ]
        results = tf.function(step)(*map(tf.constant, arrays))
        numbered: dict[str, Any] = {
            **{f"in{i:03}": x for i, x in enumerate(arrays)},
            **{f"out{i:03}": x.numpy() for i, x in enumerate(results)},
        }
        np.savez_compressed(
            out / f"{name}.npz",
            **numbered,
        )
    return {
        "name": name,
        "kind": "step",
        "size": "small" if batch < 1000 else "large",
        "states": 2 * count,
        "batch": batch,
        "ids_below": size,
    }


if __name__ == "__main__":
    main()
