"""Lines of a comparison that are done, and the time that the others take."""

from __future__ import annotations

from pipeline.console import Console


class Progress:
    """Says after each line how many are left.

    Args:
        lines: of the comparison, without the logistic regression.
        console: gets a line at the start, and after each of them.
    """

    def __init__(self, lines: int, console: Console) -> None:
        self._lines, self._console = lines, console
        self._seconds: list[float] = []
        console.line(f"  {lines} lines to come, each with a search")

    def ended(self, label: str, trainings: int, seconds: float) -> None:
        """Says that a line is done.

        Args:
            label: of the line.
            trainings: how many it took.
            seconds: of these trainings, those done before included.
        """
        self._seconds.append(seconds)
        done = len(self._seconds)
        text = (
            f"  line {done} of {self._lines}, {label}: {trainings} trainings in"
            f" {shown(seconds)}"
        )
        if done < self._lines:
            each = sum(self._seconds) / done
            text += f"; about {shown(each * (self._lines - done))} left"
        self._console.line(text)


def shown(seconds: float) -> str:
    """A duration for a person: `40 s`, `12 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
