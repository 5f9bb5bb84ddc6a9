"""What Prometheus is told about requests, beside KServe's own figures."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)
from prometheus_client.core import GaugeMetricFamily, Metric

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class State(Protocol):
    """What the server is doing, when it is asked.

    created: loaded version -> when it was exported, in seconds since 1970.
    failed: versions that are skipped. queued: rows that wait for the model.
    running: calls of the model. open: requests that are not answered yet.
    """

    created: Mapping[int, float]
    failed: int
    queued: int
    running: int
    open: int


class CallMetrics:
    """Figures of the calls of one version."""

    def __init__(self, *figures: Any) -> None:
        self._waited, self._computed, self._rows, *rest = figures
        self._count, self._sum = rest

    def called(self, waits: list[float], rows: int, seconds: float) -> None:
        """Records a call: how long each request waited, rows, its time."""
        for wait in waits:
            self._waited.observe(wait)
        self._computed.observe(seconds)
        self._rows.observe(rows)

    def predicted(self, rows: int, total: float) -> None:
        """Records the sum of the probabilities of some rows."""
        self._count.inc(rows)
        self._sum.inc(total)


class ServingMetrics:
    """Counts and latencies per version of one model."""

    def __init__(
        self, model: str, registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._model = model
        labels = ["model", "version"]
        self._requests = Counter(
            "lionctr_requests",
            "Predict requests, by the HTTP status that they got.",
            [*labels, "code"],
            registry=registry,
        )
        self._rows = Counter(
            "lionctr_rows", "Rows scored.", labels, registry=registry
        )
        self._seconds = Histogram(
            "lionctr_predict_seconds",
            "From a read body to an encoded answer.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._served = Gauge(
            "lionctr_served_version",
            "The version that answers where none is named; 0: none.",
            ["model"],
            registry=registry,
        )
        self._waited = Histogram(
            "lionctr_wait_seconds",
            "That a request waited for a call of the model.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._computed = Histogram(
            "lionctr_compute_seconds",
            "Of a call of the model, for all requests in it.",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "lionctr_batch_rows",
            "Rows of a call of the model.",
            labels,
            buckets=_SIZES,
            registry=registry,
        )
        self._predicted = Counter(
            "lionctr_predictions",
            "Rows with a probability.",
            labels,
            registry=registry,
        )
        self._sum = Counter(
            "lionctr_predictions_sum",
            "Sum of the probabilities; divided by the rows: their mean.",
            labels,
            registry=registry,
        )
        feature = ["model", "feature"]
        self._values = Counter(
            "lionctr_feature_rows",
            "Rows of sampled requests that were looked at.",
            feature,
            registry=registry,
        )
        self._missing = Counter(
            "lionctr_feature_missing_rows",
            "Of those, rows without a value.",
            feature,
            registry=registry,
        )
        self._unknown = Counter(
            "lionctr_feature_unknown_rows",
            "Of those, rows with a value that is not in the vocabulary.",
            feature,
            registry=registry,
        )
        self._logged = Counter(
            "lionctr_logged_rows",
            "Rows in files of the request log that are whole.",
            ["model"],
            registry=registry,
        )
        self._dropped = Counter(
            "lionctr_log_dropped_rows",
            "Rows that the request log left out: queue (full), value (not"
            " writable), write (disk).",
            ["model", "reason"],
            registry=registry,
        )

        self._answered: dict[int, tuple[Any, Any, Any]] = {}
        # Known from the start, at 0, so that rates see the first rows too.
        self._logged.labels(model)
        for reason in ("queue", "value", "write"):
            self._dropped.labels(model, reason)

    def calls(self, version: int) -> CallMetrics:
        """The figures of a version's calls, looked up once."""
        figures = (
            self._waited,
            self._computed,
            self._batch,
            self._predicted,
            self._sum,
        )
        return CallMetrics(
            *(figure.labels(self._model, str(version)) for figure in figures)
        )

    def seen(
        self, feature: str, rows: int, missing: int, unknown: int | None
    ) -> None:
        """Records a look at a feature; unknown: None without vocabulary."""
        labels = (self._model, feature)
        self._values.labels(*labels).inc(rows)
        self._missing.labels(*labels).inc(missing)
        if unknown is not None:
            self._unknown.labels(*labels).inc(unknown)

    def logged(self, rows: int) -> None:
        """Records rows in a file of the request log."""
        self._logged.labels(self._model).inc(rows)

    def log_dropped(self, reason: str, rows: int) -> None:
        """Records rows that the request log left out."""
        self._dropped.labels(self._model, reason).inc(rows)

    def watch(
        self, state: State, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Asks the server for its state at each scrape; requests pay none."""
        registry.register(_StateCollector(self._model, state))

    def answered(self, version: int, rows: int, seconds: float) -> None:
        """Records one request that was answered."""
        known = self._answered.get(version)
        if known is None:  # looking labels up costs more than counting
            labels = (self._model, str(version))
            known = self._answered[version] = (
                self._requests.labels(*labels, "200"),
                self._rows.labels(*labels),
                self._seconds.labels(*labels),
            )
        requests, scored, took = known
        requests.inc()
        scored.inc(rows)
        took.observe(seconds)

    def refused(self, version: int | str, code: int) -> None:
        """Records one request that got an error; "" before it has a version."""
        self._requests.labels(self._model, str(version), str(code)).inc()

    def serve(self, version: int) -> None:
        """Records which version is the current one."""
        self._served.labels(self._model).set(version)


class _StateCollector:
    """Gauges that are read when they are asked for."""

    def __init__(self, model: str, state: State) -> None:
        self._model, self._state = model, state

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        state = self._state
        age = GaugeMetricFamily(
            "lionctr_version_age_seconds",
            "Since the export of a loaded version.",
            labels=["model", "version"],
        )
        for version, created in state.created.items():
            age.add_metric([self._model, str(version)], time.time() - created)
        yield age
        for name, text, value in (
            ("versions_failed", "Versions that are skipped.", state.failed),
            ("queued_rows", "Rows that wait for the model.", state.queued),
            ("running_calls", "Calls of the model.", state.running),
            ("open_requests", "Requests without an answer yet.", state.open),
        ):
            gauge = GaugeMetricFamily(f"lionctr_{name}", text, labels=["model"])
            gauge.add_metric([self._model], value)
            yield gauge
