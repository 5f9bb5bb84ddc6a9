"""The models to answer with: one for each loaded version."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from serving import open_inference
from serving.batching import Batcher, Piece
from serving.call_metrics import CallMetrics
from serving.columns import Array
from serving.errors import (
    BadInputError,
    NotReadyError,
    RequestError,
    UnknownModelError,
    shown,
)
from serving.limits import DEFAULTS, Limits
from serving.metrics import ServingMetrics
from serving.monitor import Monitor
from serving.request_log import RequestLog
from serving.savedmodel import LoadedModel, Scalar
from serving.tf_serving import DEFAULT_SIGNATURE
from serving.versions import Snapshot

Answer = TypeVar("Answer")
# Reads a request: the signature that it is for, and its columns.
Read = Callable[[LoadedModel], tuple[str, dict[str, Array]]]
_SMALL = 1 << 16  # bytes that are read faster than a thread is woken
LABELS = ("stable", "canary")  # the served version, the newest one


class _Observer:
    """Hears of the calls of one version, for the metrics."""

    def __init__(
        self,
        loaded: LoadedModel,
        metrics: CallMetrics,
        monitor: Monitor | None,
    ) -> None:
        self._loaded = loaded
        self._metrics = metrics
        self._monitor = monitor

    def called(
        self,
        batch: Sequence[Piece],
        answers: Sequence[dict[str, Array] | Exception],
        start: float,
        end: float,
    ) -> None:
        """Adds up what a call did, and has the monitor look."""
        rows = 0
        predicted: dict[str, tuple[int, float]] = {}
        for piece, answer in zip(batch, answers, strict=True):
            rows += piece.rows
            values = {} if isinstance(answer, Exception) else answer
            for name, one in values.items():
                if one.dtype.kind != "f":
                    continue
                count, total = predicted.get(name, (0, 0.0))
                # A sum of one value costs 20 times as much.
                total += one.item() if one.size == 1 else float(one.sum())
                predicted[name] = count + piece.rows, total
        waits = [start - piece.asked for piece in batch]
        self._metrics.called(waits, rows, end - start, predicted)
        first = batch[0]
        if self._monitor is not None and first.signature == DEFAULT_SIGNATURE:
            self._monitor.offer(self._loaded, first.columns)


class CtrModel:
    """One version of the model; keeps answering while a request holds it."""

    def __init__(
        self,
        name: str,
        loaded: LoadedModel | None,
        executor: Executor,
        metrics: ServingMetrics,
        limits: Limits,
        request_log: RequestLog | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Wraps a loaded version; `None` is a model that is not ready."""
        self.name = name
        self.loaded = loaded
        self.ready = loaded is not None
        self.limits = limits
        self._executor = executor
        self._metrics = metrics
        self._log = request_log
        self.batcher: Batcher | None = None
        self.open = 0  # requests
        if loaded is not None:
            self.batcher = Batcher(
                loaded,
                executor,
                limits.batch_wait,
                limits.waiting,
                _Observer(loaded, metrics.calls(loaded.version), monitor),
                not loaded.has_loop,
                loaded.block,
            )

    async def answer(
        self,
        read: Read,
        write: Callable[[LoadedModel, dict[str, Array]], Answer],
        size: int = 0,
        identify: Callable[[], str] = lambda: "",
    ) -> Answer:
        """Answers one request of any protocol.

        Args:
            read: decodes the request.
            write: encodes the outputs.
            size: of the request, in bytes.
            identify: the request's id, for the request log.

        Raises:
            BadInputError: the request does not fit the model.
            NotReadyError: no version is loaded.
            OverloadedError: too many rows wait.
            TooLargeError: the request has too many rows.
        """
        self.open += 1
        try:
            return await self._answer(read, write, size, identify)
        finally:
            self.open -= 1

    async def _answer(
        self,
        read: Read,
        write: Callable[[LoadedModel, dict[str, Array]], Answer],
        size: int,
        identify: Callable[[], str],
    ) -> Answer:
        loaded, batcher = self.loaded, self.batcher
        if loaded is None or batcher is None:
            raise not_ready(self.name)
        start = time.perf_counter()
        try:
            if size <= _SMALL:
                signature, columns = read(loaded)
            else:
                signature, columns = await self._in_thread(read, loaded)
            self.limits.check_rows(len(next(iter(columns.values()))))
            outputs = await batcher.predict(signature, columns, size <= _SMALL)
            if size <= _SMALL:
                answer = write(loaded, outputs)
            else:
                answer = await self._in_thread(write, loaded, outputs)
        except RequestError as error:
            self._metrics.refused(loaded.version, error.http)
            raise
        except Exception:
            self._metrics.refused(loaded.version, 500)
            raise
        finally:
            self._metrics.took(time.perf_counter() - start)
        rows = len(next(iter(outputs.values())))
        seconds = time.perf_counter() - start
        self._metrics.answered(loaded.version, rows, seconds)
        if self._log is not None:
            self._log.offer(loaded, signature, columns, outputs, identify)
        return answer

    async def _in_thread(
        self, work: Callable[..., Answer], *arguments: Any
    ) -> Answer:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._executor, work, *arguments)
        return await call


