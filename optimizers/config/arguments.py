"""Arguments of every optimizer that a config may name, with their defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    Strict,
    field_validator,
    model_validator,
)

from optimizers.config.section import FieldError, Section, no_boolean
from optimizers.kernel import resolve_kernel


def _no_text(value: Any) -> Any:
    """Text is no number here: Lion's own arguments come by this way too."""
    if isinstance(value, str):
        hint = ""
        if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
            hint = " (text: YAML reads 1e-4 as text, 1.0e-4 as a number)"
        raise ValueError(f"received {value!r}{hint}; accepted: a number")
    return no_boolean(value)


_Number = BeforeValidator(_no_text)
Positive = Annotated[float, Field(gt=0), _Number]
NonNegative = Annotated[float, Field(ge=0), _Number]
Fraction = Annotated[float, Field(ge=0, le=1), _Number]
Beta = Annotated[float, Field(ge=0, lt=1), _Number]
_Count = Annotated[int, Field(ge=1), _Number]
_Flag = Annotated[bool, Strict()]

LIMITS = ("clipnorm", "clipvalue", "global_clipnorm")
"""Arguments of which one may be given."""


class Arguments(Section):
    """The arguments that every Keras optimizer accepts."""

    learning_rate: Positive = 0.001
    """Size of a step."""
    weight_decay: NonNegative | None = None
    """Share of each weight that a step of rate 1 takes away."""
    clipnorm: Positive | None = None
    """Greatest norm of a variable's gradient."""
    clipvalue: Positive | None = None
    """Greatest absolute value in a gradient."""
    global_clipnorm: Positive | None = None
    """Greatest norm of all gradients together."""
    use_ema: _Flag = False
    """Evaluate and export averages of the weights."""
    ema_momentum: Fraction = 0.99
    """Share of the average that a step keeps."""
    ema_overwrite_frequency: _Count | None = None
    """Steps between two overwrites of the weights by their averages."""
    loss_scale_factor: Positive | None = None
    """Factor of the loss, by which the gradients are divided again."""
    gradient_accumulation_steps: Annotated[int, Field(ge=2), _Number] | None = (
        None
    )
    """Batches whose gradients make one update."""

    @model_validator(mode="after")
    def _one_limit(self) -> Arguments:
        given = {name: getattr(self, name) for name in LIMITS}
        given = {name: value for name, value in given.items() if value}
        if len(given) > 1:
            raise FieldError(
                list(given)[1],
                f"received {given}; accepted: at most one of"
                f" {', '.join(LIMITS)}",
            )
        return self


class AdafactorArguments(Arguments):
    """Adafactor's."""

    beta_2_decay: Annotated[float, _Number] = -0.8
    """Exponent of the step in the decay of the second moments."""
    epsilon_1: NonNegative = 1e-30
    """Least square of a gradient."""
    epsilon_2: NonNegative = 1e-3
    """Least norm of a variable that scales its step."""
    clip_threshold: Positive = 1.0
    """Root mean square of an update from which it is clipped."""
    relative_step: _Flag = True
    """Take a rate that falls with the square root of the steps."""


class AdagradArguments(Arguments):
    """Adagrad's."""

    initial_accumulator_value: NonNegative = 0.1
    """Sum of squared gradients at the start."""
    epsilon: NonNegative = 1e-7
    """Addend of the denominator."""


class AdamArguments(Arguments):
    """Adam's."""

    beta_1: Beta = 0.9
    """Decay of the first moments."""
    beta_2: Beta = 0.999
    """Decay of the second moments."""
    epsilon: NonNegative = 1e-7
    """Addend of the denominator."""
    amsgrad: _Flag = False
    """Divide by the greatest second moment so far."""


class AdamwArguments(AdamArguments):
    """AdamW's."""

    weight_decay: NonNegative | None = 0.004
    """Share of each weight that a step of rate 1 takes away."""


class FtrlArguments(Arguments):
    """FTRL's."""

    learning_rate_power: Annotated[float, Field(le=0), _Number] = -0.5
    """Exponent of the sum of squared gradients in the rate."""
    initial_accumulator_value: NonNegative = 0.1
    """Sum of squared gradients at the start."""
    l1_regularization_strength: NonNegative = 0.0
    """Penalty on absolute weights."""
    l2_regularization_strength: NonNegative = 0.0
    """Penalty on squared weights."""
    l2_shrinkage_regularization_strength: NonNegative = 0.0
    """Penalty on squared weights, through the gradient."""
    beta: NonNegative = 0.0
    """Addend of the denominator."""


class LionArguments(Arguments):
    """Lion's."""

    learning_rate: Positive = 1e-4
    """Size of a step, the same for every element."""
    weight_decay: NonNegative | None = 0.0
    """Share of each weight that a step of rate 1 takes away."""
    beta_1: Beta = 0.9
    """Share of the momentum in the update."""
    beta_2: Beta = 0.99
    """Decay of the momentum."""
    sparse: Literal["lazy", "decayed", "dense"] = "lazy"
    """Rows of a table that a step updates: those of the batch, without or
    with the decay they missed, or all."""
    kernel: Literal["auto", "custom_op", "xla", "python"] = "auto"
    """Implementation of the rule."""
    momentum_dtype: (
        Literal["float32", "float64", "bfloat16", "float16"] | None
    ) = None
    """Type of the momentum; null: that of the variable."""
    cautious: _Flag = False
    """Drop elements of the update whose sign disagrees with the gradient."""
    stochastic_rounding: _Flag = False
    """Round half-precision weights at random."""
    frequency_power: Fraction = 0.0
    """Exponent p of a row's rate n^-p in its n-th update."""

    @field_validator("kernel")
    @classmethod
    def _runs(cls, kernel: str) -> str:
        resolve_kernel(kernel)
        return kernel

    @model_validator(mode="after")
    def _countable(self) -> LionArguments:
        self.check_power("frequency_power", self.frequency_power)
        return self

    def check_power(self, field: str, power: float | None) -> None:
        """Refuses counted rows in a mode that does not tell them apart."""
        if power and self.sparse == "dense":
            raise FieldError(
                field,
                f"received {power!r}; accepted: 0 with sparse: dense, which"
                " updates every row in every step; others beside lazy and"
                " decayed",
            )


class RmspropArguments(Arguments):
    """RMSprop's."""

    rho: Fraction = 0.9
    """Decay of the second moments."""
    momentum: Fraction = 0.0
    """Share of the last update in the next."""
    epsilon: NonNegative = 1e-7
    """Addend of the denominator."""
    centered: _Flag = False
    """Divide by the variance in place of the second moment."""


class SgdArguments(Arguments):
    """SGD's."""

    learning_rate: Positive = 0.01
    """Size of a step."""
    momentum: Fraction = 0.0
    """Share of the last update in the next."""
    nesterov: _Flag = False
    """Use Nesterov's momentum."""
