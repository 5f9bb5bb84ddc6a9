"""One version of an exported model, loaded and ready to answer."""

import datetime
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.python.framework import dtypes, errors

from serving import columns, graph, manifest, signature, warm_up
from serving.columns import Array
from serving.errors import BadInputError, ServingError
from serving.model_folder import GRAPH
from serving.session import Session
from serving.tf_serving import DEFAULT_SIGNATURE

_logger = logging.getLogger(__name__)
Scalar = float | int | str | bool
_NEUTRAL: dict[str, Scalar] = {"f": 0.0, "i": 0, "u": 0, "b": False, "O": ""}


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature: name -> dtype, one value a row."""

    inputs: dict[str, np.dtype[Any]]
    outputs: dict[str, np.dtype[Any]]


class LoadedModel:
    """A SavedModel and those of its signatures that a request can fill."""

    def __init__(self, path: Path, public_key: Path | None = None) -> None:
        """Verifies the files, loads the SavedModel and warms it up.

        Args:
            path: the version's folder, named by its integer.
            public_key: of the signature that the version has to have.

        Raises:
            DamagedError: a file is not what the manifest says, or the
                signature does not hold.
            ServingError: there is no usable `serving_default`, it answers a
                row of neutral values with NaN, or its graph has ops of others.
            Exception: whatever TensorFlow raises for a broken SavedModel.
        """
        self.version = int(path.name)
        if not manifest.verify(str(path)):
            _logger.warning(
                "version %d has no manifest: its files cannot be verified",
                self.version,
            )
        if public_key is not None:
            signature.verify(path, public_key)
        about = manifest.about(str(path))
        # Rows that calls are filled up to: none where the graph does it.
        self.block = (
            1 if about.get("block") == manifest.BLOCK else manifest.BLOCK
        )
        self.created = _created(about, path)  # in seconds since 1970
        # Feature -> its vocabulary, a value a line, list separator, and what
        # separates a value from its weight.
        self.vocabularies = {
            name: (
                path / "assets" / entry["asset"],
                entry["separator"],
                entry.get("weights"),
            )
            for name, entry in about.get("vocabularies", {}).items()
        }
        # Feature that is a list -> its separator in a text. None: `examples`
        # takes lists as texts only; an older version of the pipeline did.
        self.lists: dict[str, str] | None = about.get("lists")
        # Name of a feature in the signature -> its own, where they differ.
        self.aliases = _aliases(about)
        self._served = {name: alias for alias, name in self.aliases.items()}
        with manifest.LOCAL.open(str(path / GRAPH), "rb") as file:
            meta = graph.parse(file.read())
        graph.check_ops(meta)
        self.has_loop = graph.has_loop(meta)
        self.signature_defs = dict(meta.signature_def)
        self.signatures: dict[str, Signature] = {}
        for name, definition in self.signature_defs.items():
            if name == graph.INIT:
                continue
            try:
                self.signatures[name] = _signature(definition, self.aliases)
            except ServingError as error:
                if name == DEFAULT_SIGNATURE:
                    raise
                _logger.debug("signature %s is not served: %s", name, error)
        if DEFAULT_SIGNATURE not in self.signatures:
            raise ServingError(
                f"{path} has no signature {DEFAULT_SIGNATURE!r}. "
                f"Received: {sorted(self.signature_defs)}"
            )
        self.inputs = {k: s.inputs for k, s in self.signatures.items()}
        with _readable(path) as folder:
            self._loaded: Any = Session(folder, meta, self.signatures)
        self._calls = self._loaded.calls
        try:
            self._warm_up()
        except errors.FailedPreconditionError:
            # An older lion-ctr exported weights that a session does not find.
            from serving import eager

            with _readable(path) as folder:
                self._loaded, self._calls = eager.load(folder, self.signatures)
            self._warm_up()
        self._replay(warm_up.read(path))

    def predict(
        self, signature: str, features: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Runs one signature.

        Args:
            signature: one of `self.signatures`.
            features: input name -> [rows], of the signature's dtypes.

        Returns:
            Output name -> [rows, ...].

        Raises:
            BadInputError: the model refused the values.
        """
        served = {
            self._served.get(name, name): column
            for name, column in features.items()
        }
        try:
            return self._calls[signature](served)
        except errors.InvalidArgumentError as error:
            raise BadInputError(
                f"the model refused the values: {_first_cause(error.message)}"
            ) from None
        except UnicodeDecodeError:
            # TensorFlow's message quotes the values, which are bytes.
            names = ", ".join(map(repr, features))
            raise BadInputError(
                f"the model refused the values of {names}: it cannot read them"
            ) from None
        except (ValueError, TypeError, errors.InternalError):
            for name, column in features.items():
                if column.dtype.kind == "O" and not columns.is_unicode(column):
                    raise columns.not_unicode(name, column) from None
            raise

    def example_row(self) -> dict[str, Scalar]:
        """A row that `serving_default` takes, of neutral values."""
        inputs = self.inputs[DEFAULT_SIGNATURE]
        return {name: _NEUTRAL[t.kind] for name, t in inputs.items()}

    def _warm_up(self) -> None:
        # The first call builds the executor and would cost a user's request
        # hundreds of milliseconds.
        row = self.example_row()
        inputs = self.inputs[DEFAULT_SIGNATURE]
        outputs = self.predict(
            DEFAULT_SIGNATURE,
            {k: columns.to_column(k, inputs[k], [row[k]]) for k in inputs},
        )
        _check_finite(DEFAULT_SIGNATURE, outputs)
        for name in self.signatures.keys() - {DEFAULT_SIGNATURE}:
            serialized = np.array([_example(row)], dtype=object)
            features = dict.fromkeys(self.inputs[name], serialized)
            try:
                outputs = self.predict(name, features)
            except (BadInputError, errors.OpError) as error:
                _logger.debug("warm-up of signature %s: %s", name, error)
            else:
                _check_finite(name, outputs)

    def _replay(self, requests: Iterable[warm_up.Request]) -> None:
        """Answers requests that the version brings, as TF Serving does."""
        try:
            for name, given in requests:
                inputs = {self.aliases.get(k, k): v for k, v in given.items()}
                self.predict(name or DEFAULT_SIGNATURE, inputs)
        except Exception as error:
            # They make the first answers fast, and are no part of the model.
            _logger.debug("version %d: warm-up ends: %s", self.version, error)


