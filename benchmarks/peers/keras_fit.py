"""Keras 3: `fit` of a wide and deep model, an Embedding a field, Adam."""

from __future__ import annotations

import keras
import numpy as np
import turns


def build(rows: turns.Rows) -> keras.Model:
    """Linear weights of ids beside an MLP over embeddings and numbers."""
    ids = [keras.Input((), dtype="int64") for _ in rows.sizes]
    numbers = keras.Input((rows.dense.shape[1],))
    layers = keras.layers
    deep = [
        layers.Embedding(size, turns.DIM)(x)
        for x, size in zip(ids, rows.sizes, strict=True)
    ]
    wide = [
        layers.Embedding(size, 1)(x)
        for x, size in zip(ids, rows.sizes, strict=True)
    ]
    x = layers.Concatenate()([*deep, numbers])
    for units in turns.HIDDEN:
        x = layers.Dense(units, activation="relu")(x)
    logit = layers.Add()([layers.Dense(1)(x), *wide])
    model = keras.Model([*ids, numbers], logit)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def main() -> None:
    rows = turns.read()
    model = build(rows)
    columns = [np.ascontiguousarray(column) for column in rows.ids.T]

    def train(turn: int, batches: int) -> None:
        part = rows.part(turn, batches)
        model.fit(
            [*(column[part] for column in columns), rows.dense[part]],
            rows.label[part],
            turns.BATCH,
            verbose=0,
        )

    turns.serve(train)


if __name__ == "__main__":
    main()
