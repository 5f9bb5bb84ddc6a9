"""Keras 3: `fit` of a wide and deep model, an Embedding a field, Adam."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import turns


def build(rows: turns.Rows, settings: turns.Settings) -> keras.Model:
    """Linear weights of ids beside an MLP over embeddings and numbers."""
    ids = [keras.Input((), dtype="int64") for _ in rows.sizes]
    numbers = keras.Input((rows.dense.shape[1],))
    layers = keras.layers
    deep = [
        layers.Embedding(size, settings.dim)(x)
        for x, size in zip(ids, rows.sizes, strict=True)
    ]
    wide = [
        layers.Embedding(size, 1)(x)
        for x, size in zip(ids, rows.sizes, strict=True)
    ]
    x = layers.Concatenate()([*deep, numbers])
    for units in settings.hidden:
        x = layers.Dense(units, activation="relu")(x)
        if settings.dropout:
            x = layers.Dropout(settings.dropout)(x)
    logit = layers.Add()([layers.Dense(1)(x), *wide])
    model = keras.Model([*ids, numbers], logit)
    model.compile(
        keras.optimizers.Adam(settings.rate),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


class Contender:
    """See turns.py."""

    def __init__(self, rows: turns.Rows, settings: turns.Settings) -> None:
        keras.utils.clear_session()
        keras.utils.set_random_seed(settings.seed)
        self._model = build(rows, settings)
        self._columns = [np.ascontiguousarray(x) for x in rows.ids.T]
        self._rows, self._batch = rows, settings.batch

    def _inputs(self, rows: Any) -> list[Any]:
        return [*(x[rows] for x in self._columns), self._rows.dense[rows]]

    def train(self, rows: Any) -> None:
        label = self._rows.label[rows]
        self._model.fit(self._inputs(rows), label, self._batch, verbose=0)

    def predict(self, rows: Any) -> Any:
        logits = self._model.predict(self._inputs(rows), 4096, verbose=0)
        return 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))


if __name__ == "__main__":
    turns.main(Contender)
