"""Losses: the formulas, their gradients, and what each is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.losses import LOSSES, LossConfig
from models.config.training import (
    EarlyStopping,
    ModelConfig,
    Negatives,
    TrainConfig,
)
from models.contracts import loss as contract
from models.errors import InputError
from models.input_pipeline.groups import by_group
from models.losses.registry import build_loss
from models.preprocessing.input_layout import Layout
from models.training import loop, loss_report
from models.training.calibration import Rows, platt
from models.training.early_stopping import deciding
from models.training.evaluation import Evaluation
from models.training.group_metrics import gauc
from models.training.metrics import logloss_of_logits, sigmoid
from optimizers.registry import build_optimizer
from tests import forks

RNG = np.random.default_rng(11)
N = 40
LOGITS = RNG.normal(size=(N, 2))
LABELS = (RNG.random(N) < 0.4).astype(float)
WEIGHTS = RNG.uniform(0.5, 2.0, N)
GROUPS = RNG.integers(-1, 8, N)


class Broken:
    """Losses that no training may take."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, logits: Any, labels: Any, *_: Any) -> Any:
        if self.what == "mean":
            return tf.reduce_mean(logits)
        if self.what == "column":
            return tf.nn.relu(logits)[:, None]
        if self.what == "none":
            return None
        return labels.nothing


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("mean", r"returned shape \[\] for 4 rows; accepted: shape \[4\]"),
        ("column", r"returned shape \[4, 1\] for 4 rows"),
        ("none", "returned NoneType for 4 rows"),
        ("raises", "raised AttributeError"),
    ],
)
def test_a_loss_that_is_not_of_each_row_is_refused(
    what: str, words: str
) -> None:
    name = f"{__name__}:Broken"
    config = LossConfig.model_validate({"name": name, "what": what})
    with pytest.raises(InputError, match=f"train.loss: '{name}' {words}"):
        build_loss(config)


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def log_loss(s: Any, y: Any) -> Any:
    p = 1 / (1 + np.exp(-s))
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def pairwise(s: Any, y: Any, w: Any, g: Any, partners: int) -> Any:
    """Loss of each row, pair by pair; partners in the order of the group."""
    losses = np.zeros(len(s))
    for i in range(len(s)):
        peers = np.flatnonzero((g == g[i]) & (g >= 0))
        place = {int(row): at for at, row in enumerate(peers)}
        over = under = 0.0
        for j in peers:
            if y[j] == y[i] or abs(place[int(j)] - place[i]) > partners:
                continue
            positive, negative = (i, j) if y[i] > 0 else (j, i)
            over += w[j] * softplus(s[negative] - s[positive])
            under += w[j]
        losses[i] = over / under if under else 0.0
    return losses


def jrc(f: Any, y: Any, w: Any, g: Any) -> Any:
    """-log of each row's share in its group, by the logit of its label."""
    losses = np.zeros(len(y))
    for i in range(len(y)):
        peers = np.flatnonzero(g == g[i]) if g[i] >= 0 else np.array([i])
        which = int(y[i])
        mean = w[peers].mean()
        total = (w[peers] / mean * np.exp(f[peers, which])).sum()
        losses[i] = np.log(total) - f[i, which]
    return losses


def reference(config: LossConfig, f: Any) -> Any:
    one = log_loss(LOGITS[:, 0], LABELS)
    s, y = LOGITS[:, 0], LABELS
    p_label = np.where(y > 0, 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(s)))
    options: Any = config
    if config.name == "focal":
        a = 1.0
        if options.alpha is not None:
            a = np.where(y > 0, options.alpha, 1 - options.alpha)
        return -a * (1 - p_label) ** options.gamma * np.log(p_label)
    if config.name == "label_smoothing":
        return log_loss(s, (1 - options.smoothing) * y + options.smoothing / 2)
    if config.name == "pairwise":
        pairs = pairwise(s, y, WEIGHTS, GROUPS, options.partners)
        share = options.logloss_share
        return share * one + (1 - share) * pairs
    if config.name == "jrc":
        share = options.logloss_share
        p = log_loss(f[:, 1] - f[:, 0], y)
        return share * p + (1 - share) * jrc(f, y, WEIGHTS, GROUPS)
    return one


