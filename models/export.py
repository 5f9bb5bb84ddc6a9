"""The trained model with the transform inside, as a SavedModel."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from models.config.labels import CTR, Label, outputs
from models.config.served_names import served_names
from models.config.training import Features, is_reserved
from models.layers.calibration import Calibration
from models.layers.compact_table import variables_of
from models.preprocessing import sequence_lists, vector_text
from models.preprocessing.category_text import canonical
from models.preprocessing.input_layout import (
    GROUPS,
    SHALLOW_IDS,
    asset_name,
)
from models.preprocessing.preprocessing_fn import Analysis, transformed
from models.variables import rows_of
from optimizers.groups import variable_path
from serving import manifest
from serving.manifest import BLOCK

# Signatures for evaluation alone.
AS_LOGGED = "examples_as_logged"
UNCALIBRATED = "examples_uncalibrated"
EXTRA = "assets.extra"  # SavedModel's folder for files of ours
DTYPES = {
    "float": tf.float32,
    "int": tf.int64,
    "string": tf.string,
    "time": tf.string,
    "vector": tf.float32,
}
"""Kind of a feature -> its type in examples and, but of vectors, requests."""
MISSING: dict[str, Any] = {
    "float": float("nan"),
    "int": -1,
    "string": "",
    "time": "",
    "vector": "",
}
"""Kind of a feature -> the value of a request that has none."""


class Served(tf.Module):
    """Raw features in, click probabilities out.

    `serving_default` takes one tensor [N] a raw feature, under its
    served name (see `names`), missing values as NaN, "" or -1;
    `examples` takes serialized tf.Examples [N]. Both give {"ctr": float32 [N]}.
    A list is a text with separators; in an example, several values too.
    A vector is such a text, and in an example its numbers.
    A feature that only training sees is a constant in both, or a shallow one
    is left out and `served_shift` added; if there is one,
    `examples_as_logged` takes it from the examples. `logit_shift` corrects
    for negatives that training did not see, and `calibrations` follow it;
    `examples_uncalibrated` is as logged without. With what Transform found,
    `analysis`, the graph has columns from end to end; else it has Transform's
    graph, of sparse tensors. A model of several `labels` gives each of
    `models.config.labels.outputs`; `calibrations` and `served_shift` are then
    one of each label, and the first alone is moved by `logit_shift`.
    Text features mean what the ingest makes of them: `True` is 1, `4.0` is 4.
    Only a model with `own_code`, a user's, goes through AutoGraph, which takes
    seconds.
    """

    def __init__(
        self,
        model: Any,
        transform: tft.TFTransformOutput,
        features: Features,
        logit_shift: float = 0.0,
        own_code: bool = True,
        analysis: Analysis | None = None,
        calibrations: Sequence[Calibration | None] = (),
        served_shift: float | npt.NDArray[Any] = 0.0,
        labels: Sequence[Label] = (),
    ) -> None:
        super().__init__()
        self._labels = tuple(labels)
        function = functools.partial(tf.function, autograph=own_code)
        # TensorFlow's variables, not those of Keras: of these, an export reads
        # one copy and TF Serving restores another.
        self._tracked = variables_of(model)
        self._untracked = lambda: model  # layers, hidden from tf.Module
        self._network = functools.partial(model, training=False)
        self._features = features
        self._shift: Any = logit_shift
        if labels:
            self._shift = np.eye(1, len(labels), dtype=np.float32) * logit_shift
        self._served_shift = np.asarray(served_shift, np.float32)
        self._calibrations = tuple(calibrations)
        spec = transform.raw_feature_spec()
        # A column that was empty in every training row is not in the spec.
        self._spec = {
            name: spec[name] for name in features.kinds() if name in spec
        }
        self._kinds = features.kinds()
        self._constants = features.constants()
        # Without a column that tells how many rows there are, the layer knows.
        self._analysis = analysis if self._requested() else None
        if self._analysis is None:
            self._transform_layer = transform.transform_features_layer()
        else:
            self._tables = list(self._analysis.vocabularies.values())  # tracked
        self._separators = {
            f.name: f.list
            for f in features.categories
            if self._kinds[f.name] == "string" and f.name in self._spec
        }
        self._weighted = features.weighted()
        served = features.served_kinds()
        self.names = served_names(served)
        self.exported = {
            "serving_default": function(
                self._raw,
                input_signature=[
                    {
                        name: tf.TensorSpec(
                            [None], requested(kind), self.names[name]
                        )
                        for name, kind in served.items()
                    }
                ],
            ),
            "examples": function(
                self._examples,
                input_signature=[tf.TensorSpec([None], tf.string, "examples")],
            ),
        }
        judged = {AS_LOGGED: self._logged} if self._constants else {}
        if any(self._calibrations):
            judged[UNCALIBRATED] = self._uncalibrated
        for name, method in judged.items():
            self.exported[name] = function(
                method,
                input_signature=[tf.TensorSpec([None], tf.string, "examples")],
            )

    def track_layers(self) -> None:
        """Tracks all that the model's layers hold, its weights once more."""
        self._layers = self._untracked()

    def lists(self) -> dict[str, str]:
        """Requested feature that is a list -> separator in a text."""
        lists = self._features.lists()
        return {name: lists[name] for name in self.names if name in lists}

    @property
    def block(self) -> int:
        """Rows that the graph computes together; 1: as many as it gets."""
        return 1 if self._analysis is None else BLOCK

    def vocabularies(self) -> dict[str, dict[str, str | None]]:
        """Requested feature with a vocabulary -> its asset, separators."""
        return {
            f.name: {
                "asset": asset_name(f),
                "separator": f.list,
                "weights": f.weights,
            }
            for f in self._features.categories
            if f.encode == "vocab" and f.name in self._requested()
        }

    def _raw(self, columns: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = tf.shape(next(iter(columns.values())), tf.int64)[0]
        wanted = {name: columns[name] for name in self._requested()}
        if self._analysis is None:
            wanted = {
                name: column
                if self._kinds[name] == "vector"
                else _sparse(column, self._kinds[name])
                for name, column in wanted.items()
            }
        return self._score(wanted | self._filled(rows))

    def _examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(examples, tf.int64)[0]
        wanted = self._requested()
        parsed = tf.io.parse_example(examples, wanted) if wanted else {}
        return self._score(parsed | self._filled(rows))

    def _logged(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, self._spec)
        return self._score(raw, logged=True)

    def _uncalibrated(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, self._spec)
        return self._score(raw, logged=True, calibrated=False)

    def _requested(self) -> dict[str, Any]:
        """The raw spec of what a request holds."""
        return {
            name: spec
            for name, spec in self._spec.items()
            if name not in self._constants
        }

    def _filled(self, rows: tf.Tensor) -> dict[str, tf.SparseTensor]:
        """The columns that a request does not hold, [rows, 1]."""
        columns = {}
        for name, value in self._constants.items():
            if name not in self._spec:
                continue
            kind = self._kinds[name]
            count = tf.zeros_like(rows) if value is None else rows
            constant: Any = MISSING[kind] if value is None else value
            if kind == "int":  # of the config, it is a text
                constant = int(constant)
            indices = tf.expand_dims(tf.range(count), 1)
            columns[name] = tf.SparseTensor(
                tf.concat([indices, tf.zeros_like(indices)], 1),
                tf.fill([count], tf.constant(constant, DTYPES[kind])),
                tf.stack([rows, 1]),
            )
        return columns

    def _transformed(self, raw: dict[str, Any]) -> dict[str, Any]:
        if self._analysis is None:
            return dict(self._transform_layer(raw))
        return transformed(raw, self._features, self._analysis)

    def _score(
        self,
        raw: dict[str, Any],
        logged: bool = False,
        calibrated: bool = True,
    ) -> dict[str, tf.Tensor]:
        raw = raw | self._vectors(raw) | self._numbers(raw)
        raw = canonical(
            raw,
            self._separators,
            self._weighted,
            self._features.sequence_of(),
        )
        for sequence in self._features.sequences:
            if sequence.column in raw:
                raw |= sequence_lists.checked(sequence, raw)
        inputs = self._transformed(raw)
        for name in [*inputs]:
            apart = name == GROUPS or (name == SHALLOW_IDS and not logged)
            if apart or is_reserved(name):
                del inputs[name]
        for name, value in inputs.items():
            if isinstance(value, tf.SparseTensor):
                inputs[name] = tf.RaggedTensor.from_sparse(value)
        if self._analysis is None:
            return self._answers(inputs, logged, calibrated)
        rows = _row_count(next(iter(inputs.values())))
        # To the end in whole blocks: the sigmoid has a loop of its own for
        # what is left over.
        whole = _whole_blocks(inputs, -rows % BLOCK)
        answers = self._answers(whole, logged, calibrated)
        return {name: values[:rows] for name, values in answers.items()}

    def _vectors(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            f.name: vector_text.checked(raw[f.name], f)
            for f in self._features.vectors
            if f.name in raw
        }
        if self._analysis is None:
            found = {n: vector_text.sparse(v) for n, v in found.items()}
        return found

    def _numbers(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Numbers beside the items of sequences."""
        return {
            column: vector_text.lists(column, raw[column], sequence.separator)
            for sequence in self._features.sequences
            for column, side in sequence.columns.items()
            if side.items is None and column in raw
        }

    def _answers(
        self, inputs: dict[str, Any], logged: bool, calibrated: bool
    ) -> dict[str, tf.Tensor]:
        logits = tf.cast(self._network(inputs), tf.float32)
        logits += self._shift + (0.0 if logged else self._served_shift)
        if not self._labels:
            return {CTR: self._probability(0, logits, inputs, calibrated)}
        found = [
            self._probability(number, logits[:, number], inputs, calibrated)
            for number in range(len(self._labels))
        ]
        # The product of two calibrated ones: it rises with either, and no
        # purchase is likelier than its click.
        return {
            output.name: found[output.label] * found[0]
            if output.joint
            else found[output.label]
            for output in outputs(self._labels)
        }

    def _probability(
        self,
        label: int,
        logits: tf.Tensor,
        inputs: dict[str, Any],
        calibrated: bool,
    ) -> tf.Tensor:
        calibration = None
        if calibrated and self._calibrations:
            calibration = self._calibrations[label]
        if calibration is None:
            return tf.sigmoid(logits)
        return calibration(logits, inputs)


def requested(kind: str) -> tf.DType:
    """Type of a feature in `serving_default`; a vector is a text there."""
    return tf.string if kind == "vector" else DTYPES[kind]


def _row_count(value: Any) -> tf.Tensor:
    if isinstance(value, tf.RaggedTensor):
        return tf.cast(value.nrows(), tf.int32)
    return tf.shape(value)[0]


def _whole_blocks(
    inputs: Mapping[str, Any], missing: tf.Tensor
) -> dict[str, Any]:
    """The model's inputs with `missing` rows more, whose values are missing.

    A matrix product gives a row the same bits in every batch of whole blocks.
    """
    return {
        name: tf.RaggedTensor.from_value_rowids(
            value.values,
            value.value_rowids(),
            value.nrows() + tf.cast(missing, tf.int64),
            validate=False,
        )
        if isinstance(value, tf.RaggedTensor)
        else tf.pad(value, [[0, missing], [0, 0]])
        for name, value in inputs.items()
    }


def _sparse(values: tf.Tensor, kind: str) -> tf.SparseTensor:
    """Column [N] as a sparse tensor [N, 1] of what is not missing."""
    if kind == "float":
        present = tf.math.is_finite(values)
    else:
        present = tf.not_equal(values, MISSING[kind])
    indices = tf.where(present)  # [present, 1]
    return tf.SparseTensor(
        tf.concat([indices, tf.zeros_like(indices)], 1),
        tf.boolean_mask(values, present),
        tf.stack([tf.shape(values, tf.int64)[0], 1]),
    )


# Settings of a training that say what its weights are used for.
_MEANING = (
    "export",
    "features",
    "model",
    "negatives",
    "model_version",
    "code_version",
)


def export_id(
    model: Any,
    transform: tft.TFTransformOutput,
    settings: Mapping[str, Any],
    *answers: npt.NDArray[Any],
) -> str:
    """Identifies what an export answers: pushing it twice is seen.

    Args:
        model: whose weights count.
        transform: whose vocabularies count.
        settings: of the training; those in `_MEANING` count.
        answers: numbers that come to the model's logits.
    """
    digest = hashlib.sha256()
    meaning = {name: settings.get(name) for name in _MEANING}
    if settings.get("labels"):
        meaning["labels"] = settings["labels"]
    digest.update(json.dumps(meaning, sort_keys=True).encode())
    assets = os.path.join(transform.transform_savedmodel_dir, "assets")
    for name in sorted(tf.io.gfile.listdir(assets)):
        digest.update(name.encode())
        with tf.io.gfile.GFile(os.path.join(assets, name), "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    digest.update(weights_digest(model))
    for array in answers:
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def weights_digest(model: Any) -> bytes:
    """The SHA-256 of a model's weights, read in parts: tables are large."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable_path(variable).encode())
        for values in rows_of(variable):
            part = np.ascontiguousarray(values).reshape(-1).view("u1")
            digest.update(part.data)
    return digest.digest()


class _Files:
    """Files of any place that TensorFlow reads."""

    walk = staticmethod(tf.io.gfile.walk)
    open = staticmethod(tf.io.gfile.GFile)
    exists = staticmethod(tf.io.gfile.exists)


def export(served: Served, folder: str, description: dict[str, Any]) -> None:
    """Writes the SavedModel to `folder`, and its manifest with `description`.

    `inputs` of the manifest tells the server what raw features are called,
    `vocabularies` which asset has the known values of one, `lists` which are
    lists, and that `examples` takes them as several values, `block` how many
    rows the graph fills a batch up to.
    """
    try:
        tf.saved_model.save(served, folder, signatures=served.exported)
    except AssertionError:  # such as of a lookup table in a user's layer
        served.track_layers()
        tf.saved_model.save(served, folder, signatures=served.exported)
    tf.io.gfile.makedirs(os.path.join(folder, EXTRA))
    now = datetime.datetime.now(datetime.UTC)
    manifest.write(
        folder,
        {
            **description,
            "created": now.isoformat(timespec="seconds"),
            "inputs": dict(served.names),  # tf.Module wraps it
            "vocabularies": served.vocabularies(),
            "lists": served.lists(),
            "block": served.block,
        },
        _Files(),
    )
