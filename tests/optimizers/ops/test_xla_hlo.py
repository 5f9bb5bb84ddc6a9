"""HLO that XLA makes of Lion's ops, read from its own text."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from optimizers import ops
from optimizers.ops import python
from optimizers.ops.library import load
from tests import forks

pytestmark = pytest.mark.skipif(
    load().ops is None, reason="the op library is not built"
)

ROOT = Path(__file__).parents[3]
ROWS, WIDTH = 4096, 8
RATES = (0.125, 0.9, 0.99, 0.25)


def hlo(function, *arguments, stage="optimized_hlo", **options):
    text = function.experimental_get_compiler_ir(*arguments)(
        stage=stage, **options
    )
    return re.sub(r", metadata=\{[^}]*\}", "", text)


def aliased(text):
    """The pairs (output, parameter) that share memory."""
    header = text.splitlines()[0]
    return re.findall(r"\{(\d+)\}: \((\d+), \{\}, m\w+-alias\)", header)


def entry(text):
    return text[text.index("\nENTRY") :]


def copies(text, shape):
    return re.findall(rf"{re.escape(shape)}\S* copy\(", text)


def run(folder, *words, **environment):
    out, error = folder / "out.txt", folder / "errors.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = forks.start(words, folder, out, error, environment)
    process.join(300)
    assert process.exitcode == 0, error.read_text()[-2000:]
    return out.read_text()


def dense_step(var, m):
    @tf.function(jit_compile=True)
    def step(grad, lr):
        ops.resource_apply_lion(var, m, lr, *RATES[1:], grad, step=1)

    return step


@pytest.mark.parametrize("m_dtype", ["float32", "bfloat16"])
def test_dense_update_is_in_place_with_one_fusion_an_output(m_dtype):
    var = tf.Variable(tf.ones([ROWS, WIDTH]))
    m = tf.Variable(tf.zeros([ROWS, WIDTH], m_dtype))
    text = hlo(dense_step(var, m), tf.ones([ROWS, WIDTH]), tf.constant(0.1))
    assert len(aliased(text)) == 2
    assert not copies(text, f"[{ROWS},{WIDTH}]")
    assert len(re.findall(r" fusion\(", entry(text))) == 2


def test_dense_update_is_one_fusion_where_xla_fuses_several_outputs(tmp_path):
    # XLA for CPU does so if it is told to; the passes for GPU and TPU cannot
    # be run here.
    program = f"""
import tensorflow as tf
from optimizers import ops
@tf.function(jit_compile=True)
def step(var, m, grad, lr):
    return ops.lion_update(var, m, grad, lr, *{RATES[1:]})
