"""DeepCTR's WDL on TensorFlow, `fit` with Adam."""

from __future__ import annotations

import numpy as np
import turns
from deepctr.feature_column import DenseFeat, SparseFeat, get_feature_names
from deepctr.models import WDL


def main() -> None:
    rows = turns.read()
    columns = [
        SparseFeat(f"C{i}", size, embedding_dim=turns.DIM, dtype="int64")
        for i, size in enumerate(rows.sizes)
    ]
    columns += [DenseFeat(f"I{i}", 1) for i in range(rows.dense.shape[1])]
    model = WDL(
        columns,
        columns,
        dnn_hidden_units=turns.HIDDEN,
        l2_reg_linear=0,
        l2_reg_embedding=0,
    )
    model.compile("adam", "binary_crossentropy")
    values = {f"C{i}": x for i, x in enumerate(rows.ids.T)}
    values |= {f"I{i}": x for i, x in enumerate(rows.dense.T)}
    inputs = [
        np.ascontiguousarray(values[name])
        for name in get_feature_names(columns)
    ]

    def train(turn: int, batches: int) -> None:
        part = rows.part(turn, batches)
        model.fit(
            [x[part] for x in inputs], rows.label[part], turns.BATCH, verbose=0
        )

    turns.serve(train)


if __name__ == "__main__":
    main()
