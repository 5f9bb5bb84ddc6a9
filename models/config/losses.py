"""Config section `train.loss`: the loss, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from models.config.section import Name, PositiveInt
from optimizers.config.named_section import NamedSection
from optimizers.extension import Registry

_TOGETHER = 16


class LossConfig(NamedSection):
    """Log loss, whose minimum is the click probability."""

    name: str = "logloss"
    """`logloss`, `focal`, `label_smoothing`, `pairwise`, `jrc`, or
    `package.module:Class` of your own."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def calibrated(self) -> bool | None:
        """True if true probabilities minimize it; None: its class tells."""
        return True

    @property
    def grouped(self) -> bool:
        """True if it compares rows of a group."""
        return False

    @property
    def logits(self) -> int:
        """Logits that it needs of a row."""
        return 1

    @property
    def column(self) -> str | None:
        """Column that it names for its groups."""
        return None

    @property
    def rows_together(self) -> int:
        """Rows of a group that are neighbours in a batch."""
        return _TOGETHER

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of its class."""
        return self.model_dump(exclude={"name", "group", "together"})


class FocalConfig(LossConfig):
    """Focal loss: rows that are told well count little."""

    name: str = "focal"
    """Loss."""
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Power of 1 - p, p the probability of the row's label; 0: log loss."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Weight of a positive, 1 - alpha of a negative; null: 1 of each."""

    @property
    def calibrated(self) -> bool:
        """True of the log loss alone."""
        return self.gamma == 0 and self.alpha is None


class LabelSmoothingConfig(LossConfig):
    """Log loss of labels that are moved towards 1/2."""

    name: str = "label_smoothing"
    """Loss."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of 1/2 in a label: 0 becomes smoothing / 2."""

    @property
    def calibrated(self) -> bool:
        """True without smoothing."""
        return self.smoothing == 0


class GroupedConfig(LossConfig):
    """A loss that compares the rows of a group."""

    name: str = ""
    """Loss."""
    group: Name | None = None
    """Column whose rows of one value are a group, such as a session; null:
    `evaluate.group`."""
    logloss_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the log loss; the rest is the comparison."""

    together: Annotated[PositiveInt, Field(ge=2)] = _TOGETHER
    """Rows of a group that come into a batch as neighbours; a larger group
    comes in parts, others in each epoch."""

    @property
    def rows_together(self) -> int:
        """As the config says."""
        return self.together

    @property
    def calibrated(self) -> bool:
        """False without log loss: comparisons leave the level open."""
        return self.logloss_share > 0

    @property
    def grouped(self) -> bool:
        """True."""
        return True

    @property
    def column(self) -> str | None:
        """The group."""
        return self.group


class PairwiseConfig(GroupedConfig):
    """Logistic loss of the pairs of a positive and a negative of a group."""

    name: str = "pairwise"
    """Loss."""
    partners: PositiveInt = 64
    """Rows of its group on either side that a row is compared with at most;
    a larger group has other partners in each epoch."""


class JrcConfig(GroupedConfig):
    """Joint ranking and calibration, by two logits of a row."""

    name: str = "jrc"
    """Loss."""

    @property
    def logits(self) -> int:
        """One for each label."""
        return 2


class OwnLossConfig(LossConfig):
    """A loss of your own: `arguments` takes every other key, unchecked."""

    name: str
    """`package.module:Class`."""
    group: Name | None = None
    """Column whose rows of one value are a group; null: it needs none."""
    arguments: dict[str, Any] = {}
    """Every other key of the section, for your class."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known = {k: v for k, v in value.items() if k in cls.model_fields}
        more = {k: v for k, v in value.items() if k not in known}
        given = known.get("arguments", {})
        return {**known, "arguments": {**given, **more}}

    @property
    def calibrated(self) -> None:
        """Its class tells."""
        return None

    @property
    def grouped(self) -> bool:
        """True if it names a group."""
        return self.group is not None

    @property
    def column(self) -> str | None:
        """The group."""
        return self.group

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of its class."""
        return dict(self.arguments)


_BUILT: dict[str, tuple[type[LossConfig], str]] = {
    "logloss": (LossConfig, "models.losses.pointwise:LogLoss"),
    "focal": (FocalConfig, "models.losses.pointwise:Focal"),
    "label_smoothing": (
        LabelSmoothingConfig,
        "models.losses.pointwise:LabelSmoothing",
    ),
    "pairwise": (PairwiseConfig, "models.losses.grouped:Pairwise"),
    "jrc": (JrcConfig, "models.losses.grouped:Jrc"),
}
LOSSES = Registry(
    "loss",
    "train.loss",
    {name: built for name, (_, built) in _BUILT.items()},
    "a class whose objects, called with (logits, labels, weights, groups),"
    " return the loss of each row",
)
LossConfig._sections = {
    **{name: section for name, (section, _) in _BUILT.items()},
    "": OwnLossConfig,
}
LossConfig._registry = LOSSES
