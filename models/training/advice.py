"""What a training's course says of its settings: warnings, with what to try."""

from __future__ import annotations

import math
from dataclasses import dataclass

FEW_STEPS = 200  # with fewer, hardly a weight leaves its first value


@dataclass
class Course:
    """How the eval logloss went.

    evaluations: their number. first, last, best: steps of these; of equal ones
    the earliest is best. logloss: at `best`. constant: logloss of the model
    that always says the eval rows' base rate.
    """

    evaluations: int = 0
    first: int = 0
    last: int = 0
    best: int = 0
    logloss: float = math.inf
    constant: float = math.nan

    def add(self, step: int, logloss: float, constant: float) -> None:
        """Takes note of an evaluation."""
        self.evaluations += 1
        self.first = self.first or step
        self.last, self.constant = step, constant
        if logloss < self.logloss:
            self.best, self.logloss = step, logloss


def warnings(steps: int, course: Course, stopped_early: bool) -> list[str]:
    """A line for each sign that the training could have gone better.

    Args:
        steps: updates made.
        course: of the evaluations.
        stopped_early: whether early stopping ended the training.
    """
    found = []
    if steps < FEW_STEPS:
        found.append(
            f"the training has {steps:,} steps, fewer than {FEW_STEPS}: give"
            " more train.epochs or a smaller train.batch_size"
        )
    if course.logloss >= course.constant:
        found.append(
            f"the eval logloss {course.logloss:.5f} is no better than"
            f" {course.constant:.5f} of the constant: the model has learned"
            " nothing that holds on eval rows"
        )
    if course.evaluations < 2:  # one is first and last
        return found
    if course.best == course.last and not stopped_early:
        found.append(
            f"the eval logloss is best at the last step, {course.best:,}: give"
            " more train.epochs"
        )
    elif course.best == course.first:
        found.append(
            f"the eval logloss is best at the first of {course.evaluations}"
            f" evaluations, step {course.best:,}: the learning rate is too"
            " high, or the model learns the rows by heart; lower"
            " optimizer.learning_rate"
        )
    return found