class VersionRepository:
    """The models by name, filled by the watcher.

    `<name>` is the served version, `<name>/versions/<v>` a given one. The
    mapping is replaced whole and never changed, so a request sees either
    the old versions or the new ones.
    """

    def __init__(
        self,
        name: str,
        executor: Executor,
        metrics: ServingMetrics,
        limits: Limits = DEFAULTS,
        ignore_unknown: bool = False,
        request_log: RequestLog | None = None,
    ) -> None:
        """Starts without a version, not ready.

        ignore_unknown: whether columns that are no feature are left out.
        """
        self.models: dict[str, CtrModel] = {}
        self.name = name
        self.snapshot: Snapshot[LoadedModel] = Snapshot()
        self.limits = limits
        self.ignore_unknown = ignore_unknown
        self._executor = executor
        self._metrics = metrics
        self._log = request_log
        self._monitor = Monitor(metrics)
        self.publish(self.snapshot)

    def publish(self, snapshot: Snapshot[LoadedModel]) -> None:
        """Serves what the snapshot holds from the next request on."""
        known = {id(m.loaded): m for m in self.models.values()}
        models = {
            f"{self.name}/versions/{version}": known.get(id(loaded))
            or self._model(loaded)
            for version, loaded in snapshot.loaded.items()
        }
        served = snapshot.served
        models[self.name] = (
            self._model(None)
            if served is None
            else models[f"{self.name}/versions/{served}"]
        )
        self.models = models
        self.snapshot = snapshot
        self._metrics.serve(served or 0)

    def get_model(self, name: str) -> CtrModel:
        """The model to answer with.

        Raises:
            UnknownModelError: there is none; says what there is.
        """
        found = self.models.get(name)
        if found is not None:
            return found
        base, _, version = name.partition("/versions/")
        if base != self.name:
            raise UnknownModelError(
                f"unknown model. Received: {shown(base)},"
                f" accepted: {self.name!r}"
            )
        loaded = ", ".join(map(str, sorted(self.snapshot.loaded)))
        raise UnknownModelError(
            f"model {base!r} has no such version loaded. "
            f"Received: {shown(version)}, accepted: {loaded or 'none'}"
        )

    def find(
        self, name: str, version: object = None, label: str | None = None
    ) -> CtrModel:
        """The model that a request names, ready to answer.

        Args:
            name: of the model.
            version: a given one; without it, the served one.
            label: `stable`, the served version, or `canary`, the newest.

        Raises:
            UnknownModelError: there is none.
            NotReadyError: no version is loaded.
        """
        if label is not None:
            version = self._labelled(label)
        key = name if version is None else f"{name}/versions/{version}"
        try:
            model = self.get_model(key)
        except UnknownModelError:
            self._metrics.refused("", 404)
            raise
        if not model.ready:
            raise not_ready(key)
        return model

    def _labelled(self, label: str) -> int | None:
        if label not in LABELS:
            raise UnknownModelError(
                f"unknown label. Received: {shown(label)},"
                f" accepted: {', '.join(LABELS)}"
            )
        snapshot = self.snapshot
        if label == "stable":
            return snapshot.served
        return max(snapshot.loaded, default=None)

    def states(self) -> dict[int, tuple[str, str]]:
        """Version -> TF Serving's word for its state, and why; newest first."""
        snapshot = self.snapshot
        states = dict.fromkeys(snapshot.loaded, ("AVAILABLE", ""))
        for version, reason in snapshot.failed.items():
            states.setdefault(version, ("END", reason))
        if snapshot.loading is not None:
            states.setdefault(snapshot.loading, ("LOADING", ""))
        return dict(sorted(states.items(), reverse=True))

    def example(self) -> tuple[int, dict[str, Scalar]]:
        """The served version and a row that it takes."""
        loaded = self.get_model(self.name).loaded
        assert loaded is not None
        return loaded.version, loaded.example_row()

    def refused(self, code: int) -> None:
        """Counts a request that was refused before it had a version."""
        self._metrics.refused("", code)

    @property
    def created(self) -> dict[int, float]:
        """Loaded version -> when it was exported."""
        loaded = self.snapshot.loaded
        return {version: model.created for version, model in loaded.items()}

    @property
    def failed(self) -> int:
        """How many versions are skipped."""
        return len(self.snapshot.failed)

    @property
    def queued(self) -> int:
        """Rows that wait for a call of the model."""
        return sum(batcher.waiting for batcher in self._batchers())

    @property
    def running(self) -> int:
        """Calls of the model that are under way."""
        return sum(batcher.running for batcher in self._batchers())

    @property
    def open(self) -> int:
        """Requests that are not answered yet."""
        return sum(model.open for model in set(self.models.values()))

    def _batchers(self) -> list[Batcher]:
        models = set(self.models.values())
        return [model.batcher for model in models if model.batcher is not None]

    @property
    def ready(self) -> bool:
        """True if a version is loaded to answer with."""
        return self.models[self.name].ready

    def metadata(self, name: str) -> dict[str, Any]:
        """A model in the words of Open Inference v2.

        Raises:
            UnknownModelError: there is none of this name.
        """
        loaded = self.get_model(name).loaded
        tensors: dict[str, Any] = {"inputs": [], "outputs": []}
        if loaded is not None:
            served = loaded.signatures[DEFAULT_SIGNATURE]
            tensors["inputs"] = open_inference.describe(served.inputs)
            tensors["outputs"] = open_inference.describe(served.outputs)
        return {
            "name": self.name,
            "versions": [str(v) for v in sorted(self.snapshot.loaded)],
            "platform": "tensorflow_savedmodel",
            **tensors,
        }

    def load(self, name: str) -> None:
        """Accepts a load that is done; versions follow the directory.

        Raises:
            UnknownModelError: there is no such model.
            NotReadyError: no version of it is loaded.
        """
        if not self.get_model(name).ready:
            raise not_ready(name)

    def unload(self, name: str) -> None:
        """Refuses: whoever may write the directory decides.

        Raises:
            UnknownModelError: there is no such model.
            BadInputError: there is.
        """
        self.get_model(name)
        raise BadInputError(
            "versions follow the model directory: "
            "remove the version's folder to unload it"
        )

    def _model(self, loaded: LoadedModel | None) -> CtrModel:
        return CtrModel(
            self.name,
            loaded,
            self._executor,
            self._metrics,
            self.limits,
            self._log,
            self._monitor,
        )


def not_ready(name: str) -> NotReadyError:
    """The error for a model of which no version is loaded."""
    return NotReadyError(f"model {name!r} is not ready: no version is loaded")