@pytest.mark.parametrize(
    "section",
    [
        {"name": "logloss"},
        {"name": "focal"},
        {"name": "focal", "gamma": 0.5, "alpha": 0.25},
        {"name": "label_smoothing", "smoothing": 0.2},
        {"name": "pairwise", "group": "g"},
        {"name": "pairwise", "group": "g", "logloss_share": 0, "partners": 2},
        {"name": "jrc", "group": "g"},
        {"name": "jrc", "group": "g", "logloss_share": 0.2},
    ],
    ids=str,
)
def test_a_loss_is_its_formula(section: dict[str, Any]) -> None:
    config = LossConfig.model_validate(section)
    logits = LOGITS if config.logits == 2 else LOGITS[:, 0]
    found = build_loss(config).of_rows(
        tf.constant(logits, tf.float32),
        tf.constant(LABELS, tf.float32),
        tf.constant(WEIGHTS, tf.float32),
        tf.constant(GROUPS, tf.int64),
    )
    np.testing.assert_allclose(found, reference(config, LOGITS), atol=1e-5)


@pytest.mark.parametrize("name", LOSSES.names)
def test_every_loss_keeps_to_the_contract(name: str) -> None:
    contract.check(name)


def test_the_contract_finds_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import tensorflow as tf

class Mean:
    def __call__(self, logits, labels, weights, groups):
        return tf.reduce_mean((logits - labels) ** 2)

class Down:
    def __call__(self, logits, labels, weights, groups):
        return -tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)

class Boast:
    calibrated = True
    def __call__(self, logits, labels, weights, groups):
        return (2 * labels - 1 - logits) ** 2

class Heavy:
    def __call__(self, logits, labels, weights, groups):
        return weights * tf.nn.softplus((1 - 2 * labels) * logits)

class Good:
    def __init__(self, margin):
        self.margin = margin
    def __call__(self, logits, labels, weights, groups):
        return tf.nn.softplus(self.margin - (2 * labels - 1) * logits)
"""
    (tmp_path / "its_losses.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for name, words in {
        "Mean": "losses ()",
        "Down": "not raised above a negative",
        "Boast": "true probabilities do not minimize it",
        "Heavy": "twice the weights",
    }.items():
        with pytest.raises(AssertionError, match=re.escape(words)):
            contract.check(f"its_losses:{name}")
    contract.check("its_losses:Good", {"margin": 1})
    with pytest.raises(InputError, match=r"cannot be made.*margin"):
        contract.check("its_losses:Good")
    own = build_loss(
        LossConfig.model_validate({"name": "its_losses:Good", "margin": 1})
    )
    assert not own.calibrated


LAYOUT = Layout(single=(), lists=(), dense=("x",))


def world(seed: int, count: int = 1500, size: int = 8) -> Any:
    """Sessions whose level, which nobody sees, falls with the mean of x.

    Within a session a click rises with x; over all rows it falls.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), size)
    level = rng.normal(size=count)[groups]
    x = level + 0.6 * rng.normal(size=len(groups))
    logit = -1.0 - 3.0 * level + 1.5 * (x - level)
    label = rng.random(len(groups)) < 1 / (1 + np.exp(-logit))
    return x, label.astype(np.float32), groups


