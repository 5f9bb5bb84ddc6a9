"""Predictions of exported models: NumPy columns, a few bytes a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf

from components import model_store
from models.config.labels import CTR, Label, labels_of, outputs
from models.config.training import LABEL, WEIGHT, Features
from models.errors import InputError
from models.export import AS_LOGGED, DTYPES, UNCALIBRATED

BATCH = 8192  # rows of a call of the model
_FLOAT = np.float32
Value = str | int | float


@dataclass(frozen=True)
class Values:
    """A column to slice by.

    rows: number of the row of each value; a row may have several, or none.
    codes: number of each value in `values`.
    """

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int32]
    values: list[Value]


@dataclass(frozen=True)
class Columns:
    """Rows of a split, in the order of its files.

    labels: 0 or 1; bool [N].
    predictions: probability by each model, float32 [N].
    served: probability by the first model as it would be served, float32 [N];
        None where that is the same.
    uncalibrated: probability by the first model before it is calibrated,
        float32 [N]; None where it is not.
    groups: a hash of the group's value, -1 without one; [N], or None.
    slices: column -> its values.
    hours: since 1970, int32 [N]; None where the rows have no time.
    weights: float32 [N]; None: 1 each.
    further: label after the first -> 1, 0 or UNKNOWN, int64 [N].
    outputs: output after the first -> its probability by each model that has
        it, the first model's first, float32 [N].
    served_outputs: output after the first -> as `served`.
    uncalibrated_outputs: output after the first -> as `uncalibrated`.
    """

    labels: npt.NDArray[np.bool_]
    predictions: tuple[npt.NDArray[np.float32], ...]
    groups: npt.NDArray[np.int64] | None
    slices: dict[str, Values]
    served: npt.NDArray[np.float32] | None = None
    uncalibrated: npt.NDArray[np.float32] | None = None
    hours: npt.NDArray[np.int32] | None = None
    weights: npt.NDArray[np.float32] | None = None
    further: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    outputs: dict[str, tuple[npt.NDArray[np.float32], ...]] = field(
        default_factory=dict
    )
    served_outputs: dict[str, npt.NDArray[np.float32]] = field(
        default_factory=dict
    )
    uncalibrated_outputs: dict[str, npt.NDArray[np.float32]] = field(
        default_factory=dict
    )


def predictions(
    files: Sequence[str],
    models: Mapping[str, str],
    kinds: Mapping[str, str],
    slices: Sequence[str] = (),
    group: str | None = None,
    timed: bool = False,
    weighted: bool = False,
    labels: Sequence[Label] = (),
) -> Columns:
    """Calls every model on all rows of `files`.

    The signature is `examples`, or `examples_as_logged` of a model with
    features that only training sees; the first model is then asked by both,
    and by `examples_uncalibrated` where it has that.

    Batches run on TensorFlow's threads, in order; what is kept of a row is
    its label, a float a model, and a number for its group and each slice.

    Args:
        files: TFRecords of tf.Examples, gzipped where the name ends in .gz.
        models: name -> folder of the SavedModel.
        kinds: column -> float, int or string.
        slices: columns to slice by.
        group: column whose rows belong together.
        timed: whether the examples carry times: see `tf_example.timed`.
        weighted: whether they have weights.
        labels: of the first model, where there are several.

    Raises:
        InputError: a model has no such signature.
    """
    more = _labelled(labels)
    opened = [_Model(name, path) for name, path in models.items()]
    loaded = [model.as_logged for model in opened]
    others = opened[0].others if opened else {}
    wanted = sorted({*slices, *([group] if group is not None else [])})
    spec: dict[str, Any] = {
        name: tf.io.VarLenFeature(DTYPES[kinds.get(name, "string")])
        for name in wanted
    }
    spec[LABEL] = tf.io.FixedLenFeature([], tf.int64)
    if weighted:
        spec[WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
    for label in labels[1:]:
        spec[label.column] = tf.io.FixedLenFeature([], tf.int64)

    def step(serialized: tf.Tensor) -> dict[str, Any]:
        parsed = tf.io.parse_example(serialized, spec)
        answers = [signature(serialized) for signature in loaded]
        out = {
            "label": parsed[LABEL] > 0,
            "predictions": tuple(
                tf.reshape(answer[CTR], [-1]) for answer in answers
            ),
            "slices": {name: parsed[name] for name in slices},
            "further": {one.name: parsed[one.column] for one in labels[1:]},
            "outputs": {
                name: tuple(
                    tf.reshape(answer[name], [-1])
                    for model, answer in zip(opened, answers, strict=True)
                    if model is opened[0] or model.outputs.get(name) == label
                )
                for name, label in more.items()
            },
        }
        for name, signature in others.items():
            answer = signature(serialized)
            out[name] = tf.reshape(answer[CTR], [-1])
            out[f"{name}_outputs"] = {
                one: tf.reshape(answer[one], [-1]) for one in more
            }
        if group is not None:
            out["group"] = hashed(parsed[group])
        if timed:
            out["hours"] = _hours(serialized)
        if weighted:
            out["weight"] = parsed[WEIGHT]
        return out

    kept = _Kept(slices, len(loaded))
    for batch in batches(files, step):
        kept.add(batch)
    return kept.columns()


class _Model:
    """A SavedModel, which must live as long as its signatures are called.

    as_logged: serialized examples -> probabilities, of the rows as they are.
    outputs: output after the first -> its label, as the manifest says.
    others: field of `Columns` -> the same otherwise, where it differs.
    """

    def __init__(self, name: str, path: str) -> None:
        _check_lists(name, path)
        self._model = tf.saved_model.load(path)
        signatures = self._model.signatures
        served = _called(signatures.get("examples"))
        if served is None:
            raise InputError(
                f"the {name} model {path} has no signature `examples` with the"
                f" output `ctr`. It has: {', '.join(signatures)}"
            )
        logged = _called(signatures.get(AS_LOGGED))
        self.as_logged = logged or served
        config = model_store.about(path).get("config", {})
        self.outputs = _labelled(labels_of(config))
        before = _called(signatures.get(UNCALIBRATED))
        self.others = {
            **({"served": served} if logged else {}),
            **({"uncalibrated": before} if before else {}),
        }


def _labelled(labels: Sequence[Label]) -> dict[str, str]:
    """Output after the first -> its label."""
    return {
        output.name: labels[output.label].name
        for output in outputs(labels)
        if output.label
    }


def _check_lists(name: str, path: str) -> None:
    """Refuses an export of an earlier version that took a list for a text."""
    about = model_store.about(path)
    config = about.get("config", {}).get("features")
    if not config or "lists" in about:
        return
    lists = Features.model_validate(config).lists()
    if lists:
        raise InputError(
            f"the {name} model {path} takes {', '.join(lists)} as one text with"
            " separators; an older lion-ctr exported it. Accepted: a model that"
            " takes several values of a tf.Example as a list, or"
            " evaluate.baseline: null for the run that pushes the first one"
        )


def _called(
    signature: Any,
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]] | None:
    """A signature as a function of serialized examples."""
    if signature is None or CTR not in signature.structured_outputs:
        return None
    (argument,) = signature.structured_input_signature[1]
    return lambda serialized: dict(signature(**{argument: serialized}))


def batches(files: Sequence[str], step: Any) -> Any:
    """`step` of each batch; gzipped files and others are read alike."""
    data = None
    for compression in ("GZIP", ""):
        some = [f for f in files if f.endswith(".gz") == bool(compression)]
        if some:
            more = tf.data.TFRecordDataset(
                some, compression, num_parallel_reads=tf.data.AUTOTUNE
            )
            data = more if data is None else data.concatenate(more)
    if data is None:
        return ()
    return (
        data.batch(BATCH)
        .map(step, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(1)
    )


def hashed(column: tf.SparseTensor) -> tf.Tensor:
    """A number for the first value of each row; -1 without one."""
    values = column.values
    if values.dtype != tf.string:
        values = tf.strings.as_string(values)
    numbers = tf.strings.to_hash_bucket_fast(values, 2**63 - 1)
    rows = column.dense_shape[0]
    first = tf.equal(column.indices[:, 1], 0)
    return tf.tensor_scatter_nd_update(
        tf.fill([rows], tf.constant(-1, tf.int64)),
        tf.boolean_mask(column.indices[:, :1], first),
        tf.boolean_mask(numbers, first),
    )


def _hours(serialized: tf.Tensor) -> tf.Tensor:
    """Hours since 1970 of rows that carry their time."""
    tails = tf.strings.substr(serialized, -8, 8)
    seconds = tf.io.decode_raw(tails, tf.int64, fixed_length=8)[:, 0]
    return tf.cast(seconds // 3600, tf.int32)


class _Kept:
    """Columns that grow by batches."""

    def __init__(self, slices: Sequence[str], models: int) -> None:
        self._rows = 0
        self._labels: list[Any] = []
        self._predictions: list[list[Any]] = [[] for _ in range(models)]
        self._others: dict[str, list[Any]] = {"served": [], "uncalibrated": []}
        self._groups: list[Any] = []
        self._hours: list[Any] = []
        self._weights: list[Any] = []
        self._named: dict[str, dict[str, list[Any]]] = {
            "further": {},
            "outputs": {},
            "served_outputs": {},
            "uncalibrated_outputs": {},
        }
        self._known: dict[str, dict[Any, int]] = {name: {} for name in slices}
        self._slices: dict[str, list[tuple[Any, Any]]] = {
            name: [] for name in slices
        }

    def add(self, batch: Mapping[str, Any]) -> None:
        """Takes what is to be kept of a batch."""
        labels = batch["label"].numpy()
        self._labels.append(labels)
        for into, values in zip(
            self._predictions, batch["predictions"], strict=True
        ):
            into.append(values.numpy().astype(_FLOAT))
        for name in self._others.keys() & batch.keys():
            self._others[name].append(batch[name].numpy().astype(_FLOAT))
        if "group" in batch:
            self._groups.append(batch["group"].numpy())
        if "hours" in batch:
            self._hours.append(batch["hours"].numpy())
        if "weight" in batch:
            self._weights.append(batch["weight"].numpy())
        for field_, found in self._named.items():
            for name, value in batch.get(field_, {}).items():
                found.setdefault(name, []).append(value)
        for name, sparse in batch["slices"].items():
            rows, codes = self._coded(name, sparse)
            self._slices[name].append((rows + self._rows, codes))
        self._rows += len(labels)

    def _coded(self, name: str, sparse: Any) -> tuple[Any, Any]:
        known = self._known[name]
        encoded = pa.array(sparse.values.numpy()).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        found = encoded.indices.to_numpy()
        numbers = np.fromiter(
            (known.setdefault(value, len(known)) for value in values),
            np.int32,
            len(values),
        )
        rows, codes = sparse.indices.numpy()[:, 0], numbers[found]
        if b"" in values:  # of the ingest, beside a lone value of a list
            there = codes != known[b""]
            rows, codes = rows[there], codes[there]
        # A value that a row has twice puts it into the slice once, as in TFMA.
        if len(rows) and (rows[1:] == rows[:-1]).any():
            pairs = np.unique(np.stack([rows, codes.astype(np.int64)]), axis=1)
            rows, codes = pairs[0], pairs[1].astype(np.int32)
        return rows, codes

    def columns(self) -> Columns:
        """All of it."""
        none: list[Any] = [np.zeros(0, np.int64)]
        slices = {}
        for name, parts in self._slices.items():
            rows = [p[0] for p in parts] or none
            codes = [p[1] for p in parts] or none
            slices[name] = Values(
                np.concatenate(rows),
                np.concatenate(codes).astype(np.int32),
                [_shown(value) for value in self._known[name]],
            )
        return Columns(
            np.concatenate(self._labels or none).astype(np.bool_),
            tuple(
                np.concatenate(p or none).astype(_FLOAT)
                for p in self._predictions
            ),
            np.concatenate(self._groups) if self._groups else None,
            slices,
            hours=np.concatenate(self._hours) if self._hours else None,
            weights=np.concatenate(self._weights) if self._weights else None,
            further=self._all("further"),
            outputs={
                name: tuple(
                    np.concatenate(parts).astype(_FLOAT)
                    for parts in zip(*batches, strict=True)
                )
                for name, batches in self._named["outputs"].items()
            },
            served_outputs=self._all("served_outputs"),
            uncalibrated_outputs=self._all("uncalibrated_outputs"),
            **{
                name: np.concatenate(parts)
                for name, parts in self._others.items()
                if parts
            },
        )

    def _all(self, field_: str) -> dict[str, Any]:
        """Name -> its values of all batches."""
        found = self._named[field_]
        return {name: np.concatenate(parts) for name, parts in found.items()}


def _shown(value: Any) -> Value:
    """A value as TFMA's slice keys have it: text, int or float."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    shown: Value = value
    return shown
