"""Prometheus metrics of requests, beside KServe's own."""

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


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

    def answered(self, version: int, rows: int, seconds: float) -> None:
        """Records one request that was answered."""
        labels = (self._model, str(version))
        self._requests.labels(*labels, "200").inc()
        self._rows.labels(*labels).inc(rows)
        self._seconds.labels(*labels).observe(seconds)

    def refused(self, version: int, code: int) -> None:
        """Records one request that got an error."""
        self._requests.labels(self._model, str(version), str(code)).inc()

    def serve(self, version: int) -> None:
        """Records which version is the current one."""
        self._served.labels(self._model).set(version)
