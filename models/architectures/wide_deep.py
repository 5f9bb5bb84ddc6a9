"""Wide and deep: a weight for each id beside an MLP over embeddings.

Cheng et al., "Wide & Deep Learning for Recommender Systems",
arXiv 1606.07792.
"""

from __future__ import annotations

import keras

from models.architectures.base import Deep, Network
from models.config.architectures import ModelConfig
from models.preprocessing.input_layout import Layout


def build(layout: Layout, config: ModelConfig, base_rate: float) -> keras.Model:
    """The model of `model.name: wide_deep`.

    The wide part sees every id and every cross; the deep part the embeddings
    and the numbers.
    """
    deep = Deep(layout, config, base_rate)
    return Network("wide_deep", layout, layout.ids, deep)
