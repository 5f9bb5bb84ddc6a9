"""One training: the config's sections and Transform's output to a model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow_transform as tft

from models.architectures.registry import build_model
from models.checkpointing.checkpoint import Checkpoints
from models.checkpointing.saved_state import (
    Meaning,
    columns_of,
    optimizer_names,
)
from models.checkpointing.warm_start import Base, Report
from models.config.architectures import OwnConfig
from models.config.labels import further_columns, labels_of
from models.config.training import (
    WEIGHT,
    Features,
    ModelConfig,
    Negatives,
    TrainConfig,
)
from models.errors import InputError
from models.input_pipeline import row_counts
from models.input_pipeline.dataset import Batches, steps_of
from models.input_pipeline.groups import Pairs
from models.input_pipeline.label_columns import label_rows
from models.keras_versions import keras_version, start_afresh
from models.losses.registry import Loss, build_loss
from models.preprocessing.id_space import keys_of
from models.preprocessing.input_layout import (
    IDS,
    LABEL_COUNTS,
    SHALLOW_IDS,
    LabelInput,
    Layout,
    layout,
)
from models.preprocessing.transform_assets import (
    asset_lines,
    asset_size,
    asset_text,
)
from models.training import linear_start, loop, pretrained
from models.training.automatic import Choice, choose
from models.training.calibration import Rows, centred
from models.training.callbacks import configured
from models.training.distribution import Team, build_strategy
from models.training.evaluation import Evaluation, Scores
from models.training.label_losses import (
    LabelLosses,
    LabelSums,
    check_learnable,
    label_sums,
    rows_of_labels,
    shares,
)
from optimizers.config.catalog import AUTO
from optimizers.config.messages import counted
from optimizers.registry import build_optimizer

_FOLDERS = ("analysis_cache", "checkpoints")  # not what is trained
_ROWS_AT_ONCE = 1 << 14
log = logging.getLogger("lionctr.train")


@dataclass(frozen=True)
class Files:
    """Output of Transform: its graph, and examples (paths or globs)."""

    transform: tft.TFTransformOutput
    train: Sequence[str]
    eval: Sequence[str]


@dataclass(frozen=True)
class Fitted:
    """Result of a training."""

    model: Any
    optimizer: Any
    result: loop.Result
    team: Team
    loss: Loss
    warm_start: Report | None = None
    linear_start: linear_start.LinearStart | None = None
    pretrained: Sequence[pretrained.Coverage] = ()
    pairs: Pairs | None = None


class TrainingRun:
    """A training, ready to run.

    Args:
        custom: the config sections `features`, `model`, `optimizer`, `train`
            and `data.negatives` (as `negatives`), as mappings.
        files: what it trains on.
        base: what it begins with, from another training.

    Raises:
        InputError: there is nothing to learn from these rows.
    """

    def __init__(
        self,
        custom: Mapping[str, Any],
        files: Files,
        base: Base | None = None,
    ) -> None:
        self._base = base
        self.files = files
        self.features = Features.model_validate(custom["features"])
        self.negatives = Negatives.model_validate(custom["negatives"])
        self.shape: Layout = layout(
            self.features, lambda name: asset_size(files.transform, name)
        )
        negatives, positives = map(
            int, asset_lines(files.transform, LABEL_COUNTS)
        )
        self.rows = negatives + positives
        if not positives or not negatives:
            raise InputError(
                f"All {self.rows:,} training rows have the label"
                f" {int(positives > 0)}: there is nothing to learn."
                " Check data.label"
            )
        sums: tuple[float, float] = negatives, positives
        if WEIGHT in files.transform.transformed_feature_spec():
            sums = row_counts.weights(files.train, "train")
        weight = sums[1] + self.negatives.weight * sums[0]
        self.base_rate = sums[1] / weight
        self._mean_weight = weight / (
            positives + self.negatives.weight * negatives
        )
        self.labels = labels_of(custom)
        self._losses = self._label_losses(custom)
        ids = sum(f.size for f in self.shape.ids + self.shape.shallow)
        self.custom, self.chosen = choose(
            custom,
            self.rows,
            ids,
            min(positives, negatives),
            len(self.shape.dense) + sum(f.dim for f in self.shape.ids),
        )
        self._model = ModelConfig.model_validate(self.custom["model"])
        self._optimizer = self.custom["optimizer"]
        self._train = TrainConfig.model_validate(self.custom["train"])
        if not self._train.linear_start:
            self._carry_curves(custom["train"].get("curves", False))

    def _carry_curves(self, asked: bool | str) -> None:
        """Curves of numbers, without a linear start: those of a warm start.

        Raises:
            InputError: they are asked for, and there are none.
        """
        base = 0 if self._base is None else self._base.pieces
        if asked and base and self._model.name == "wide_deep":
            self.shape = dataclasses.replace(self.shape, pieces=base)
            if asked == AUTO:
                self._choose_curves(True, "the warm start has them")
        elif asked is True:
            raise InputError(
                "train.curves: received true; accepted without a linear start:"
                " false, or a warm start from a model with curves. The linear"
                " start fits them: give train.linear_start: true"
            )

    def _choose_curves(self, curves: bool, reason: str | None) -> None:
        """Fills `train.curves`; without a reason there was no choice."""
        train = {**self.custom["train"], "curves": curves}
        self.custom = {**self.custom, "train": train}
        if reason is not None:
            self.chosen.append(Choice("train.curves", curves, reason))

    def _label_losses(self, custom: Mapping[str, Any]) -> Loss | None:
        """Loss of several labels; tells the layout what they are."""
        if not self.labels:
            return None
        weighted = WEIGHT in self.files.transform.transformed_feature_spec()
        table = np.zeros((len(self.labels), 3))
        for rows in label_rows(
            self.files.train, further_columns(self.labels), weighted
        ):
            table += label_sums(self.labels, *rows)
        sums = [LabelSums(*one) for one in table.tolist()]
        config = ModelConfig.model_validate(custom["model"])
        for label, one in zip(self.labels, sums, strict=True):
            check_learnable(label, one, config.entire_space)
        self.shape = dataclasses.replace(
            self.shape,
            labels=tuple(
                LabelInput(label.name, label.of is not None, one.base_rate)
                for label, one in zip(self.labels, sums, strict=True)
            ),
        )
        share = shares(
            self.labels, sums, config.entire_space, self.negatives.weight
        )
        losses = LabelLosses(self.labels, config.entire_space, share)
        return Loss("logloss", losses, calibrated=True, grouped=False)

    @cached_property
    def meaning(self) -> Meaning:
        """Meaning of the model's rows, columns and slots."""
        sizes = {f.name: f.size for f in self.shape.ids + self.shape.shallow}
        return Meaning(
            keys_of(self.features, sizes),
            lambda name: asset_text(self.files.transform, name),
            columns_of(self.shape),
            optimizer_names(self._optimizer),
            self.negatives.shift,
            [
                f"{label.name} of {label.of}" if label.of else label.name
                for label in self.labels
            ],
        )

    @property
    def own_code(self) -> bool:
        """True if the model is a user's own."""
        return isinstance(self._model, OwnConfig)

    @property
    def steps(self) -> int:
        """Updates in all epochs."""
        per_epoch = steps_of(self.rows, self._train.batch_size)
        return per_epoch * self._train.epochs

    @cached_property
    def key(self) -> str:
        """Identity of this training: the same settings, examples and start."""
        text = json.dumps(
            [
                {k: v for k, v in self.custom.items() if k not in _FOLDERS},
                self.files.transform.transform_savedmodel_dir,
                list(self.files.train),
                list(self.files.eval),
                self._base and self._base.identity,
            ],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def scores(self, model: Any) -> Scores:
        """Metrics of a model on the eval split."""
        data = self._held_out()
        evaluation = Evaluation(model, self.negatives.shift, self.labels)
        return evaluation.scores(data)

    def held_out_rows(self, model: Any, column: int | None) -> list[Rows]:
        """Rows of the eval split for each label, to calibrate a model by.

        Those of a label of the first are rows where that is 1; rows where one
        is not known are left out.

        Args:
            model: that predicts them.
            column: of `ids`, whose values are kept; None: of none.
        """
        ids: list[Any] = []

        def watched() -> Iterator[Any]:
            for batch in self._held_out():
                if column is not None:
                    ids.append(batch[0][IDS][:, column].numpy())
                yield batch

        evaluation = Evaluation(model, self.negatives.shift, self.labels)
        labels, logits, weights, _ = evaluation.predict_weighted(watched())
        logits = logits.astype(np.float32).astype(np.float64)  # as the graph's
        if weights is None:
            weights = np.ones(len(labels))
        known = np.concatenate(ids) if ids else None
        if not self.labels:
            return [Rows(labels, logits, weights, known)]
        return [
            Rows(
                labels[rows, number],
                logits[rows, number],
                weights[rows],
                None if known is None else known[rows],
            )
            for number, rows in enumerate(rows_of_labels(self.labels, labels))
        ]

    def served_shifts(self, model: Any) -> list[float]:
        """Addends of each label's logits, served without the shallow part.

        The mean prediction of the eval rows where a label counts stays as they
        were logged.
        """

        def without() -> Iterator[Any]:
            for inputs, *rest in self._held_out():
                inputs.pop(SHALLOW_IDS)
                yield inputs, *rest

        evaluation = Evaluation(model, self.negatives.shift, self.labels)
        labels, whole, weights, _ = evaluation.predict_weighted(
            self._held_out()
        )
        alone = evaluation.predict_weighted(without()).logits
        if not self.labels:
            return [centred(alone, whole, weights)]
        return [
            centred(
                alone[rows, number],
                whole[rows, number],
                None if weights is None else weights[rows],
            )
            if len(rows)
            else 0.0
            for number, rows in enumerate(rows_of_labels(self.labels, labels))
        ]

    def _held_out(self) -> Batches:
        return Batches(
            self.files.eval,
            self.files.transform,
            self._train.batch_size,
            labels=further_columns(self.labels),
        )

    def fit(
        self,
        log_dir: str | None = None,
        callbacks: Sequence[Any] = (),
        checkpoints: str | None = None,
    ) -> Fitted:
        """Builds the model and trains it.

        Args:
            log_dir: where TensorBoard's scalars go.
            callbacks: Keras's, besides those of the config.
            checkpoints: folder of this training's checkpoints; where there
                are some, it goes on from them.
        """
        config = self._train
        loss = self._losses or build_loss(config.loss)
        # Several workers must find each other before TensorFlow runs anything.
        team = Team(build_strategy(config.strategy))
        for choice in self.chosen:
            _tell(choice)
        linear = self._linear_fit(team) if config.linear_start else None
        start_afresh(config.seed)
        keras.config.set_dtype_policy(config.precision)
        with team.strategy.scope():
            model = build_model(
                self.shape,
                self._model.with_logits(loss.logits),
                self.base_rate,
            )
            first = self._base.steps(model, self.meaning) if self._base else 0
            optimizer = build_optimizer(
                self._optimizer, self.steps, keras_version(model), first
            )
            warm = None
            if self._base:
                optimizer.build(model.trainable_variables)
                warm = self._base.carry(model, optimizer, self.meaning)
            covered = self._give_pretrained(model, warm)
        log.info(
            "%s, %s, %s",
            counted(self.rows, "row"),
            counted(model.count_params(), "parameter"),
            counted(self.steps, "step"),
        )
        train = Batches(
            self.files.train,
            self.files.transform,
            config.batch_size,
            config.shuffle,
            config.seed,
            further_columns(self.labels),
            config.loss.rows_together if loss.grouped else 0,
        )
        held_out = self._held_out()
        row_counts.check("Transform", self.files.train, self.rows)
        row_counts.check("Trainer", self.files.train, train.rows)
        row_counts.check("Trainer", self.files.eval, held_out.rows)
        pairs = None
        if loss.grouped:
            pairs = self._pairs(train, team)
        if linear is not None:
            with team.strategy.scope():
                linear.give(model)
        if checkpoints and team.chief:
            Checkpoints(checkpoints).describe(
                self.files.transform.transform_savedmodel_dir,
                self.custom.get("code_version", ""),
            )
        result = loop.train(
            model,
            optimizer,
            train,
            held_out,
            self.rows,
            config,
            log_dir,
            self.negatives,
            [*configured(config), *callbacks],
            checkpoints,
            team,
            self._mean_weight,
            loss,
            self.labels,
        )
        start = None if linear is None else linear.start
        return Fitted(
            model, optimizer, result, team, loss, warm, start, covered, pairs
        )

    def _pairs(self, train: Batches, team: Team) -> Pairs:
        """Pairs that batches hold.

        Raises:
            InputError: there are none to learn from.
        """
        config = self._train
        found = train.pairs(
            team.strategy.num_replicas_in_sync,
            getattr(config.loss, "partners", None),
        )
        where = f"train.loss: {config.loss.name} compares rows of a group, but"
        if not found.total:
            raise InputError(
                f"{where} no group of the {found.rows:,} training rows has"
                " rows with and without a click; accepted: a column in"
                " train.loss.group whose groups have both"
            )
        if not found.seen:
            raise InputError(
                f"{where} no batch has rows of a group with and without a"
                f" click; received train.shuffle {config.shuffle:,}, which"
                f" puts rows of a group together; accepted: up to"
                f" {found.rows:,}, all rows"
            )
        log.info(
            "loss %s: batches compare %.1f %% of %s rows of groups with both"
            " labels, of %s rows; %.1f %% of the pairs",
            config.loss.name,
            100 * found.share,
            f"{found.comparable:,}",
            f"{found.rows:,}",
            100 * found.seen / found.total,
            extra={"keep": True},
        )
        return found

    def _give_pretrained(
        self, model: Any, warm: Report | None
    ) -> list[pretrained.Coverage]:
        """Vectors of files, for what a warm start has not learned."""
        if not any(f.pretrained for f in self.features.categorical):
            return []
        fresh = {}
        if self._base is not None and warm is not None:
            fresh = self._base.fresh(model, self.meaning, warm)
        return pretrained.give(model, self.features, self.meaning.text, fresh)

    def _linear_fit(self, team: Team) -> linear_start.Fit:
        """Weights of single ids and numbers; tells the layout of curves."""
        linear_start.check(self._model.name)
        if not team.alone:
            raise InputError(
                "train.linear_start: received true; accepted with several"
                " workers: false. Each would fit weights of its own"
            )
        train, held_out = (
            Batches(files, self.files.transform, _ROWS_AT_ONCE)
            for files in (self.files.train, self.files.eval)
        )
        asked = self.custom["train"].get("curves", False)
        found = linear_start.fit(
            self.shape,
            self.meaning.keys,
            train,
            held_out,
            self.negatives,
            asked,
        )
        self.shape = dataclasses.replace(self.shape, pieces=found.pieces)
        if asked is True and not found.pieces:
            log.warning(
                "train.curves: received true, but no number of these rows can"
                " have one: each has fewer than three quantiles, or the rows"
                " are too many",
                extra={"keep": True},
            )
        if asked == AUTO:
            verdict = found.start.curves
            reason = None if verdict is None else verdict.reason
            self._choose_curves(found.pieces > 0, reason)
            if verdict is not None:
                _tell(self.chosen[-1])
        return found


def _tell(choice: Choice) -> None:
    log.info(
        "%s: %s (%s)",
        choice.path,
        json.dumps(choice.value),  # as YAML has it
        choice.reason,
        extra={"keep": True},
    )
