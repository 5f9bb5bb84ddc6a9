"""Config section `optimizer`: one for all variables, or groups of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    create_model,
    model_validator,
)

from optimizers.config.arguments import (
    Arguments,
    Beta,
    Fraction,
    LionArguments,
    NonNegative,
    Positive,
)
from optimizers.config.catalog import (
    ARGUMENTS,
    CLASSES,
    FIXED_RATE,
    NOT_IN_KERAS_2,
    names,
)
from optimizers.config.messages import TOP, problems
from optimizers.config.named_section import NamedSection
from optimizers.config.section import FieldError, Section
from optimizers.extension import Registry

_Auto = Literal["auto"]
_DEFAULT = "lion"


def _steps_or_share(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError(
            f"received {value!r}; accepted: an integer >= 0 (steps) or a"
            " number in [0, 1) (share of the run)"
        )
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(
            f"received {value!r} ({error}); accepted: a regular expression"
            " that matches whole variable paths, such as 'wide/.*'"
        ) from error
    return value


class Schedule(Section):
    """The rate over the run: a linear warmup, then a decay."""

    name: Literal["constant", "cosine", "exponential", "linear"]
    """Shape of the decay."""
    warmup: Annotated[NonNegative, AfterValidator(_steps_or_share)] = 0.0
    """Steps of the warmup, or its share of the run if below 1."""
    final: Fraction | None = None
    """Share of the rate at the end; null: 0, of an exponential decay 0.01."""

    @model_validator(mode="after")
    def _ends(self) -> Schedule:
        accepted = {"constant": "null", "exponential": "a number in (0, 1]"}
        wrong = {
            "constant": self.final is not None,
            "exponential": self.final == 0,
        }
        if wrong.get(self.name):
            raise FieldError(
                "final",
                f"received {self.final!r} with name: {self.name}; accepted:"
                f" {accepted[self.name]}",
            )
        return self


class _ByName(NamedSection):
    """A section of an optimizer: its arguments beside its name."""

    _registry: ClassVar[Registry] = CLASSES

    @classmethod
    def sections(cls) -> tuple[type[Section], ...]:
        """The sections, a user's own last."""
        return tuple(cls._sections.values())

    @classmethod
    def _named(cls, value: Mapping[str, Any]) -> type[Section]:
        if "name" not in value:
            raise FieldError("name", f"missing; accepted: {', '.join(names())}")
        section = super()._named(value)
        own = section is cls._sections[""]
        if own and value.get("learning_rate") is None:
            raise FieldError(
                "learning_rate",
                "missing; it is required for an optimizer of your own",
            )
        return section


class OptimizerConfig(_ByName):
    """An optimizer, by its name or as a section, or `groups` of them."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and not {"name", "groups"} & {*value}:
            return {"name": _DEFAULT, **value}
        return value

    @classmethod
    def _named(cls, value: Mapping[str, Any]) -> type[Section]:
        return GroupsConfig if "groups" in value else super()._named(value)

    def spec(self) -> dict[str, Any]:
        """The given settings, as `build_optimizer` takes it."""
        return self.model_dump(exclude_unset=True)


class OneConfig(OptimizerConfig):
    """One optimizer for all variables; its arguments stand beside the name."""

    name: str = _DEFAULT
    """Optimizer, or `package.module:Class` of your own."""
    table_rate: Positive | _Auto | None = None
    """Learning rate of embedding tables; null: that of the rest."""
    schedule: Schedule | None = None
    """Course of the rates over the run; null: constant, without a warmup."""

    @model_validator(mode="after")
    def _schedulable(self) -> OneConfig:
        shape = self.schedule.name if self.schedule else "constant"
        if self.name in FIXED_RATE and shape != "constant":
            raise FieldError(
                "schedule.name",
                f"received {shape!r}; accepted: 'constant' for {self.name!r},"
                " whose weights shrink with the learning rate",
            )
        return self


class _OneLion(OneConfig, LionArguments):
    table_beta_2: Beta | _Auto | None = None
    """`beta_2` of embedding tables; null: that of the rest."""
    table_frequency_power: Fraction | _Auto | None = None
    """`frequency_power` of embedding tables; null: that of the rest."""

    @model_validator(mode="after")
    def _countable_tables(self) -> _OneLion:
        power = self.table_frequency_power
        if not isinstance(power, str):  # auto
            self.check_power("table_frequency_power", power)
        return self


class OwnOptimizer(OneConfig, Arguments):
    """An optimizer of your own: every other key goes to its class."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=":")]
    """`package.module:Class` of a Keras 3 optimizer."""
    learning_rate: Positive
    """Size of a step."""


