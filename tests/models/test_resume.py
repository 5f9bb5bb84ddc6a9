"""A training that was stopped ends as one that was not."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from models.checkpointing.checkpoint import Checkpoints
from models.training.divergence import advice, diverged
from tests import forks
from tests.models import training

ROOT = Path(__file__).resolve().parents[2]
# All that has a state of its own: slots, steps that a row sat out, averages,
# schedule, dropout, best weights.
SETTINGS: dict[str, Any] = {
    "optimizer": {
        "groups": [
            {
                "match": ".*/table",
                "name": "lion",
                "sparse": "decayed",
                "learning_rate": 0.01,
            },
            {
                "match": ".*",
                "name": "adamw",
                "use_ema": True,
                "ema_overwrite_frequency": 5,
            },
        ],
        "schedule": {"name": "cosine", "warmup": 9},
    },
    "early_stopping": {"patience": 3},
    "eval_steps": 16,
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    training.write(folder)
    return folder


@pytest.fixture(scope="module")
def whole(
    examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Checkpoints that a kill leaves, and all that training on changes."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "killed", train_and_copy(examples, folder, {})[1]


class At(keras.callbacks.Callback):
    """Does something once, when a step is reached."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self._step, self._action = step, action

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 >= self._step and self._action:
            action, self._action = self._action, None
            action()

    def of(self, model: str) -> Any:
        """The same for a model of Keras 2, if it is one."""
        if not model.startswith("tfrs"):
            return self
        return tf_keras.callbacks.LambdaCallback(
            on_batch_end=self.on_train_batch_end
        )


