"""Large tables move into huge pages at their first update, unless forbidden."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from optimizers.ops import build, custom_op

ROOT = Path(__file__).parents[3]
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SMAPS = Path("/proc/self/smaps")
RULE = (0.1, 0.9, 0.99, 0.0)
MIB_16 = 1 << 18  # rows of 16 floats
pytestmark = [
    pytest.mark.skipif(
        build.find()[0] is None, reason=f"no op library: {build.find()[1]}"
    ),
    pytest.mark.skipif(
        not SETTING.exists() or "[never]" in SETTING.read_text(),
        reason="the kernel gives no huge pages",
    ),
]


def in_huge_pages(variable: tf.Variable) -> bool:
    """True if the kernel was asked for them in the middle of the table."""
    values = np.asarray(memoryview(variable.read_value()))  # no copy
    middle = values.ctypes.data + values.nbytes // 2
    inside = False
    for line in SMAPS.read_text().splitlines():
        name, *words = line.split()
        if name == "VmFlags:" and inside:
            return "hg" in words
        if "-" in name and not name.endswith(":"):
            begin, end = (int(x, 16) for x in name.split("-"))
            inside = begin <= middle < end
    raise AssertionError(f"no mapping holds {middle:x}")


def test_a_table_of_16_mib_moves_and_the_switch_leaves_it(monkeypatch) -> None:
    # All are alive to the end: a table is known by its address.
    held = []
    for setting, rows, moved in (
        ("0", MIB_16, False),
        ("1", MIB_16, True),
        ("1", MIB_16 - 1, False),
        (None, MIB_16, True),
    ):
        if setting is None:
            monkeypatch.delenv("LION_HUGE_PAGES")
        else:
            monkeypatch.setenv("LION_HUGE_PAGES", setting)
        table = tf.Variable(tf.fill([rows, 16], 0.5))
        momentum = tf.Variable(tf.zeros([rows, 16]))
        held += [table, momentum]
        custom_op.resource_sparse_apply_lion(
            table, momentum, *RULE, tf.ones([2, 16]), tf.constant([0, rows - 1])
        )
        for variable in (table, momentum):
            assert in_huge_pages(variable) is moved, (setting, rows)
        assert table.numpy()[[0, 1, -1], 0] == pytest.approx([0.4, 0.5, 0.4])


PROGRAM = """
import tensorflow as tf
from optimizers.ops import custom_op
rows = 1 << 24
table = tf.Variable(tf.zeros([rows, 16]))
momentum = tf.Variable(tf.zeros([rows, 16], tf.bfloat16))
for _ in range(2):
    custom_op.resource_sparse_apply_lion(
        table, momentum, 0.1, 0.9, 0.99, 0.0,
        tf.ones([2, 16]), tf.constant([0, rows - 1]),
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "lines"), [("1", 1), ("0", 0)])
def test_a_line_of_the_log_says_that_a_table_of_1_gib_moves_once(
    setting: str, lines: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "0",
            "LION_HUGE_PAGES": setting,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    line = "Lion moves a table of 1024 MiB into huge pages, once"
    assert done.stderr.count(line) == lines, done.stderr[-2000:]
    assert done.stderr.count("LION_HUGE_PAGES=0 leaves it") == lines
