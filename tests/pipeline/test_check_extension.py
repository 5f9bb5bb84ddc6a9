"""`lionctr check my_models:build` runs the contract of the kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf  # noqa: F401 (not among the quick tests)

from pipeline.cli import main
from pipeline.commands.check_extension import kind_of
from pipeline.extensions import KINDS

OWN = """
import keras
import numpy as np
import tensorflow as tf
from components.click_log_gen.formats.text import TextFormat


def build(layout, config, base_rate):
    from models.architectures.wide_deep import build
    return build(layout, config, base_rate)


def narrow(layout, config, base_rate):
    from models.architectures.wide_deep import build
    model = build(layout, config, base_rate)
    model.trainable_variables[0].trainable = bool(layout.lists)
    return model


class Signs(keras.optimizers.Optimizer):
    def update_step(self, gradient, variable, learning_rate):
        rate = keras.ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * keras.ops.sign(gradient))


class Climbs(Signs):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(-1 * gradient, variable, learning_rate)


class Stop(keras.callbacks.Callback):
    seen = []

    def __init__(self, once=False):
        super().__init__()
        self.once = once

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)
        self.model.stop_training = self.once and len(self.seen) > 3


class Bias:
    def terms(self, labels, probabilities):
        return np.stack([probabilities - labels], 1)

    def value(self, sums):
        return sums[..., 1] / sums[..., 0]


class Margin:
    def __init__(self, margin=1.0):
        self.margin = margin

    def __call__(self, logits, labels, weights, groups):
        return tf.nn.softplus(self.margin + (1 - 2 * labels) * logits)


def enough(report, least=1):
    return [] if report["rows"] >= least else ["too few rows"]


class Words(TextFormat):
    names_columns = True

    def names(self, chunk, source):
        return ["word"]

    def parse(self, lines, source, columns):
        import pyarrow as pa

        words = [lines.row(n) for n in range(len(lines))]
        return lines.rows({name: pa.array(words) for name in columns}, {})


value = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_parts.py").write_text(OWN)
    (tmp_path / "words.txt").write_text("one\ntwo\nthree\nfour\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("own_parts:build", ["--set", "hidden=[8]"], "an architecture"),
        ("own_parts:Signs", ["--set", "learning_rate=0.001"], "an optimizer"),
        ("own_parts:Stop", [], "a callback"),
        ("own_parts:Margin", ["--set", "margin=2"], "a loss"),
        ("own_parts:Bias", [], "a metric"),
        ("own_parts:enough", ["--set", "least=3"], "a gate"),
        ("own_parts:Words", ["--sample", "words.txt"], "a log format"),
        ("brier", [], "a metric"),
    ],
)
def test_what_keeps_to_its_contract_is_told_its_kind(
    here: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    words: list[str],
    kind: str,
) -> None:
    assert main(["check", name, *words]) == 0
    out = capfd.readouterr().out
    assert out == f"{name}: keeps to the contract of {kind}\n"


@pytest.mark.parametrize(
    ("code", "name", "words", "message"),
    [
        (1, "own_parts:Climbs", [], "the loss rises"),
        (1, "own_parts:Stop", ["--set", "once=true"], "keeps state outside"),
        (2, "own_parts:value", [], "received a int; accepted: a log format"),
        (2, "own_parts:Words", [], "--sample"),
        (2, "own_parts:none", [], "has no 'none'"),
        (2, "nowhere:x", [], "cannot import 'nowhere'"),
        (2, "adan", [], "adan"),
        (2, "own_parts:Bias", ["--set", "x"], "key=value"),
        (2, "own_parts:Bias", ["--set", "x=1"], "no settings"),
    ],
)
def test_what_does_not_is_told_why(
    here: Path,
    capfd: pytest.CaptureFixture[str],
    code: int,
    name: str,
    words: list[str],
    message: str,
) -> None:
    assert main(["check", name, *words]) == code
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_ours_has_a_kind(kind: str) -> None:
    for name in KINDS[kind].names:
        found = kind_of(name)
        assert found == kind or kind == "objectives"
