"""Warnings of a training, from its course, with what to try."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optimizers.config.messages import counted

FEW_STEPS = 200  # with fewer, hardly a weight leaves its first value
# Share, of all that a training gained on the constant, that its last one must
# bring to ask for more: a rate that falls to 0 makes the last one the best.
_STILL_GAINS = 0.02


@dataclass
class Course:
    """How the eval logloss went.

    evaluations: their number. first, last, best: steps of these; of equal ones
    the earliest is best. logloss: at `best`. constant: logloss of the model
    that always says the eval rows' base rate. gain: by which the last
    evaluation is better than all before it.
    """

    evaluations: int = 0
    first: int = 0
    last: int = 0
    best: int = 0
    logloss: float = math.inf
    constant: float = math.nan
    gain: float = 0.0

    def add(self, step: int, logloss: float, constant: float) -> None:
        """Takes note of an evaluation."""
        self.evaluations += 1
        if self.evaluations == 1:
            self.first = step
        self.last, self.constant = step, constant
        self.gain = max(0.0, self.logloss - logloss)
        if logloss < self.logloss:
            self.best, self.logloss = step, logloss


def warnings(
    steps: int, course: Course, stopped_early: bool, calibrated: bool = True
) -> list[str]:
    """A line for each sign that the training could have gone better.

    Args:
        steps: updates made.
        course: of the evaluations.
        stopped_early: whether early stopping ended the training.
        calibrated: whether the loss is; else logloss tells nothing.
    """
    found = []
    if steps < FEW_STEPS:
        found.append(
            f"the training has {counted(steps, 'step')}, fewer than"
            f" {FEW_STEPS}: give"
            " more train.epochs or a smaller train.batch_size"
        )
    if not calibrated:
        return found
    if course.logloss >= course.constant > 0:  # 0: rows of one class
        found.append(
            f"the eval logloss {course.logloss:.5f} is no better than"
            f" {course.constant:.5f} of the constant: the model has learned"
            " nothing that holds on eval rows"
        )
    if course.evaluations < 2:  # one is first and last
        return found
    if not course.best:  # of a linear start
        found.append(
            f"none of {course.evaluations - 1} evaluations is better than the"
            " linear start: the network has found nothing beyond effects of"
            " single ids and numbers that holds on eval rows"
        )
    elif course.best == course.last:
        whole = max(0.0, course.constant - course.logloss)
        if stopped_early or course.gain < _STILL_GAINS * whole:
            return found
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
