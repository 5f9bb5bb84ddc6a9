"""The KServe model and repository: one model per loaded version."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from kserve import Model, ModelRepository
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.metrics import PREDICT_HIST_TIME, get_labels

from serving import open_inference
from serving.batching import Batcher, Piece
from serving.call_metrics import CallMetrics
from serving.columns import Array
from serving.errors import BadInputError, OverloadedError, TooLargeError
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
CTR = "ctr"  # the output that is a probability
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
        rows, predicted, total = 0, 0, 0.0
        for piece, answer in zip(batch, answers, strict=True):
            rows += piece.rows
            values = {} if isinstance(answer, Exception) else answer
            ctr = values.get(CTR)
            if ctr is not None:
                predicted += piece.rows
                # A sum of one value costs 20 times as much.
                total += ctr.item() if ctr.size == 1 else float(ctr.sum())
        waits = [start - piece.asked for piece in batch]
        self._metrics.called(waits, rows, end - start, predicted, total)
        first = batch[0]
        if self._monitor is not None and first.signature == DEFAULT_SIGNATURE:
            self._monitor.offer(self._loaded, first.columns)


class UnknownVersion(ModelNotFound):
    """KServe's 404, with a reason of our own."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class CtrModel(Model):
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
        super().__init__(name)
        self.loaded = loaded
        self.ready = loaded is not None
        self.limits = limits
        self._executor = executor
        self._metrics = metrics
        self._log = request_log
        self._kserve = PREDICT_HIST_TIME.labels(**get_labels(name))
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

    def load(self) -> bool:
        """Does nothing: loading is the watcher's."""
        return bool(self.ready)

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
            InvalidInput: the request does not fit the model.
            ModelNotReady: no version is loaded.
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
            raise ModelNotReady(self.name)
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
        except TooLargeError:
            self._metrics.refused(loaded.version, 413)
            raise
        except BadInputError as error:
            self._metrics.refused(loaded.version, 400)
            raise InvalidInput(str(error)) from error
        except OverloadedError:
            self._metrics.refused(loaded.version, 503)
            raise
        except Exception:
            self._metrics.refused(loaded.version, 500)
            raise
        finally:
            self._kserve.observe(time.perf_counter() - start)
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

    def get_input_types(self) -> list[dict[str, Any]]:
        """The inputs of `serving_default`, in Open Inference terms."""
        return self._tensors("inputs")

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs of `serving_default`, in Open Inference terms."""
        return self._tensors("outputs")

    def _tensors(self, which: str) -> list[dict[str, Any]]:
        if self.loaded is None:
            return []
        signature = self.loaded.signatures[DEFAULT_SIGNATURE]
        return open_inference.describe(getattr(signature, which))


class VersionRepository(ModelRepository):
    """KServe's registry of models, filled by the watcher.

    `<name>` is the served version, `<name>/versions/<v>` a given one. The
    registry is replaced whole and never changed, so a request sees either
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
        super().__init__()
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
            UnknownVersion: there is none; says what there is.
        """
        found = self.models.get(name)
        if found is not None:
            return found
        base, _, version = name.partition("/versions/")
        if base != self.name:
            raise UnknownVersion(
                f"unknown model. Received: {base!r}, accepted: {self.name!r}"
            )
        loaded = ", ".join(map(str, sorted(self.snapshot.loaded)))
        raise UnknownVersion(
            f"model {base!r} has no such version loaded. "
            f"Received: {version!r}, accepted: {loaded or 'none'}"
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
            UnknownVersion: there is none.
            ModelNotReady: no version is loaded.
        """
        if label is not None:
            version = self._labelled(label)
        key = name if version is None else f"{name}/versions/{version}"
        try:
            model = self.get_model(key)
        except UnknownVersion:
            self._metrics.refused("", 404)
            raise
        if not model.ready:
            raise ModelNotReady(key)
        return model

    def _labelled(self, label: str) -> int | None:
        if label not in LABELS:
            raise UnknownVersion(
                f"unknown label. Received: {label!r},"
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

    def get_models(self) -> Mapping[str, CtrModel]:
        """The one model, under its plain name."""
        return {self.name: self.models[self.name]}

    async def is_model_ready(self, name: str) -> bool:
        """True if a version is loaded to answer with."""
        return bool(self.get_model(name).ready)

    def load(self, name: str) -> bool:
        """Accepts what is so already; versions follow the directory."""
        return bool(self.get_model(name).ready)

    def unload(self, name: str) -> None:
        """Refuses: whoever may write the directory decides."""
        self.get_model(name)
        raise InvalidInput(
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
