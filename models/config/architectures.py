"""Config section `model`: what each architecture has to set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from models.config.section import PositiveInt
from optimizers.config.named_section import NamedSection
from optimizers.extension import Registry


class ModelConfig(NamedSection):
    """Wide and deep, and the options that all architectures have."""

    keras: ClassVar[int] = 3
    sees_all_inputs: ClassVar[bool] = True  # the first hidden layer
    reads_sequences: ClassVar[bool] = False  # by more than their pooling
    takes_labels: ClassVar[bool] = False  # several of them
    entire_space: ClassVar[bool] = False  # a label of another: of all rows
    automatic: ClassVar[tuple[str, ...]] = (
        "hidden",
        "dropout",
        "embedding_l2",
    )

    name: str = "wide_deep"
    """Architecture, or `package.module:function` of your own."""
    hidden: tuple[PositiveInt, ...] = (256, 128)
    """Units of the hidden layers, from the inputs up."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a hidden layer's units that training drops."""
    batch_norm: bool = False
    """Normalize each hidden layer over the batch."""
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0
    """Weight in the loss of the squared embeddings that a batch reads, summed
    over a row of the batch."""

    _logits: int = PrivateAttr(1)

    @property
    def logits(self) -> int:
        """Logits of a row that the loss needs: 1, or 2, one for each label."""
        return self._logits

    def with_logits(self, logits: int) -> Self:
        """A copy for a loss that needs so many logits of a row."""
        copy = self.model_copy()
        copy._logits = logits
        return copy

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class DcnConfig(ModelConfig):
    """DCN V2: cross layers below the hidden ones."""

    automatic: ClassVar[tuple[str, ...]] = (
        *ModelConfig.automatic,
        "cross_layers",
        "projection_dim",
    )

    name: str = "dcn_v2"
    """Architecture."""
    cross_layers: PositiveInt = 3
    """Number of cross layers."""
    projection_dim: PositiveInt | None = None
    """Rank of each cross layer's matrix; null: full rank."""


class DlrmConfig(ModelConfig):
    """DLRM: dot products of the embeddings and of the numbers."""

    sees_all_inputs = False

    name: str = "dlrm"
    """Architecture."""
    bottom: tuple[PositiveInt, ...] = (64,)
    """Units of the layers that the numeric features go through first."""


class DeepFmConfig(ModelConfig):
    """DeepFM: a factorization machine beside the hidden layers."""

    name: str = "deepfm"
    """Architecture."""


class DinConfig(ModelConfig):
    """Deep interest network: attention of the target to each sequence."""

    reads_sequences = True

    name: str = "din"
    """Architecture."""
    attention: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (36,)
    """Units of the layers of the activation unit, from the inputs up."""
    softmax: bool = False
    """Normalize the weights of a sequence to the sum 1; the paper does not."""


class BstConfig(ModelConfig):
    """Behavior sequence transformer: one block over sequence and target."""

    reads_sequences = True

    name: str = "bst"
    """Architecture."""
    heads: PositiveInt = 2
    """Heads of the attention."""
    block_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the block's outputs that training drops."""


class SharedBottomConfig(ModelConfig):
    """Several labels: shared hidden layers, and a tower for each label."""

    takes_labels = True

    name: str = "shared_bottom"
    """Architecture."""
    towers: tuple[PositiveInt, ...] = (32,)
    """Units of the layers of each label's tower, from the inputs up."""


class MmoeConfig(SharedBottomConfig):
    """Several labels: experts, a gate over them and a tower for each label."""

    name: str = "mmoe"
    """Architecture."""
    experts: Annotated[int, Field(ge=2, le=64)] = 4
    """Number of experts; each has the hidden layers."""


class EsmmConfig(ModelConfig):
    """Several labels over the entire space: a network for each label.

    They share the embeddings. The label of another is learned with it, as the
    product of both probabilities, over all rows.
    """

    takes_labels = True
    entire_space = True

    name: str = "esmm"
    """Architecture."""


class TfrsDcnConfig(DcnConfig):
    """DCN V2 of TensorFlow Recommenders, a Keras 2 model."""

    keras = 2
    name: str = "tfrs_dcn"
    """Architecture."""


class TfrsDlrmConfig(DlrmConfig):
    """DLRM of TensorFlow Recommenders, a Keras 2 model."""

    keras = 2
    name: str = "tfrs_dlrm"
    """Architecture."""


class OwnConfig(ModelConfig):
    """A model of your own: `options` takes every key, unchecked.

    The keys that other architectures have too are also in their fields.
    """

    automatic: ClassVar[tuple[str, ...]] = ()
    sees_all_inputs = False

    name: str
    """`package.module:function` that builds the model."""
    options: dict[str, Any] = {}
    """Every key of the section but `name`, for your function."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        options = {key: item for key, item in value.items() if key != "name"}
        value = {"options": options, **value}
        return {key: value[key] for key in value if key in cls.model_fields}


_BUILT: dict[str, tuple[type[ModelConfig], str]] = {
    "wide_deep": (ModelConfig, "models.architectures.wide_deep:build"),
    "dcn_v2": (DcnConfig, "models.architectures.dcn_v2:build"),
    "dlrm": (DlrmConfig, "models.architectures.dlrm:build"),
    "deepfm": (DeepFmConfig, "models.architectures.deepfm:build"),
    "din": (DinConfig, "models.architectures.din:build"),
    "bst": (BstConfig, "models.architectures.bst:build"),
    "shared_bottom": (
        SharedBottomConfig,
        "models.architectures.multi_task:shared_bottom",
    ),
    "mmoe": (MmoeConfig, "models.architectures.multi_task:mmoe"),
    "esmm": (EsmmConfig, "models.architectures.multi_task:esmm"),
    "tfrs_dcn": (TfrsDcnConfig, "models.keras2.tfrs_dcn:build"),
    "tfrs_dlrm": (TfrsDlrmConfig, "models.keras2.tfrs_dlrm:build"),
}
ARCHITECTURES = {name: section for name, (section, _) in _BUILT.items()}
BUILDERS = Registry(
    "architecture",
    "model.name",
    {name: builder for name, (_, builder) in _BUILT.items()},
    "a function (layout, config, base_rate) that returns a Keras model",
)
ModelConfig._sections = {**ARCHITECTURES, "": OwnConfig}
ModelConfig._registry = BUILDERS
