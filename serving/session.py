"""An exported model in a session, as TF Serving has it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import session
from tensorflow.python.framework import dtypes, importer, ops
from tensorflow.python.ops import array_ops, array_ops_stack

from serving.columns import Array
from serving.graph import INIT

Call = Callable[[Mapping[str, Array]], dict[str, Array]]


class Session:
    """The signatures of a SavedModel, each to be called from any thread.

    A session starts in half the time of `tf.saved_model.load`, which makes
    Python functions of the graph. It computes in the thread that calls:
    eager calls hand each op of a graph to another thread.
    """

    def __init__(self, path: Path, meta: Any, names: Iterable[str]) -> None:
        """Restores the weights and fills the tables.

        Args:
            path: the folder of the version.
            meta: its MetaGraphDef.
            names: of the signatures that are called.

        Raises:
            Exception: whatever TensorFlow raises for a broken SavedModel.
        """
        signatures = {name: meta.signature_def[name] for name in names}
        config = config_pb2.ConfigProto(inter_op_parallelism_threads=-1)
        with ops.Graph().as_default() as graph:
            feeds = {k: _Feeds(v.inputs) for k, v in signatures.items()}
            columns: dict[str, Any] = {}
            for one in feeds.values():
                columns |= one.columns
            importer.import_graph_def(meta.graph_def, columns, name="")
            self._session = session.Session(graph=graph, config=config)
        self._restore(path, meta)
        self.calls: dict[str, Call] = {
            name: self._call(feeds[name], signature.outputs)
            for name, signature in signatures.items()
        }
        # While TensorFlow's modules are there: at exit, too.
        weakref.finalize(self, self.calls.clear)

    def _restore(self, path: Path, meta: Any) -> None:
        files = {
            asset.tensor_info.name: str(path / "assets" / asset.filename)
            for asset in meta.asset_file_def
        }
        saver = meta.saver_def
        if saver.restore_op_name:
            weights = str(path / "variables" / "variables")
            self._session.run(
                saver.restore_op_name,
                {**files, saver.filename_tensor_name: weights},
            )
        if INIT in meta.signature_def:
            op = meta.signature_def[INIT].outputs[INIT].name
            self._session.run(op, files)

    def _call(self, feeds: _Feeds, outputs: Mapping[str, Any]) -> Call:
        names = sorted(outputs)
        options = config_pb2.CallableOptions(
            feed=feeds.names, fetch=[outputs[name].name for name in names]
        )
        # `make_callable`, which is public, costs 0.7 ms a call.
        run = self._session._make_callable_from_options(options)

        def call(columns: Mapping[str, Array]) -> dict[str, Array]:
            found = run(*feeds.matrices(columns))
            return dict(zip(names, found, strict=True))

        return call


class _Feeds:
    """A matrix [names, rows] for each dtype: each tensor fed costs time."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        """Adds placeholders to the graph."""
        groups: dict[Any, list[str]] = {}
        for name, tensor in sorted(inputs.items()):
            dtype = dtypes.as_dtype(tensor.dtype)
            groups.setdefault(dtype, []).append(name)
        self._layout = [(t.as_numpy_dtype, n) for t, n in groups.items()]
        self.names: list[str] = []
        self.columns: dict[str, Any] = {}  # tensor of the graph -> of ours
        for dtype, names in groups.items():
            matrix = array_ops.placeholder(dtype, [len(names), None])
            self.names.append(matrix.name)
            parts = array_ops_stack.unstack(matrix, len(names))
            for name, column in zip(names, parts, strict=True):
                self.columns[inputs[name].name] = column

    def matrices(self, columns: Mapping[str, Array]) -> list[Array]:
        """The values to feed."""
        rows = len(next(iter(columns.values())))
        matrices = []
        for dtype, names in self._layout:
            matrix = np.empty((len(names), rows), dtype)
            for row, name in enumerate(names):
                matrix[row] = columns[name]
            matrices.append(matrix)
        return matrices
