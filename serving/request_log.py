"""Log a share of what was served: parquet files that the ingest reads."""

import contextlib
import logging
import os
import queue
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from tensorflow.core.example import example_pb2

from serving import tf_serving_examples
from serving.columns import Array, number_text
from serving.errors import BadInputError, ServingError
from serving.limits import LogOptions
from serving.metrics import ServingMetrics
from serving.tf_serving import DEFAULT_SIGNATURE, Aliases, Inputs

_logger = logging.getLogger(__name__)
_GROUP = 8192  # rows that are written together
_LONGEST_ID = 200


class Version(Protocol):
    """The part of a loaded version that the log needs."""

    @property
    def version(self) -> int: ...
    @property
    def inputs(self) -> Mapping[str, Inputs]: ...
    @property
    def aliases(self) -> Aliases: ...
    @property
    def lists(self) -> tf_serving_examples.Lists: ...


class Served(NamedTuple):
    """A request that was answered.

    columns: of `signature`, [rows] each. moment: in seconds since 1970.
    """

    request_id: str
    moment: float
    model: Version
    signature: str
    columns: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.outputs.values())))


class RequestLog:
    """Takes requests without waiting; a thread writes them.

    A file is hidden until it is whole: names that begin with a dot are left
    out by the ingest. Rows that cannot be written are counted, not waited for.
    """

    def __init__(self, options: LogOptions, metrics: ServingMetrics) -> None:
        """Starts the thread.

        Raises:
            ServingError: the folder cannot be written, or the share is none.
        """
        if not 0 < options.share <= 1:
            raise ServingError(
                f"--share: received {options.share}; accepted: above 0, to 1"
            )
        self._options = options
        self._metrics = metrics
        self._queue: queue.SimpleQueue[Served | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._file: _File | None = None
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            probe = options.folder / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ServingError(
                f"--log-requests: {options.folder} cannot be written: {error}"
            ) from None
        self._thread = threading.Thread(
            target=self._run, name="request-log", daemon=True
        )
        self._thread.start()

    def offer(
        self,
        model: Version,
        signature: str,
        columns: Mapping[str, Array],
        outputs: Mapping[str, Array],
        identify: Callable[[], str],
    ) -> None:
        """Takes a request, or leaves it out by chance; never waits.

        Args:
            model: the version that answered.
            identify: the request's id; asked only if the request is logged.
        """
        if random.random() >= self._options.share:
            return
        name = identify()[:_LONGEST_ID] or uuid.uuid4().hex
        served = Served(name, time.time(), model, signature, columns, outputs)
        with self._lock:
            full = self._waiting + served.rows > self._options.waiting
            if not full:
                self._waiting += served.rows
        if full:
            self._metrics.log_dropped("queue", served.rows)
        else:
            self._queue.put(served)

    def close(self, timeout: float = 30.0) -> None:
        """Writes what waits and ends the file."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            wait = None if self._file is None else self._file.seconds_left()
            try:
                served = self._queue.get(timeout=wait)
            except queue.Empty:
                self._end()
                continue
            if served is None:
                self._end()
                return
            with self._lock:
                self._waiting -= served.rows
            self._write(served)

    def _write(self, served: Served) -> None:
        try:
            table = to_table(served)
        except Exception as error:  # whatever a request may hold
            _logger.debug("a request is not logged: %s", error)
            self._metrics.log_dropped("value", served.rows)
            return
        if self._file is not None and self._file.schema != table.schema:
            self._end()
        if self._file is None:
            self._file = _File(self._options, table.schema)
        try:
            self._file.add(table)
        except OSError as error:
            self._fail(error)
            return
        if self._file.is_full():
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.end()
            self._metrics.logged(file.rows)
        except OSError as error:
            self._file = file
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Gives a file up, such as on a disk that is full."""
        file, self._file = self._file, None
        assert file is not None
        _logger.error("%d rows are not logged: %s", file.rows, error)
        self._metrics.log_dropped("write", file.rows)
        file.discard()


def to_table(served: Served) -> Any:
    """A request as Arrow: a column for each feature, and how it was served.

    What the model read as missing is null, and lists are lists, so that the
    ingest of the log sees the row that the model saw.

    Raises:
        BadInputError: the signature is not of rows.
        ValueError: text that is not UTF-8; a feature with a name of ours.
    """
    import pyarrow as pa

    count = served.rows
    columns = served.columns
    lists = served.model.lists or {}
    if served.signature != DEFAULT_SIGNATURE:
        columns = _of_examples(served)
    named = {
        name: _lists(columns[name], lists[name])
        if name in lists
        else _array(columns[name])
        for name in sorted(columns)
    }
    ours = {
        "request_id": pa.array([served.request_id] * count),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "served_at": pa.array(
            [int(served.moment * 1e6)] * count, pa.timestamp("us", "UTC")
        ),
        "served_version": pa.array([served.model.version] * count, pa.int64()),
        **{
            f"served_{name}": pa.array(values)
            for name, values in served.outputs.items()
            if values.ndim == 1
        },
    }
    if clash := named.keys() & ours.keys():
        raise ValueError(f"features are called {', '.join(sorted(clash))}")
    return pa.table({**ours, **named})


def _array(values: Array) -> Any:
    import pyarrow as pa

    if values.dtype.kind == "f":
        return pa.array(values, mask=~np.isfinite(values))
    if values.dtype.kind == "i":
        return pa.array(values, mask=values == -1)
    if values.dtype.kind != "O":
        return pa.array(values)
    texts = [v.encode() if isinstance(v, str) else bytes(v) for v in values]
    found = pa.array([text or None for text in texts], pa.binary())
    return found.cast(pa.string())


def _lists(values: Iterable[Any], separator: str) -> Any:
    """Texts, or lists of several values, as lists; null without a value."""
    import pyarrow as pa

    found = []
    for value in values:
        items = value if isinstance(value, list) else [value]
        items = [number_text(item) for item in items]
        texts = [v.encode() if isinstance(v, str) else bytes(v) for v in items]
        if len(texts) == 1:
            texts = texts[0].split(separator.encode())
        found.append(list(filter(None, texts)) or None)
    return pa.array(found, pa.list_(pa.binary())).cast(pa.list_(pa.string()))


def _of_examples(served: Served) -> dict[str, Any]:
    """The features in serialized tf.Examples; those of lists as lists."""
    inputs = served.model.inputs.get(DEFAULT_SIGNATURE, {})
    lists = served.model.lists or {}
    if len(served.columns) != 1:
        raise BadInputError(f"signature {served.signature!r} is of no examples")
    (serialized,) = served.columns.values()
    rows = [
        tf_serving_examples.values_of(example_pb2.Example.FromString(text))
        for text in serialized
    ]
    aliases = served.model.aliases
    single = {k: dtype for k, dtype in inputs.items() if k not in lists}
    several = [name for name in inputs if name in lists]
    found = tf_serving_examples.values_by_name(rows, several, aliases)
    return {
        **tf_serving_examples.to_columns(rows, single, aliases),
        **{n: [v or [] for v in column] for n, column in found.items()},
    }


class _File:
    """A file that is being written; rows wait until they are a group."""

    def __init__(self, options: LogOptions, schema: Any) -> None:
        self.schema = schema
        self.rows = 0
        self._options = options
        self._begun = time.monotonic()
        self._tables: list[Any] = []
        self._waiting = 0  # rows in them
        self._writer: Any = None
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{stamp}-{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._path = options.folder / f"requests-{name}.parquet"
        self._hidden = options.folder / f".requests-{name}.parquet"

    def seconds_left(self) -> float:
        """Until the file is old enough."""
        age = time.monotonic() - self._begun
        return max(0.0, self._options.file_seconds - age)

    def is_full(self) -> bool:
        """True if it is large or old enough."""
        size = 0 if self._writer is None else self._hidden.stat().st_size
        return size >= self._options.file_bytes or not self.seconds_left()

    def add(self, table: Any) -> None:
        """Adds rows of the schema."""
        self._tables.append(table)
        self._waiting += table.num_rows
        self.rows += table.num_rows
        if self._waiting >= _GROUP:
            self._flush()

    def end(self) -> None:
        """Writes what waits, and gives the file its name."""
        self._flush()
        self._writer.close()
        descriptor = os.open(self._hidden, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._hidden.rename(self._path)

    def discard(self) -> None:
        """Removes it."""
        with contextlib.suppress(OSError, ValueError):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._hidden, self.schema)
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables))
            self._tables, self._waiting = [], 0