def train_and_copy(
    examples: Path, folder: Path, settings: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Trains to the end; `killed` has the checkpoints as of step 40 or so."""
    end, killed = folder / "end", folder / "killed"
    copy = At(40, lambda: shutil.copytree(end, killed))
    model = settings.get("model", "")
    return training.train(examples, end, settings, [copy.of(model)])


def same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert set(left) == set(right)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], name)


def killed_at(step: int, folder: Path, command: list[str]) -> None:
    """Runs the command until the checkpoint of `step` is there."""
    wanted, log = folder / f"step-{step:010d}", folder.with_suffix(".txt")
    process = forks.start(command, ROOT, log)
    while process.is_alive() and not wanted.exists():
        time.sleep(0.002)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, log.read_text()[-3000:]


@pytest.mark.ci  # like the next ones, which stop without a kill
def test_killed_it_ends_with_the_same_bits(
    tmp_path: Path, examples: Path
) -> None:
    folder, out = tmp_path / "k", tmp_path / "k.npz"
    settings = {**SETTINGS, "epochs": 4, "observe_steps": 10}
    command = ["tests.models.training", str(examples), str(folder), str(out)]
    command += [json.dumps(settings)]
    killed_at(21, folder, command)
    killed_at(70, folder, command)
    process = forks.start(command, ROOT, tmp_path / "last.txt")
    process.join(600)
    assert process.exitcode == 0, (tmp_path / "last.txt").read_text()[-3000:]
    result, expected = training.train(examples, None, settings)
    with np.load(out) as found:
        first, last = found["steps"]
        assert first >= 70 and first % 7 == 0
        assert last == result.steps
        assert found["logloss"] == result.eval_logloss < 0.6
        same(expected, {name: found[name] for name in expected})


@pytest.mark.parametrize(
    ("number", "model", "step"),
    [
        (signal.SIGTERM, "wide_deep", 40),
        pytest.param(  # an epoch's last
            signal.SIGINT, "tfrs_dcn", 32, marks=pytest.mark.slow
        ),
    ],
)
def test_a_signal_keeps_what_was_learned(
    tmp_path: Path,
    examples: Path,
    whole: tuple[Path, dict[str, Any]],
    number: int,
    model: str,
    step: int,
) -> None:
    settings = {
        "checkpoint_steps": 10_000,
        "observe_steps": 10,  # stretches end there
        "model": model,
    }
    before = signal.getsignal(number)
    with pytest.raises((SystemExit, KeyboardInterrupt)) as error:
        training.train(
            examples,
            tmp_path,
            settings,
            [At(step, lambda: signal.raise_signal(number)).of(model)],
        )
    if number == signal.SIGTERM:
        assert error.value.code == 143
    assert signal.getsignal(number) is before
    result, found = training.train(examples, tmp_path, settings)
    assert step <= result.resumed_at < result.steps
    if model == "wide_deep":
        same(whole[1], found)
    else:
        assert result.resumed_at == step
        same(training.train(examples, None, settings)[1], found)


# The first two together have all that the others have alone.
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            {
                "gradient_accumulation_steps": 6,
                "clipnorm": 0.1,
                "cautious": True,
                "use_ema": True,
            },
            {},
            marks=pytest.mark.ci,
        ),
        pytest.param(
            {"momentum_dtype": "bfloat16", "sparse": "decayed"},
            {"kernel": "python"},
            marks=pytest.mark.ci,
        ),
        pytest.param(
            {"gradient_accumulation_steps": 6, "clipnorm": 0.1},
            {},
            marks=pytest.mark.ci,
        ),
        pytest.param(
            {"momentum_dtype": "bfloat16", "sparse": "decayed"},
            {},
            marks=pytest.mark.ci,
        ),
        ({"cautious": True, "use_ema": True}, {}),
        pytest.param(
            {"momentum_dtype": "bfloat16"},
            {"kernel": "python"},
            marks=pytest.mark.ci,
        ),
    ],
    ids=str,
)
def test_in_any_state_of_lion_it_goes_on_with_the_same_bits(
    tmp_path: Path,
    examples: Path,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    spec = {"name": "lion", "learning_rate": 0.003, **before}
    expected = train_and_copy(examples, tmp_path, {"optimizer": spec})[1]
    settings = {"optimizer": {**spec, **after}}
    result, found = training.train(examples, tmp_path / "killed", settings)
    # In the middle of an accumulation, where there is one.
    assert result.resumed_at == 35 and result.resumed_at % 6
    same(expected, found)


@pytest.mark.ci
@pytest.mark.parametrize("curves", [False, True])
def test_after_a_linear_start_it_goes_on_with_the_same_bits(
    tmp_path: Path, examples: Path, curves: bool
) -> None:
    settings = {
        "linear_start": True,
        "curves": curves,
        "eval_steps": 16,
        "early_stopping": {"patience": 9},
        "state": "linear",
    }
    expected = train_and_copy(examples, tmp_path, settings)[1]
    result, found = training.train(examples, tmp_path / "killed", settings)
    assert result.resumed_at == 35
    assert result.course.evaluations == 5  # the start's is one
    same(expected, found)
    # The next day the wide part learns again.
    warm = {"base": "linear", "epochs": 1, "early_stopping": None}
    _, later = training.train(examples, None, warm)
    moved = later["model/wide/table"] != found["model/wide/table"]
    assert moved.any()
    steps = [name for name in found if name.startswith("model/deep/curves/")]
    assert len(steps) == 3 * curves and set(steps) <= set(later)
    for name in steps:  # the curves go on too, from where they were
        assert (later[name] != found[name]).any() == name.endswith("weight")
        assert np.abs(later[name] - found[name]).max() < 0.2


@pytest.mark.ci
@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dlrm"])
def test_one_that_began_warm_goes_on_from_its_own_checkpoint(
    tmp_path: Path, examples: Path, model: str
) -> None:
    settings = {**SETTINGS, "model": model, "negatives": {"keep": 0.25}}
    _, first = training.train(examples, None, {**settings, "state": "first"})
    settings |= {"base": "first", "negatives": {}}
    straight, expected = train_and_copy(examples, tmp_path, settings)
    result, found = training.train(examples, tmp_path / "killed", settings)
    assert result.resumed_at == 35 < result.steps == straight.steps
    same(expected, found)
    steps = [name for name in found if "iteration" in name]
    assert steps
    for name in steps:
        assert found[name] == first[name] + result.steps


def test_a_damaged_checkpoint_is_left_aside(
    tmp_path: Path,
    examples: Path,
    whole: tuple[Path, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    older, newest = sorted(tmp_path.glob("step-*"))
    arrays = newest / "arrays.bin"
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 1
    arrays.write_bytes(data)
    result, found = training.train(examples, tmp_path)
    assert result.resumed_at == int(older.name[5:])
    assert newest.name in caplog.text and "checksum" in caplog.text
    same(whole[1], found)


def test_what_diverges_says_where_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, examples: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    class Poison(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch >= 40:
                table = self.model.deep.hidden[0].kernel
                table.assign(table * np.inf)

    with pytest.raises(FloatingPointError) as error:
        training.train(examples, tmp_path, callbacks=[Poison()])
    message = str(error.value)
    assert "hidden_0/kernel" in message and str(tmp_path) in message
    assert "optimizer.learning_rate" in message
    result, found = training.train(examples, tmp_path)
    assert result.resumed_at
    same(whole[1], found)


def test_without_a_checkpoint_none_is_promised(tmp_path: Path) -> None:
    none = Checkpoints(str(tmp_path / "none"))
    message = str(diverged("at step 1", "the loss is not finite", none))
    assert "learning_rate" in message and "checkpoint" not in message


def test_advice_is_true_of_the_loss_and_of_the_first_step() -> None:
    assert advice(7, "logloss") == "Lower optimizer.learning_rate"
    first = advice(1, "logloss")
    assert first.startswith("No weight has moved yet") and "inputs" in first
    own = advice(7, "my:Loss")
    assert "train.loss 'my:Loss' gave it" in own and "Else lower" in own
    assert "a lower rate does not help: train.loss" in advice(1, "my:Loss")


def test_keras_callbacks_see_the_training_and_may_stop_it(
    examples: Path,
) -> None:
    seen: list[str] = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(f"{epoch} {sorted(logs)}")
            rate = self.model.optimizer.learning_rate
            self.model.optimizer.learning_rate = rate / 2
            self.model.stop_training = epoch == 1

        def on_train_begin(self, logs: Any = None) -> None:
            seen.append("begin")

        def on_train_end(self, logs: Any = None) -> None:
            seen.append("end")

    result, found = training.train(examples, None, {"epochs": 4}, [Stop()])
    logs = ["auc", "logloss", "loss", "val_auc", "val_logloss", "val_loss"]
    assert seen == ["begin", f"0 {logs}", f"1 {logs}", "end"]
    assert result.steps == 64 and result.stopped_early
    assert found["optimizer/lion/learning_rate"] == pytest.approx(0.003 / 4)


@pytest.mark.ci
def test_tensorboard_tells_how_the_weights_move(
    tmp_path: Path, examples: Path
) -> None:
    settings = {
        "optimizer": {"name": "sgd", "learning_rate": 0.01},
        "observe_steps": 10,
    }
    _, looked_at = training.train(examples, tmp_path, settings)
    values = {
        tag: list(steps.values())
        for tag, steps in training.scalars(tmp_path).items()
    }
    assert {
        "train/loss",
        "train/examples_per_second",
        "train/gradient_norm",
        "train/update_norm",
        "train/sign_flips",
        "train/rows_touched",
        "eval/logloss",
        "eval/auc",
        "eval/calibration",
        "learning_rate/sgd",
    } <= set(values)
    assert all(0 <= share <= 1 for share in values["train/sign_flips"])
    assert max(values["train/sign_flips"]) > 0
    # 64 rows of three tables' worth of ids, in the wide and the deep part.
    assert all(64 < n < 2 * (64 * 2 + 9) for n in values["train/rows_touched"])
    # SGD moves by the rate times the gradient; tables move too, others more.
    for moved, norm in zip(
        values["train/update_norm"],
        values["train/gradient_norm"],
        strict=True,
    ):
        assert 0 < moved < 0.03 * norm
    # Looking at the weights does not change them.
    quiet = {**settings, "observe_steps": 10_000}
    same(training.train(examples, None, quiet)[1], looked_at)


def test_without_room_the_error_names_the_path_and_earlier_ones_stay(
    tmp_path: Path,
) -> None:
    variables = {"model/table": tf.Variable(tf.ones([10_000]))}
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(1, variables, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=str(tmp_path)) as error:
            checkpoints.save(2, variables, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "too large" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000001"]
    variables["model/table"].assign(tf.zeros([10_000]))
    assert checkpoints.restore(variables) == {"step": 1}
    assert variables["model/table"].numpy().all()
