"""Config section `model`: what each architecture has to set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from models.config.section import PositiveInt, Section


class ModelConfig(Section):
    """Of `wide_deep`, and what all architectures have.

    `name` decides which subclass a mapping becomes. `embedding_l2` weighs the
    squares of the embeddings that a batch reads, summed over a row of the
    batch, in the loss.
    """

    keras: ClassVar[int] = 3
    automatic: ClassVar[tuple[str, ...]] = (
        "hidden",
        "dropout",
        "embedding_l2",
    )

    name: str = "wide_deep"
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_norm: bool = False
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0

    def __new__(cls, **options: Any) -> Self:
        """`ModelConfig(name="dcn_v2")` is a DcnConfig."""
        section: Any = _section_of(options) if cls is ModelConfig else cls
        made: Self = super().__new__(section)
        return made

    @model_validator(mode="wrap")
    @classmethod
    def _by_name(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        """The options of this architecture, and no others."""
        if cls is ModelConfig and isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return handler(value)
        section: Any = _section_of(value) if cls is ModelConfig else cls
        if section is not cls:
            made: Self = section.model_validate(value)
            return made
        name = value.get("name", "wide_deep")
        if section is OwnConfig:
            value = {"options": _without_name(value), **value}
            known = {key: value[key] for key in value if key in _OWN}
            return handler(known)
        for key in value:
            if key not in cls.model_fields:
                raise ValueError(
                    f"{name} has no option {key!r}"
                    f"{_nearest(str(key), cls.model_fields)}."
                    f" Accepted: {', '.join(cls.model_fields)}"
                )
        return handler(value)


class DcnConfig(ModelConfig):
    """Of `dcn_v2`: cross layers below the hidden ones.

    `projection_dim` makes the matrix of a cross layer one of that rank.
    """

    name: str = "dcn_v2"
    cross_layers: PositiveInt = 3
    projection_dim: PositiveInt | None = None


class DlrmConfig(ModelConfig):
    """Of `dlrm`: `bottom` are the layers that the numbers go through first."""

    name: str = "dlrm"
    bottom: tuple[PositiveInt, ...] = (64,)


class DeepFmConfig(ModelConfig):
    """Of `deepfm`."""

    name: str = "deepfm"


class TfrsDcnConfig(DcnConfig):
    """Of `tfrs_dcn`, a Keras 2 model of TensorFlow Recommenders."""

    keras = 2
    name: str = "tfrs_dcn"


class TfrsDlrmConfig(DlrmConfig):
    """Of `tfrs_dlrm`, a Keras 2 model of TensorFlow Recommenders."""

    keras = 2
    name: str = "tfrs_dlrm"


class OwnConfig(ModelConfig):
    """Of a model of the user's: all but the name is in `options`, unchecked.

    What the other architectures have too is in its field besides.
    """

    automatic: ClassVar[tuple[str, ...]] = ()

    name: str
    options: dict[str, Any] = {}


ARCHITECTURES: dict[str, type[ModelConfig]] = {
    "wide_deep": ModelConfig,
    "dcn_v2": DcnConfig,
    "dlrm": DlrmConfig,
    "deepfm": DeepFmConfig,
    "tfrs_dcn": TfrsDcnConfig,
    "tfrs_dlrm": TfrsDlrmConfig,
}
_OWN = frozenset(OwnConfig.model_fields)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _section_of(options: Mapping[str, Any]) -> type[ModelConfig]:
    name = options.get("name", "wide_deep")
    if isinstance(name, str) and _FUNCTION.fullmatch(name):
        return OwnConfig
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(
            f"no architecture has the name {name!r}"
            f"{_nearest(str(name), ARCHITECTURES)}."
            f" Accepted: {', '.join(ARCHITECTURES)}, or package.module:function"
            " of your own"
        )
    return ARCHITECTURES[name]


def _without_name(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "name"}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
