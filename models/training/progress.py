"""Progress of a training: lines now and then, and TensorBoard's scalars."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import tensorflow as tf

log = logging.getLogger("lionctr.train")
_LINE_SECONDS = 2.0


class Progress:
    """Lines and scalars of a training of `total` steps.

    Args:
        total: steps.
        log_dir: where the scalars go; None: nowhere.
    """

    def __init__(self, total: int, log_dir: str | None) -> None:
        self._total = total
        self._shown = time.perf_counter()
        # Time and step after the first stretch, in which graphs are traced.
        self._begin: tuple[float, int] | None = None
        self._rows, self._seconds = 0, 0.0  # since the last line
        self._writer = (
            tf.summary.create_file_writer(log_dir)
            if log_dir
            else tf.summary.create_noop_writer()
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Scalars written in here are on disk afterwards."""
        with self._writer.as_default():
            yield
        self._writer.close()

    def stretch(
        self,
        step: int,
        rows: int,
        seconds: float,
        loss: float,
        rates: Mapping[str, float],
    ) -> None:
        """After some steps: scalars, and a line if the last is old enough."""
        self._rows += rows
        self._seconds += seconds
        scalars = {
            "train/loss": loss,
            "train/examples_per_second": rows / seconds,
            **{f"learning_rate/{group}": v for group, v in rates.items()},
        }
        self.scalars(step, scalars)
        now = time.perf_counter()
        self._begin = self._begin or (now, step)
        if now - self._shown < _LINE_SECONDS and step < self._total:
            return
        rate = self._rows / self._seconds
        self._rows, self._seconds = 0, 0.0
        self._shown = now
        log.info(
            "step %d/%d  %s examples/s  loss %.4f  rate %s%s",
            step,
            self._total,
            f"{rate:,.0f}",
            loss,
            " ".join(f"{value:.2g}" for value in rates.values()),
            self._left(now, step),
        )

    def _left(self, now: float, step: int) -> str:
        """How long the rest takes; nothing before there is a pace."""
        assert self._begin is not None
        began, first = self._begin
        if step == first:
            return ""
        left = (now - began) * (self._total - step) / (step - first)
        shown = f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"
        return f"  {shown} left"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars."""
        for name, value in values.items():
            tf.summary.scalar(name, value, step)
