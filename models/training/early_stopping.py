"""Early stopping: the best weights so far, and whether to go on."""

from __future__ import annotations

import math
from typing import Any

from models.checkpointing.checkpoint import Checkpoints
from models.config.training import EarlyStopping as Rule
from models.training.evaluation import Scores
from models.training.train_state import BestEvaluation
from models.variables import named_variables


class EarlyStopper:
    """Judges each evaluation of `model`; without a rule it never stops.

    Args:
        rule: the config section, or None.
        best: where the best weights are kept.
        writes: whether this process does so.
    """

    def __init__(
        self, model: Any, rule: Rule | None, best: Checkpoints, writes: bool
    ) -> None:
        self._model = model
        self._rule = rule
        self._best = best
        self._writes = writes
        self.best_evaluation = BestEvaluation()

    def judge(self, step: int, scores: Scores) -> None:
        """Takes note of what the weights of `step` are worth."""
        best_evaluation, rule = self.best_evaluation, self._rule
        if (
            rule is None
            or scores.logloss < best_evaluation.best - rule.min_delta
        ):
            best_evaluation.best, best_evaluation.waited = scores.logloss, 0
            best_evaluation.logloss, best_evaluation.auc = scores[:2]
            if rule is not None and self._writes:
                self._best.save(step, named_variables(self._model), {})
            return
        best_evaluation.waited += 1
        best_evaluation.stop = best_evaluation.waited >= rule.patience

    def end(self) -> None:
        """Gives the model its best weights."""
        if self._rule and math.isfinite(self.best_evaluation.best):
            self._best.restore(named_variables(self._model))