class GroupConfig(_ByName):
    """An optimizer of the variables whose path matches."""

    match: Annotated[str, AfterValidator(_pattern)]
    """Regular expression of the whole path; the first group that matches
    counts."""
    name: str
    """Optimizer; its arguments stand beside it."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "loss_scale_factor" in value:
            raise FieldError(
                "loss_scale_factor",
                f"received {value['loss_scale_factor']!r}; accepted: nothing"
                " here; optimizer.loss_scale_factor counts for all groups",
            )
        return value


class OwnOptimizerGroup(GroupConfig, Arguments):
    """A group with an optimizer of your own."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=":")]
    """`package.module:Class` of a Keras 3 optimizer."""
    learning_rate: Positive
    """Size of a step."""


class GroupsConfig(OptimizerConfig):
    """Groups of variables, each with an optimizer."""

    groups: tuple[SerializeAsAny[GroupConfig], ...]
    """The groups; the first whose `match` fits a variable takes it."""
    loss_scale_factor: Positive | None = None
    """Factor of the loss, by which the gradients are divided again."""
    schedule: Schedule | None = None
    """Course of the rates over the run, but for FTRL's."""

    @model_validator(mode="after")
    def _told_apart(self) -> GroupsConfig:
        if not self.groups:
            raise FieldError(
                "groups",
                "received []; accepted: a list of at least one group, each"
                " {match: <regex>, name: <optimizer>, ...}",
            )
        seen: dict[str, str] = {}
        for number, group in enumerate(self.groups):
            if group.match in seen:
                raise FieldError(
                    f"groups.{number}.match",
                    f"received {group.match!r}; accepted: another one than"
                    f" that of {seen[group.match]}, which takes every variable"
                    " first",
                )
            seen[group.match] = f"groups.{number}"
        return self


def _sections(door: type[_ByName], suffix: str) -> dict[str, type[Section]]:
    """Name -> the door's section with the arguments of the optimizer."""
    made: dict[str, type[Section]] = {}
    for name, section in ARGUMENTS.items():
        bases: tuple[type[Section], ...] = (door, section)
        default: Any = ...
        fields: dict[str, Any] = {}
        if door is OneConfig:  # the rate of a group is a number
            rate = section.model_fields["learning_rate"]
            about = f"{rate.description} By default chosen from the log."
            fields["learning_rate"] = (
                Positive | _Auto,
                Field(rate.default, description=about),
            )
            if name == _DEFAULT:
                bases, default = (_OneLion,), name
        about = "Optimizer; its arguments stand beside it."
        fields["name"] = (Literal[name], Field(default, description=about))
        made[name] = create_model(
            section.__name__.removesuffix("Arguments") + suffix,
            __base__=bases,
            __module__=__name__,
            __doc__=f"Arguments of `{name}`.",
            # There is no source to read: with TensorFlow imported, looking
            # for it takes seconds.
            __cls_kwargs__={"use_attribute_docstrings": False},
            **fields,
        )
    return made


OptimizerConfig._sections = {
    **_sections(OneConfig, "Config"),
    "": OwnOptimizer,
}
GroupConfig._sections = {
    **_sections(GroupConfig, "Group"),
    "": OwnOptimizerGroup,
}


def parse(spec: Any, keras: int = 3) -> OptimizerConfig:
    """The section that a spec (see `build_optimizer`) is, checked.

    Args:
        spec: a name, or a mapping.
        keras: 3, or 2 for a model of the package tf_keras.

    Raises:
        ValueError: a line for each wrong field, with received and accepted.
    """
    try:
        config = OptimizerConfig.model_validate(spec)
        if keras == 2:
            check_keras_2(config)
    except ValidationError as error:
        found, _ = problems(error, OptimizerConfig)
    except FieldError as error:
        found = {error.field: error.message}
    else:
        return config
    raise ValueError(
        "\n".join(
            f"optimizer{'' if field == TOP else '.' + field}: {text}"
            for field, text in found.items()
        )
    )


def check_keras_2(config: OptimizerConfig) -> None:
    """Refuses what tf_keras's optimizers do not have.

    Raises:
        FieldError: its field is a path from the section on.
    """
    within: list[tuple[str, Section]] = [("", config)]
    if isinstance(config, GroupsConfig):
        within += [(f"groups.{n}.", g) for n, g in enumerate(config.groups)]
    for above, section in within:
        name = getattr(section, "name", None)
        if CLASSES.is_own(name):
            raise FieldError(
                f"{above}name",
                f"received {name!r}; accepted: for a Keras 2 model,"
                f" {', '.join(names())}",
            )
        for key in NOT_IN_KERAS_2:
            value = getattr(section, key, None)
            if value is not None:
                raise FieldError(
                    f"{above}{key}",
                    f"received {value!r}; accepted: null for a Keras 2 model,"
                    " such as those of TensorFlow Recommenders: tf_keras's"
                    " optimizers do not have it",
                )
