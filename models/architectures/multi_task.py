"""Models of several labels: shared bottom, mixture of experts, entire space.

MMoE: Ma et al., "Modeling task relationships in multi-task learning with
multi-gate mixture-of-experts" (KDD 2018). With experts fₑ and, of label k, a
gate gₖ and a tower hₖ, the logit is

    zₖ = hₖ(Σₑ softmax(gₖ x)ₑ fₑ(x))

ESMM: Ma et al., "Entire space multi-task model", arXiv 1804.07931: embeddings
are shared, each label has a network of its own. What sets ESMM apart is its
loss, see `models.training.label_losses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from models.architectures.base import Deep, Network, build_in_order
from models.config.architectures import (
    EsmmConfig,
    MmoeConfig,
    ModelConfig,
    SharedBottomConfig,
)
from models.layers.mlp import apply_layers, dense_layers, head
from models.preprocessing.input_layout import LabelInput, Layout


class MultiTask(Deep):
    """A `Deep` with a tower for each label; it has a logit for each, too.

    The tower's variables are named by the label, deep/tower_buy_0/... and
    deep/out_buy/...; the first label's logit is deep/out. Without labels there
    is one tower, and logits are [N] as those of other models.

    A subclass says what the towers see: `build_bottom` makes its variables,
    `bottom` computes it.
    """

    def __init__(
        self,
        layout: Layout,
        config: ModelConfig,
        base_rate: float,
        towers: Sequence[int],
    ) -> None:
        super().__init__(layout, config.with_logits(1), base_rate)
        self.labels = layout.labels or (LabelInput("label", False, base_rate),)
        self.single = not layout.labels
        self.towers = [
            dense_layers(keras.layers, f"tower_{one.name}", towers, config)
            for one in self.labels
        ]
        self.outs = [self.out]
        for one in self.labels[1:]:
            more = head(
                keras.layers,
                keras.initializers,
                one.base_rate,
                f"out_{one.name}",
            )
            self.outs.append(more)

    def build_bottom(self, width: int) -> int:
        """Builds the layers below the towers; returns what towers see.

        Args:
            width: of embeddings and numbers.
        """
        return build_in_order(self.hidden, width)

    def bottom(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Input of each label's tower, of embeddings and numbers."""
        return [apply_layers(self.hidden, x)] * len(self.labels)

    def build(self, _: Any) -> None:
        """Makes all variables, so that their names begin with deep/."""
        for table in self.tables:
            table.build()
        width = self.build_bottom(self.build_interaction())
        for tower, out in zip(self.towers, self.outs, strict=True):
            out.build((None, build_in_order(tower, width)))
        self.built = True

    def heads(self, x: tf.Tensor, logit: Any, both: bool) -> Any:
        """Logits, float32 [N, labels]; [N] without labels. There is no level.

        Raises:
            ValueError: it is asked for.
        """
        if both:
            raise ValueError("a model of several labels has no level")
        logits = [
            out(apply_layers(tower, seen))
            for tower, out, seen in zip(
                self.towers, self.outs, self.bottom(x), strict=True
            )
        ]
        return tf.squeeze(logits[0], 1) if self.single else tf.concat(logits, 1)


class Experts(MultiTask):
    """A `MultiTask` whose towers see mixtures of experts."""

    def __init__(
        self, layout: Layout, config: MmoeConfig, base_rate: float
    ) -> None:
        # The experts have the hidden layers.
        above = config.model_copy(update={"hidden": ()})
        super().__init__(layout, above, base_rate, config.towers)
        self.experts = [
            dense_layers(keras.layers, f"expert_{i}", config.hidden, config)
            for i in range(config.experts)
        ]
        self.gates = [
            keras.layers.Dense(
                config.experts, use_bias=False, name=f"gate_{one.name}"
            )
            for one in self.labels
        ]

    def build_bottom(self, width: int) -> int:
        """Builds experts and gates."""
        for gate in self.gates:
            gate.build((None, width))
        widths = [build_in_order(one, width) for one in self.experts]
        return widths[0]

    def bottom(self, x: tf.Tensor) -> list[tf.Tensor]:
        """[N, units] of each label: the experts, weighted by its gate."""
        seen = tf.stack([apply_layers(one, x) for one in self.experts], 1)
        return [
            tf.einsum("ne,neu->nu", tf.nn.softmax(gate(x)), seen)
            for gate in self.gates
        ]


class Separate(MultiTask):
    """A `MultiTask` whose towers share the embeddings alone."""

    def __init__(
        self, layout: Layout, config: EsmmConfig, base_rate: float
    ) -> None:
        # The towers have the hidden layers.
        above = config.model_copy(update={"hidden": ()})
        super().__init__(layout, above, base_rate, config.hidden)


def shared_bottom(
    layout: Layout, config: SharedBottomConfig, base_rate: float
) -> keras.Model:
    """The model of `model.name: shared_bottom`."""
    deep = MultiTask(layout, config, base_rate, config.towers)
    return Network("shared_bottom", layout, (), deep)


def mmoe(layout: Layout, config: MmoeConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: mmoe`."""
    deep = Experts(layout, config, base_rate)
    return Network("mmoe", layout, (), deep)


def esmm(layout: Layout, config: EsmmConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: esmm`."""
    return Network("esmm", layout, (), Separate(layout, config, base_rate))