def check_inputs(new: LoadedModel, served: LoadedModel) -> None:
    """Refuses a version that clients of the served one cannot ask.

    Raises:
        ServingError: `serving_default` takes other inputs; names them.
    """
    before = served.inputs[DEFAULT_SIGNATURE]
    after = new.inputs[DEFAULT_SIGNATURE]
    changes = [manifest.input_changes(before, after)]
    changes += [
        f"takes {name!r} as {after[name]} instead of {before[name]}"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    if any(changes):
        raise ServingError(
            f"it has other inputs than the served version {served.version}:"
            f" it {'; '.join(filter(None, changes))}. Serve it with"
            " --allow-input-change, or pin it"
        )


def _check_finite(signature: str, outputs: Mapping[str, Array]) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ServingError(
                f"signature {signature!r} answers {name!r} ="
                f" {values.ravel()[0]} to a row of neutral values"
            )


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """The same folder; TensorFlow takes [1] in its path for a glob."""
    if not re.search(r"[*?[]", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lionctr-") as folder:
        link = Path(folder) / path.name
        link.symlink_to(path.resolve())
        yield link


def _created(about: Mapping[str, Any], path: Path) -> float:
    """When a version was exported, or else written."""
    try:
        return datetime.datetime.fromisoformat(about["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return path.stat().st_mtime


def _aliases(about: Mapping[str, Any]) -> dict[str, str]:
    """From what `models/export.py` writes; nothing for other models."""
    names = about.get("inputs", {})
    return {served: name for name, served in names.items() if served != name}


def _signature(definition: Any, aliases: Mapping[str, str]) -> Signature:
    inputs = {}
    # A SavedModel does not keep the order of its inputs.
    for name, tensor in sorted(definition.inputs.items()):
        kind = dtypes.as_dtype(tensor.dtype)
        dtype = np.dtype(kind.as_numpy_dtype)
        if _rank(tensor) != 1 or not columns.supported(dtype):
            raise ServingError(
                f"input {name!r} must be one scalar a row (shape [N]). "
                f"Received: {kind.name} {_shape(tensor)}"
            )
        inputs[aliases.get(name, name)] = dtype
    if not inputs:
        raise ServingError("a signature without inputs cannot be served")
    outputs = {}
    for name, tensor in sorted(definition.outputs.items()):
        kind = dtypes.as_dtype(tensor.dtype)
        dtype = np.dtype(kind.as_numpy_dtype)
        if _rank(tensor) == 0 or dtype.kind not in "fiub":
            raise ServingError(
                f"output {name!r} must be numbers, by row."
                f" Received: {kind.name} {_shape(tensor)}"
            )
        outputs[name] = dtype
    return Signature(inputs, outputs)


def _rank(tensor: Any) -> int | None:
    shape = tensor.tensor_shape
    return None if shape.unknown_rank else len(shape.dim)


def _shape(tensor: Any) -> str:
    if tensor.tensor_shape.unknown_rank:
        return "<unknown>"
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    return str([None if size < 0 else size for size in sizes])


def _example(row: Mapping[str, Scalar]) -> bytes:
    example = example_pb2.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if not value and isinstance(value, str):
            continue  # missing, whatever the kind of the feature is
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(int(value))
    return bytes(example.SerializeToString())


def _first_cause(message: str) -> str:
    # TensorFlow puts the sentence that matters last, before the node's name.
    cause = re.sub(r"\s*(\[\[|\[Op:).*", "", message, flags=re.DOTALL)
    # Before an Assert's words is the call's name, and quotes are escaped.
    cause = re.sub(r"\{\{.*?\}\} (assertion failed: )?", "", cause)
    cause = cause.replace("\\'", "'")
    return cause.splitlines()[-1].strip() if cause else message
