"""The model server with LightGBM's trees in place of the exported model.

As a process: `python -m benchmarks.perf.trees MODEL ROWS`. The trees are as
many and as large as those of a CTR model. Their labels are random: what a call
costs counts here, not what it says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving import tensorflow_parts

_TREES, _LEAVES = 300, 63


def main(folder: str, file: str) -> None:
    """Serves the model's signature; the trees answer."""
    import lightgbm  # no package of ours: `uv pip install lightgbm narwhals`

    tensorflow_parts.prepare()
    from serving.savedmodel import LoadedModel
    from serving.server import serve

    lines = Path(file).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    codes = {
        name: {row[name].encode(): n for n, row in enumerate(rows)}
        for name, value in rows[0].items()
        if isinstance(value, str)
    }

    def matrix(columns: Mapping[str, Any]) -> Any:
        wide = np.empty((len(next(iter(columns.values()))), len(rows[0])))
        for place, name in enumerate(rows[0]):
            known, values = codes.get(name), columns[name]
            if known is not None:
                values = [
                    known.get(v.encode() if isinstance(v, str) else v, np.nan)
                    for v in values
                ]
            wide[:, place] = values
        return wide

    inputs = matrix({name: [row[name] for row in rows] for name in rows[0]})
    ids = [place for place, name in enumerate(rows[0]) if name in codes]
    labels = np.random.default_rng(1).integers(0, 2, len(rows))
    trees = lightgbm.train(
        {
            "objective": "binary",
            "num_leaves": _LEAVES,
            "min_data_in_leaf": 2,
            "verbose": -1,
        },
        lightgbm.Dataset(inputs, labels, categorical_feature=ids),
        _TREES,
    )

    of_model = LoadedModel.predict

    def predict(
        model: LoadedModel, signature: str, columns: Mapping[str, Any]
    ) -> dict[str, Any]:
        if columns.keys() != rows[0].keys():  # the warm-up's tf.Examples
            return of_model(model, signature, columns)
        found = trees.predict(matrix(columns), num_threads=1)
        return {"ctr": np.asarray(found, np.float32)}

    LoadedModel.predict = predict  # type: ignore[assignment, method-assign]
    serve(Path(folder), port=0, grpc_port=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