def fitted(section: Any, rows: Any, **settings: Any) -> tuple[Any, Any]:
    x, label, groups = rows
    order = by_group(groups, np.random.default_rng(1), 16)
    inputs = {
        "dense": x[order, None].astype(np.float32),
        "groups": groups[order].astype(np.int64),
    }
    data = tf.data.Dataset.from_tensor_slices((inputs, label[order]))
    keras.utils.set_random_seed(1)
    config = TrainConfig(
        loss=section, batch_size=240, epochs=3, observe_steps=10_000, **settings
    )
    model = build_model(
        LAYOUT,
        ModelConfig(hidden=(8,)).with_logits(config.loss.logits),
        float(label.mean()),
    )
    steps = 3 * -(-len(x) // 240)
    spec = {"name": "adam", "learning_rate": 0.02}
    result = loop.train(
        model, build_optimizer(spec, steps), data.batch(240),
        data.batch(4000), len(x), config,
    )  # fmt: skip
    return model, result


def judged(model: Any, rows: Any) -> tuple[float, float, Any]:
    """GAUC, mean prediction over click rate, and logits."""
    x, label, groups = rows
    data = tf.data.Dataset.from_tensor_slices(
        ({"dense": x[:, None].astype(np.float32)}, label)
    )
    _, logits = Evaluation(model).predict(data.batch(4000))
    ratio = sigmoid(logits).mean() / label.mean()
    return gauc(groups, label, logits), float(ratio), logits


def test_groups_are_ranked_by_the_losses_that_compare_them() -> None:
    train, test = world(1), world(2)
    found = {
        name: judged(fitted(section, train)[0], test)
        for name, section in {
            "logloss": "logloss",
            "both": {"name": "pairwise", "group": "g"},
            "pairs": {"name": "pairwise", "group": "g", "logloss_share": 0},
            "jrc": {"name": "jrc", "group": "g", "logloss_share": 0.1},
        }.items()
    }
    x, label, groups = test
    truth = gauc(groups, label, x)  # within a session the click rises with x
    assert found["logloss"][0] < 0.4  # over all rows it falls
    assert found["pairs"][0] > truth - 0.01
    assert found["pairs"][0] > found["logloss"][0] + 0.2
    assert found["jrc"][0] > found["logloss"][0] + 0.1
    assert found["both"][0] > found["logloss"][0] + 0.02
    # The log loss in it keeps the level.
    for name in ("logloss", "both", "jrc"):
        assert found[name][1] == pytest.approx(1, abs=0.15), name


@pytest.mark.parametrize(
    "section",
    [
        {"name": "focal", "gamma": 3},
        pytest.param(
            {"name": "label_smoothing", "smoothing": 0.3}, marks=pytest.mark.ci
        ),
    ],
)
def test_calibration_mends_what_a_loss_moved(section: Any) -> None:
    train, test = world(3), world(4)
    plain = judged(fitted("logloss", train)[0], test)
    moved = judged(fitted(section, train)[0], test)
    _, label, _ = test
    before = logloss_of_logits(label, moved[2])
    slope, intercept = platt(Rows(label, moved[2], np.ones(len(label))))
    after = logloss_of_logits(label, slope * moved[2] + intercept)
    wanted = logloss_of_logits(label, plain[2])
    assert before > wanted + 0.005
    assert after == pytest.approx(wanted, abs=0.003)
    config = TrainConfig(loss=section)
    loss = build_loss(config.loss)
    told = loss_report.describe(loss, None, config, None)
    assert not told["calibrated"]
    (line,) = loss_report.warnings(told, config, calibrates=False)
    assert "evaluate.calibrate" in line
    assert loss_report.warnings(told, config, calibrates=True) == []


def test_the_metric_of_the_loss_decides() -> None:
    def decides(loss: Any, **rule: Any) -> str:
        config = TrainConfig(loss=loss, early_stopping=EarlyStopping(**rule))
        return deciding(config.early_stopping, build_loss(config.loss))

    pairs = {"name": "pairwise", "group": "g"}
    assert decides("logloss") == "logloss"
    assert decides("focal") == "auc"
    assert decides(pairs) == "logloss"
    assert decides({**pairs, "logloss_share": 0}) == "gauc"
    assert decides(pairs, metric="gauc") == "gauc"

    train = world(5, 300)
    rule = {"patience": 2, "metric": "gauc"}
    _, result = fitted(pairs, train, early_stopping=rule, eval_steps=2)
    assert result.stopped_early or result.steps == 30


@pytest.mark.ci
def test_weights_sampling_accumulation_and_xla_take_any_loss() -> None:
    x, label, groups = world(6, 60)
    inputs = {
        "dense": x[:, None].astype(np.float32),
        "groups": groups.astype(np.int64),
    }
    weight = np.random.default_rng(7).uniform(0.5, 2, len(x))
    data = tf.data.Dataset.from_tensor_slices(
        (inputs, label, weight.astype(np.float32))
    )
    for name, group in (
        ("focal", {}),
        ("pairwise", {"group": "g"}),
        ("jrc", {"group": "g"}),
    ):
        ends = []
        for jit in (False, True):
            keras.utils.set_random_seed(1)
            config = TrainConfig(
                loss={"name": name, **group}, batch_size=120, jit=jit
            )
            model = build_model(
                LAYOUT,
                ModelConfig(hidden=(4,)).with_logits(config.loss.logits),
                0.3,
            )
            spec = {
                "name": "sgd",
                "learning_rate": 0.5,
                "gradient_accumulation_steps": 2,
            }
            loop.train(
                model, build_optimizer(spec, 4), data.batch(120),
                data.batch(480), 480, config,
                negatives=Negatives(keep=0.5, reweight=True),
                mean_weight=float(weight.mean()),
            )  # fmt: skip
            ends.append(model.get_weights())
        for one, other in zip(*ends, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_replicas_give_the_weights_of_one_device(tmp_path: Path) -> None:
    out = tmp_path / "weights.npz"
    process = forks.start(
        ["tests.models.mirrored_losses", str(out)],
        Path(__file__).resolve().parents[2],
        tmp_path / "log.txt",
    )
    process.join(600)
    assert process.exitcode == 0, (tmp_path / "log.txt").read_text()[-3000:]
    found = dict(np.load(out))
    pairs = [name for name in found if "/mirrored/" in name]
    assert {name.split("/")[0] for name in pairs} == {
        "focal", "pairwise", "jrc",
    }  # fmt: skip
    for name in pairs:
        one = found[name.replace("mirrored", "one_device")]
        np.testing.assert_allclose(found[name], one, atol=1e-6, err_msg=name)
