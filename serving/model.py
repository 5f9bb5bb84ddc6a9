"""The KServe model and repository: one model per loaded version."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from kserve import InferRequest, InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady

from serving import open_inference, tf_serving
from serving.errors import BadInputError
from serving.metrics import ServingMetrics
from serving.savedmodel import LoadedModel, Scalar
from serving.tf_serving import DEFAULT_SIGNATURE
from serving.versions import Snapshot


@dataclass(frozen=True)
class TfServingBody:
    """The undecoded body of a `:predict` call."""

    content: bytes


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
    ) -> None:
        """Wraps a loaded version; `None` is a model that is not ready."""
        super().__init__(name)
        self.loaded = loaded
        self.ready = loaded is not None
        self._executor = executor
        self._metrics = metrics

    def load(self) -> bool:
        """Does nothing: loading is the watcher's."""
        return bool(self.ready)

    async def predict(
        self,
        payload: TfServingBody | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> bytes | InferResponse:
        """Answers in a thread, so that the event loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._answer, payload
        )

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

    def _answer(
        self, payload: TfServingBody | InferRequest
    ) -> bytes | InferResponse:
        loaded = self.loaded
        if loaded is None:
            raise ModelNotReady(self.name)
        start = time.perf_counter()
        answer: bytes | InferResponse
        try:
            if isinstance(payload, TfServingBody):
                request = tf_serving.decode(
                    payload.content, loaded.inputs, loaded.aliases
                )
                outputs = loaded.predict(request.signature, request.columns)
                answer = tf_serving.encode(outputs, request.by_row)
            else:
                signature, columns = open_inference.decode(
                    payload, loaded.inputs, loaded.aliases
                )
                outputs = loaded.predict(signature, columns)
                answer = open_inference.encode(
                    payload, self.name, loaded.version, outputs
                )
        except BadInputError as error:
            self._metrics.refused(loaded.version, 400)
            raise InvalidInput(str(error)) from error
        except Exception:
            self._metrics.refused(loaded.version, 500)
            raise
        rows = len(next(iter(outputs.values())))
        seconds = time.perf_counter() - start
        self._metrics.answered(loaded.version, rows, seconds)
        return answer


class VersionRepository(ModelRepository):
    """KServe's registry of models, filled by the watcher.

    `<name>` is the served version, `<name>/versions/<v>` a given one. The
    registry is replaced whole and never changed, so a request sees either
    the old versions or the new ones.
    """

    def __init__(
        self, name: str, executor: Executor, metrics: ServingMetrics
    ) -> None:
        """Starts without a version, not ready."""
        super().__init__()
        self.models: dict[str, CtrModel] = {}
        self.name = name
        self.snapshot: Snapshot[LoadedModel] = Snapshot()
        self._executor = executor
        self._metrics = metrics
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

    def example(self) -> tuple[int, dict[str, Scalar]]:
        """The served version and a row that it takes."""
        loaded = self.get_model(self.name).loaded
        assert loaded is not None
        return loaded.version, loaded.example_row()

    def get_models(self) -> Mapping[str, CtrModel]:
        """The one model, under its plain name."""
        return {self.name: self.models[self.name]}

    async def is_model_ready(self, name: str) -> bool:
        """Whether a version is loaded to answer with."""
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
        return CtrModel(self.name, loaded, self._executor, self._metrics)
