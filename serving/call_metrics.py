"""Figures of the model's calls, added up in plain numbers: calls are hot."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class _Histogram:
    """As Prometheus's, without its locks; `CallMetrics` has one for all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def sample(self) -> tuple[list[tuple[str, float]], float]:
        """Bound -> values up to it, and the sum of all."""
        buckets, total = [], 0
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        for name, count in zip(names, self._counts, strict=True):
            total += count
            buckets.append((name, float(total)))
        return buckets, self._sum


class CallMetrics:
    """Figures of one version; its calls come from several threads."""

    def __init__(self) -> None:
        """All zero."""
        self._lock = threading.Lock()
        self.waited = _Histogram(SECONDS)
        self.computed = _Histogram(SECONDS)
        self.rows = _Histogram(SIZES)
        self.predicted: dict[str, tuple[int, float]] = {}

    def called(
        self,
        waits: Sequence[float],
        rows: int,
        seconds: float,
        predicted: Mapping[str, tuple[int, float]] | None = None,
    ) -> None:
        """Adds a call.

        Args:
            waits: seconds that each of its requests waited.
            rows: of all of them.
            seconds: of the call.
            predicted: output -> rows with its probability, and their sum.
        """
        with self._lock:
            for wait in waits:
                self.waited.add(wait)
            self.computed.add(seconds)
            self.rows.add(rows)
            for name, (count, total) in (predicted or {}).items():
                before, summed = self.predicted.get(name, (0, 0.0))
                self.predicted[name] = before + count, summed + total


class CallCollector:
    """Gives them to Prometheus when it asks."""

    def __init__(self, model: str, calls: Mapping[int, CallMetrics]) -> None:
        """Reads `calls`, version -> figures, at each scrape."""
        self._model, self._calls = model, calls

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        calls = dict(self._calls)
        labels = ["model", "version"]
        for name, text, figure in (
            (
                "wait_seconds",
                "That a request waited for a call of the model.",
                "waited",
            ),
            (
                "compute_seconds",
                "Of a call of the model, for all requests in it.",
                "computed",
            ),
            ("batch_rows", "Rows of a call of the model.", "rows"),
        ):
            family = HistogramMetricFamily(
                f"lionctr_{name}", text, labels=labels
            )
            for version, metrics in calls.items():
                buckets, total = getattr(metrics, figure).sample()
                family.add_metric([self._model, str(version)], buckets, total)
            yield family
        for place, (name, text) in enumerate(
            (
                ("predictions", "Rows with a probability."),
                (
                    "predictions_sum",
                    "Sum of the probabilities; over the rows: their mean.",
                ),
            )
        ):
            counter = CounterMetricFamily(
                f"lionctr_{name}", text, labels=[*labels, "output"]
            )
            for version, metrics in calls.items():
                for output, figures in dict(metrics.predicted).items():
                    counter.add_metric(
                        [self._model, str(version), output], figures[place]
                    )
            yield counter
