"""Epochs: read ahead across their borders, trained on one by one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from models.architectures.registry import build_model
from models.config.training import EarlyStopping, ModelConfig, TrainConfig
from models.input_pipeline.dataset import Batches
from models.keras_versions import start_afresh
from models.training import loop
from models.variables import named_variables
from optimizers.registry import build_optimizer
from tests.models import training
from tests.models.test_resume import same

ROWS = 500  # the last of 8 batches has 52


class Seen(keras.callbacks.Callback):
    """Calls of callbacks, and the step before each."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self._step = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step = batch + 1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.events.append(("begin", epoch, self._step))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.events.append(("end", epoch, self._step, logs.get("logloss")))

    def on_test_end(self, logs: Any = None) -> None:
        self.events.append(("test", self._step, logs["logloss"]))


class Counted(Batches):
    """Counts how often it is begun to read."""

    streams = 0

    def stream(self, *given: Any, **named: Any) -> Any:
        """As that of Batches."""
        self.streams += 1
        return super().stream(*given, **named)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("examples")
    training.write(folder, ROWS)
    return [f"{folder}/part-*"]


def trained(
    data: Any,
    files: list[str],
    rows: int = ROWS,
    held_out: Any = None,
    **settings: Any,
) -> tuple[loop.Result, list[Any], dict[str, Any]]:
    config = TrainConfig(batch_size=64, epochs=4, **settings)
    start_afresh(1)
    model = build_model(training.LAYOUT, ModelConfig(hidden=(8,)), 0.5)
    optimizer = build_optimizer({"name": "lion", "learning_rate": 0.01}, 32)
    seen = Seen()
    result = loop.train(
        model,
        optimizer,
        data,
        held_out or Batches(files, training.Spec(), 500),
        rows,
        config,
        callbacks=[seen],
    )
    named = named_variables(model, optimizer).items()
    return result, seen.events, {name: v.numpy() for name, v in named}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"eval_steps": 5}, marks=pytest.mark.ci),
        pytest.param(
            {"early_stopping": EarlyStopping(patience=1, min_delta=0.1)},
            marks=pytest.mark.ci,
        ),
    ],
    ids=["plain", "eval_steps", "early_stopping"],
)
def test_one_reading_of_all_epochs_trains_as_one_of_each(
    files: list[str], settings: dict[str, Any]
) -> None:
    data = Counted(files, training.Spec(), 64)
    result, events, found = trained(data, files, **settings)
    assert data.streams == 2  # the second is of rows scored at the end
    alone, expected, weights = trained(data.epoch(), files, **settings)
    assert events == expected
    assert [e[:3] for e in events if e[0] == "begin"][:2] == [
        ("begin", 0, 0),
        ("begin", 1, 8),
    ]
    assert (result.steps, result.examples) == (alone.steps, alone.examples)
    if settings:
        assert result.stopped_early == ("early_stopping" in settings)
    else:
        assert (result.steps, result.examples) == (32, 4 * ROWS)
    same(weights, found)


def test_each_epoch_has_every_row_in_an_order_of_its_own(
    files: list[str],
) -> None:
    data = Batches(files, training.Spec(), 64, shuffle=100, seed=3)
    ids = [batch["ids"].numpy() for batch, _ in data.stream(1, 2, epochs=3)]
    steps = [len(one) for one in ids]
    assert steps == [64] * 5 + [52] + 2 * ([64] * 7 + [52])
    second, third = np.concatenate(ids[6:14]), np.concatenate(ids[14:])
    assert not (second == third).all()
    assert sorted(map(tuple, second)) == sorted(map(tuple, third))


def test_batches_tell_the_steps_of_an_epoch_themselves(
    files: list[str],
) -> None:
    data = Batches(files, training.Spec(), 64)
    result, events, _ = trained(data, files, rows=1)
    assert (result.steps, result.examples) == (32, 4 * ROWS)
    assert [e[1] for e in events if e[0] == "begin"] == [0, 1, 2, 3]


def test_evaluations_share_one_reading_of_batches(files: list[str]) -> None:
    data, held_out = (Counted(files, training.Spec(), n) for n in (64, 500))
    _, events, _ = trained(data, files, held_out=held_out)
    assert len([e for e in events if e[0] == "test"]) == 4
    assert held_out.streams == 1


def test_a_dataset_that_ends_before_its_time_ends_the_training(
    files: list[str],
) -> None:
    data = Batches(files, training.Spec(), 64).epoch()
    result, _, _ = trained(data, files, rows=2 * ROWS)
    assert (result.steps, result.examples) == (8, ROWS)
