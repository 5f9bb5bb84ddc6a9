"""Prometheus metrics of requests."""

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

from serving.call_metrics import SECONDS, CallCollector, CallMetrics


class State(Protocol):
    """State of the server when it is asked.

    created: loaded version -> when it was exported, in seconds since 1970.
    failed: versions that are skipped. queued: rows that wait for the model.
    running: calls of the model. open: requests that are not answered yet.
    """

    @property
    def created(self) -> Mapping[int, float]: ...
    @property
    def failed(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def open(self) -> int: ...


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
            buckets=SECONDS,
            registry=registry,
        )
        # KServe's dashboards read it of every server.
        self._took = Histogram(
            "request_predict_seconds",
            "predict request latency",
            ["model_name"],
            registry=registry,
        ).labels(model)
        self._served = Gauge(
            "lionctr_served_version",
            "The version that answers where none is named; 0: none.",
            ["model"],
            registry=registry,
        )
        self._calls: dict[int, CallMetrics] = {}
        registry.register(CallCollector(model, self._calls))
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

        self._seen: dict[str, tuple[Any, Any]] = {}
        self._answered: dict[int, tuple[Any, Any, Any]] = {}
        # Known from the start, at 0, so that rates see the first rows too.
        self._logged.labels(model)
        for reason in ("queue", "value", "write"):
            self._dropped.labels(model, reason)

    def calls(self, version: int) -> CallMetrics:
        """The figures of a version's calls."""
        if version not in self._calls:
            self._calls[version] = CallMetrics()
        return self._calls[version]

    def seen(
        self, feature: str, rows: int, missing: int, unknown: int | None
    ) -> None:
        """Records a look at a feature; unknown: None without vocabulary."""
        known = self._seen.get(feature)
        if known is None:
            labels = (self._model, feature)
            known = self._seen[feature] = (
                self._values.labels(*labels),
                self._missing.labels(*labels),
            )
        known[0].inc(rows)
        known[1].inc(missing)
        if unknown is not None:
            self._unknown.labels(self._model, feature).inc(unknown)

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

    def took(self, seconds: float) -> None:
        """Records the time of one request, answered or not."""
        self._took.observe(seconds)

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