x = tf.ones([{ROWS}, {WIDTH}])
ir = step.experimental_get_compiler_ir(x, x, x, tf.constant(0.1))
print(ir(stage="optimized_hlo"))
"""
    (tmp_path / "fusion.py").write_text(program)
    option = "xla_cpu_use_multi_output_fusion"
    flags = f"--xla_backend_extra_options={option}"
    output = run(tmp_path, "fusion", XLA_FLAGS=flags)
    instructions = re.findall(r" = .*? ([\w-]+)\(", entry(output))
    assert instructions.count("fusion") == 1
    assert set(instructions) <= {
        "fusion",
        "get-tuple-element",
        "parameter",
        "tuple",
    }


@pytest.mark.pairs
@pytest.mark.parametrize("mode", ["lazy", "decayed"])
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("ops", [ops, python], ids=["library", "python"])
@pytest.mark.parametrize(
    ("dtype", "m_dtype"),
    [
        ("float32", "float32"),
        ("float32", "bfloat16"),
        ("bfloat16", "bfloat16"),
        ("float16", "bfloat16"),
    ],
)
def test_sparse_update_is_in_place_and_copies_no_table(
    ops, mode, cautious, dtype, m_dtype
):
    var = tf.Variable(tf.ones([ROWS, WIDTH], dtype))
    m = tf.Variable(tf.zeros([ROWS, WIDTH], m_dtype))
    last_step = tf.Variable(tf.zeros([ROWS], tf.int32))

    @tf.function(jit_compile=True)
    def step(grad, ids, number):
        if mode == "lazy":
            ops.resource_sparse_apply_lion(var, m, *RATES, grad, ids, cautious)
        else:
            ops.resource_sparse_apply_decayed_lion(
                var, m, last_step, number, *RATES, grad, ids, cautious
            )

    grad = tf.ones([100, WIDTH], dtype)
    text = hlo(step, grad, tf.range(100), tf.constant(1, tf.int32))
    assert len(aliased(text)) == (2 if mode == "lazy" else 3)
    # In pure TensorFlow `last_step` is copied: one integer a row.
    assert ops is python or not copies(text, f"[{ROWS}]")
    assert not copies(text, f"[{ROWS},{WIDTH}]")
    # The kernel loops over rows: a sort by XLA takes ten times as long.
    assert ops is python or " sort(" not in text
    if dtype != "float32":  # XLA for CPU widens what it computes with
        assert f"f32[{ROWS},{WIDTH}]" not in text


class Model:
    """An embedding, its mean through one layer, a logistic loss."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.table = tf.Variable(
            rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        )
        self.kernel = tf.Variable(
            rng.normal(size=(WIDTH, 1)).astype(np.float32)
        )
        self.bias = tf.Variable([0.0])
        self.slots = [tf.Variable(tf.zeros_like(v)) for v in self.variables]

    @property
    def variables(self):
        return [self.table, self.kernel, self.bias]

    def step(self, ids, labels, kernel):
        with tf.GradientTape() as tape:
            rows = tf.gather(self.table, ids)
            hidden = tf.reduce_mean(rows, axis=1)
            logits = hidden @ self.kernel + self.bias
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            )
        gradients = tape.gradient(loss, self.variables)
        for var, m, grad in zip(
            self.variables, self.slots, gradients, strict=True
        ):
            if isinstance(grad, tf.IndexedSlices):
                kernel.resource_sparse_apply_lion(
                    var, m, *RATES, grad.values, grad.indices
                )
            else:
                kernel.resource_apply_lion(var, m, *RATES, grad)
        return loss


def test_a_train_step_is_one_program_and_matches_the_uncompiled_one():
    rng = np.random.default_rng(1)
    models = Model(), Model()
    compiled = tf.function(models[0].step, jit_compile=True)
    for _ in range(5):
        ids = tf.constant(rng.integers(0, 60, (32, 4)))
        labels = tf.constant(rng.integers(0, 2, (32, 1)), tf.float32)
        losses = (
            compiled(ids, labels, ops),
            models[1].step(ids, labels, python),
        )
        np.testing.assert_allclose(*losses, rtol=1e-5)
    for one, other in zip(
        models[0].variables, models[1].variables, strict=True
    ):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
    text = hlo(compiled, ids, labels, ops)
    assert len(aliased(text)) == 6
    assert not copies(text, f"[{ROWS},{WIDTH}]")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cautious", [False, True])
def test_functional_ops_lower_for_a_gpu(dtype, cautious):
    table = tf.ones([ROWS, WIDTH], dtype)
    grad = tf.ones([100, WIDTH], dtype)

    @tf.function(jit_compile=True)
    def dense(var, m, grad):
        return ops.lion_update(var, m, grad, *RATES, cautious)

    @tf.function(jit_compile=True)
    def sparse(var, m, grad, ids):
        return ops.sparse_lion_update(var, m, grad, ids, *RATES, cautious)

    options = {"stage": "hlo", "platform_name": "GPU"}
    check_lowered(
        hlo(dense, table, table, table, **options),
        hlo(sparse, table, table, grad, tf.range(100), **options),
    )


@pytest.mark.parametrize("platform", ["GPU", "TPU"])
def test_script_saves_what_lowers_for_a_gpu_and_a_tpu(platform, tmp_path):
    words = ["benchmarks.studies.gpu.lower", "--updates"]
    run(tmp_path, *words, f"--out={tmp_path}", f"--platform={platform}")
    programs = json.loads((tmp_path / "programs.json").read_text())
    sparse = [p["name"] for p in programs if p["kind"] == "sparse"]
    assert len(sparse) == len(programs) / 2 == 5
    for name in sparse:
        check_lowered(
            (tmp_path / f"dense{name[6:]}.hlo.txt").read_text(),
            (tmp_path / f"{name}.hlo.txt").read_text(),
        )
    for path in tmp_path.glob("*.pb"):
        assert b"parameter" in path.read_bytes()


def check_lowered(dense, sparse):
    assert " sign(" in dense
    for instruction in ("sort", "reduce-window", "gather", "scatter", "sign"):
        assert f" {instruction}(" in sparse
