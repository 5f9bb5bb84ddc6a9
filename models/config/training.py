"""Config sections of the learner: features, model, train."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_validator,
)

from models.config.architectures import ModelConfig
from models.config.features import (
    LABEL,
    RESERVED,
    WEIGHT,
    CategoricalFeature,
    Cross,
    Features,
    Kind,
    is_reserved,
    reserved,
)
from models.config.losses import LossConfig
from models.config.numeric import NumericFeature
from models.config.section import Name, PathText, PositiveInt, Section
from models.config.time_features import TimeFeatures
from optimizers.extension import Registry

__all__ = [
    "LABEL",
    "RESERVED",
    "WEIGHT",
    "CategoricalFeature",
    "Cross",
    "EarlyStopping",
    "ExportConfig",
    "Features",
    "Kind",
    "ModelConfig",
    "Name",
    "Negatives",
    "NumericFeature",
    "PositiveInt",
    "Section",
    "TimeFeatures",
    "TrainConfig",
    "is_reserved",
    "reserved",
]


class Negatives(Section):
    """Train on a share of the negatives; eval and test keep all of theirs.

    The export corrects its probability for the negatives that were left out.
    """

    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training split's negatives that stay."""
    reweight: bool = False
    """Weigh each kept negative 1 / keep in the loss, in place of the
    correction."""
    key: tuple[Name, ...] = ()
    """Columns whose hash decides which negatives stay.

    Without a key the whole example decides, or the join's key where clicks are
    joined.
    """
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the hash."""

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def weight(self) -> float:
        """Weight of a negative in the loss."""
        return 1 / self.keep if self.reweight else 1.0

    @property
    def shift(self) -> float:
        """Correction of a logit: p / (1 - p) = keep · q / (1 - q)."""
        return 0.0 if self.reweight else math.log(self.keep)


class EarlyStopping(Section):
    """Stop when `metric` has not improved for `patience` evaluations."""

    patience: PositiveInt = 2
    """Number of evaluations without improvement."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Least improvement that counts."""
    metric: Literal["auto", "logloss", "auc", "gauc"] = "auto"
    """Metric of the eval split that decides; `auto`: logloss with a calibrated
    loss, else GAUC with one that compares groups, else AUC."""


CALLBACKS = Registry(
    "callback",
    "train.callbacks",
    {},  # Keras's own are keras.callbacks:CSVLogger, and so on
    "package.module:Class of a Keras callback, beside it the arguments of the"
    " class",
)


class Callback(BaseModel):
    """A Keras callback: its class, and the arguments beside it."""

    model_config = ConfigDict(
        frozen=True, extra="allow", use_attribute_docstrings=True
    )

    name: Annotated[str, AfterValidator(CALLBACKS.check)]
    """Class, as `package.module:Class`; the other keys are its arguments."""


class ExportConfig(Section):
    """Form of the exported model."""

    tables: Literal["float32", "bfloat16", "int8"] = "float32"
    """Precision of the embedding tables in the export.

    `int8` has a scale for each row. The training goes on in its own precision;
    the gate judges the export.
    """


class TrainConfig(Section):
    """Settings of the training loop."""

    automatic: ClassVar[tuple[str, ...]] = (
        "batch_size",
        "epochs",
        "linear_start",
        "curves",
    )

    warm_start: PathText | None = None
    """Model whose weights and optimizer state training starts from:
    `latest_blessed`, the newest pushed one, or a path; null: none."""
    batch_size: PositiveInt = 4096
    """Rows of one update, over all replicas; by default chosen from the log."""
    epochs: PositiveInt = 1
    """Passes over the training split; by default chosen from the log."""
    linear_start: bool = False
    """Fit the weights of ids and numbers first, as a logistic regression, and
    keep them; the network learns what is left. `wide_deep` alone has them; by
    default chosen from the log."""
    curves: bool = False
    """Give each number a curve of eight pieces between quantiles in the linear
    start, instead of a weight; by default rows that are left out choose."""
    jit: Literal["auto"] | bool = "auto"
    """Compile the step with XLA; `auto`: on one GPU, or on TPUs."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "float32"
    """Numbers of the hidden layers; `auto`: mixed_bfloat16 where the device
    multiplies bfloat16 in hardware, float32 elsewhere."""
    strategy: Literal[
        "auto", "one_device", "mirrored", "multi_worker", "tpu"
    ] = "auto"
    """How devices share the training; `auto` takes what the machine and
    TF_CONFIG offer."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of weights, dropout and shuffling."""
    shuffle: Annotated[int, Field(ge=0)] = 100_000
    """Rows in the shuffle buffer; 0: the order of the files."""
    eval_steps: PositiveInt | None = None
    """Updates between two evaluations on the eval split; null: an evaluation
    after each epoch."""
    early_stopping: EarlyStopping | None = None
    """When to stop early; null: never."""
    checkpoint_steps: PositiveInt = 500
    """Updates between two checkpoints."""
    loss: SerializeAsAny[LossConfig] = LossConfig()
    """Loss: a name, or a section; see the losses below."""
    observe_steps: Annotated[int, Field(ge=2)] = 100
    """Updates between two looks at norms and sign flips for TensorBoard."""
    callbacks: tuple[Callback, ...] = ()
    """Keras callbacks."""
