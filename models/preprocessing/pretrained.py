"""Files of pretrained embeddings: the value and the vector of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from models.config.features import Features
from models.config.paths import is_local
from models.config.vectors import Pretrained
from models.errors import InputError

Floats = npt.NDArray[np.float32]
_BLOCK = 1 << 22
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read(config: Pretrained) -> tuple[pa.Array, Floats]:
    """Values, binary [V], and their vectors, [V, dim].

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        values, vectors = _read(config)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{config.path}: cannot be read: {error}") from error
    if len(values) != len(vectors):
        raise InputError(
            f"{config.path} has {len(vectors):,} vectors, {config.ids}"
            f" {len(values):,} values; accepted: as many"
        )
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        raise InputError(
            f"{config.path}: the vector of {values[row].as_py().decode()!r}"
            " is not of finite numbers"
        )
    return values, vectors


def width(config: Pretrained) -> int | None:
    """Numbers of a vector of a local file, by its first rows.

    None where only the whole file tells.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if config.path.endswith(".npy"):
            return int(np.load(config.path, mmap_mode="r").shape[-1])
        if config.path.endswith(".parquet"):
            batches = pq.ParquetFile(config.path).iter_batches(1)
            first = pa.Table.from_batches([next(iter(batches))])
            return int(_of_table(first, config.key)[1].shape[1])
    except (OSError, ValueError, StopIteration, pa.ArrowException) as error:
        raise InputError(f"{config.path}: cannot be read: {error}") from error
    return None


def version(features: Features) -> str:
    """Identity of the files' content, as far as this machine reads them."""
    digest = hashlib.sha256()
    for f in features.categorical:
        for path in _paths(f.pretrained):
            digest.update(path.encode())
            try:
                with _open(path) as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
            except Exception:  # Kubeflow's pods may see more
                digest.update(b"unread")
    return digest.hexdigest()[:16]


def _paths(config: Pretrained | None) -> Iterator[str]:
    if config is not None:
        yield config.path
        if config.ids is not None:
            yield config.ids


def _read(config: Pretrained) -> tuple[pa.Array, Floats]:
    kind = PurePath(config.path).suffix
    with _open(config.path) as file:
        if kind == ".npy":
            vectors = np.load(file, allow_pickle=False)
            if vectors.ndim != 2:
                raise ValueError(f"expected a matrix, not {vectors.ndim} axes")
            with _open(str(config.ids)) as lines:
                values = lines.read().removesuffix(b"\n").split(b"\n")
            return pa.array(values, pa.binary()), vectors.astype(np.float32)
        if kind == ".parquet":
            table = pq.read_table(pa.PythonFile(file))
        else:
            options = pa.csv.ParseOptions(delimiter=_SEPARATORS[kind])
            key = config.key
            types = {} if key is None else {key: pa.string()}
            convert = pa.csv.ConvertOptions(column_types=types)
            table = pa.csv.read_csv(file, None, options, convert)
    return _of_table(table, config.key)


def _of_table(table: pa.Table, key: str | None) -> tuple[pa.Array, Floats]:
    name = table.column_names[0] if key is None else key
    if name not in table.column_names:
        raise ValueError(
            f"no column {name!r}. Its columns: {', '.join(table.column_names)}"
        )
    values = table[name].combine_chunks()
    rest = table.drop_columns([name]).combine_chunks()
    values = values.cast(pa.string()).cast(pa.binary())
    if rest.num_columns == 1 and not _is_number(rest.column(0).type):
        return values, _of_lists(rest.column(0).combine_chunks())
    columns = [
        column.cast(pa.float32(), safe=False).to_numpy()
        for column in rest.columns
    ]
    if not columns:
        raise ValueError(f"no column beside {name!r}")
    return values, np.stack(columns, 1)


def _of_lists(lists: Any) -> Floats:
    if pa.types.is_string(lists.type):
        lists = pa.compute.split_pattern(lists, ",")
    lists = lists.cast(pa.list_(lists.type.value_type))
    lengths = set(pa.compute.list_value_length(lists).to_pylist())
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"vectors of {sorted(map(str, lengths))} numbers; accepted: one"
            " length"
        )
    numbers = lists.flatten().cast(pa.float32(), safe=False)
    found: Floats = numbers.to_numpy(zero_copy_only=False)
    return found.reshape(len(lists), -1)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_null(kind)
    )


def _open(path: str) -> IO[bytes]:
    if is_local(path):
        return Path(path).open("rb")
    from tensorflow.io import gfile

    file: IO[bytes] = gfile.GFile(path, "rb")
    return file
