"""Config sections of the learner: features, model, train."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
)

from models.config.architectures import ModelConfig
from models.config.features import (
    LABEL,
    CategoricalFeature,
    Cross,
    Features,
    Kind,
    NumericFeature,
)
from models.config.section import Name, PathText, PositiveInt, Section

__all__ = [
    "LABEL",
    "CategoricalFeature",
    "Cross",
    "EarlyStopping",
    "Features",
    "Kind",
    "ModelConfig",
    "Name",
    "Negatives",
    "NumericFeature",
    "PositiveInt",
    "Section",
    "TrainConfig",
]


class Negatives(Section):
    """Training on a share of the negatives; eval and test keep all of theirs.

    A hash of `key`'s columns tells which ones are kept; without a key, of the
    whole example (of the join's key where clicks are joined). The exported
    probability is corrected for what was left out; with `reweight` each kept
    negative weighs 1 / keep instead, and nothing needs correction.
    """

    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    reweight: bool = False
    key: tuple[Name, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def weight(self) -> float:
        """Of a negative in the loss."""
        return 1 / self.keep if self.reweight else 1.0

    @property
    def shift(self) -> float:
        """What corrects a logit: p / (1 - p) = keep · q / (1 - q)."""
        return 0.0 if self.reweight else math.log(self.keep)


class EarlyStopping(Section):
    """Stop when eval logloss has not improved for `patience` evaluations."""

    patience: PositiveInt = 2
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Callback(BaseModel):
    """A Keras callback: `name` is package.module:Class, the rest arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


class TrainConfig(Section):
    """How the network is trained.

    `warm_start` says where weights and optimizer begin: `latest_blessed` is
    the newest pushed model, a path another one; null: anew.
    `batch_size` counts the rows of one update, over all replicas.
    `eval_steps` is how often the eval logloss is looked at; null: once an
    epoch. Every `observe_steps` TensorBoard gets norms and sign flips.
    """

    automatic: ClassVar[tuple[str, ...]] = ("batch_size", "epochs")

    warm_start: PathText | None = None
    batch_size: PositiveInt = 4096
    epochs: PositiveInt = 1
    jit: Literal["auto"] | bool = "auto"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    strategy: Literal[
        "auto", "one_device", "mirrored", "multi_worker", "tpu"
    ] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    shuffle: Annotated[int, Field(ge=0)] = 100_000
    eval_steps: PositiveInt | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_steps: PositiveInt = 500
    observe_steps: Annotated[int, Field(ge=2)] = 100
    callbacks: tuple[Callback, ...] = ()
