"""The folder `optimizers/` by itself, without the rest of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import optimizers
heavy = {"keras", "tf_keras", "tensorflow"} & set(sys.modules)
assert not heavy, heavy
assert "lion" in optimizers.names()

sys.modules["tf_keras"] = None  # as if it were not installed
import keras, tensorflow as tf
three = keras.Variable([1.0, 1.0])
optimizers.Lion(0.5).apply([tf.constant([1.0, -1.0])], [three])
del sys.modules["tf_keras"]

from optimizers import tf_keras as lion_tf_keras
assert lion_tf_keras is optimizers.tf_keras
two = tf.Variable([1.0, 1.0])
gradient = tf.IndexedSlices(tf.constant([1.0, -1.0]), [0, 1], [2])
lion_tf_keras.Lion(0.5).apply_gradients([(gradient, two)])

rest = {"components", "models", "pipeline", "serving"} & set(sys.modules)
assert not rest, rest
print(optimizers.__file__, three.numpy().tolist(), two.numpy().tolist())
"""


@pytest.mark.ci
def test_the_folder_alone_imports_and_updates_in_both_kerases(tmp_path):
    shutil.copytree(ROOT / "optimizers", tmp_path / "optimizers")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "optimizers" / "__init__.py"
    assert result.stdout == f"{folder} [0.5, 1.5] [0.5, 1.5]\n"
