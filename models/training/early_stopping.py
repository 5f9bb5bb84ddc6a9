"""Early stopping: the best weights so far, and whether to go on."""

from __future__ import annotations

import math
from typing import Any

from models.checkpointing.checkpoint import Checkpoints, named_variables
from models.config.training import EarlyStopping as Rule
from models.training.evaluation import Scores
from models.training.train_state import Standing


class EarlyStopping:
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
        self.standing = Standing()

    def judge(self, step: int, scores: Scores) -> None:
        """Takes note of what the weights of `step` are worth."""
        standing, rule = self.standing, self._rule
        if rule is None or scores.logloss < standing.best - rule.min_delta:
            standing.best, standing.waited = scores.logloss, 0
            standing.logloss, standing.auc = scores[:2]
            if rule is not None and self._writes:
                self._best.save(step, named_variables(self._model), {})
            return
        standing.waited += 1
        standing.stop = standing.waited >= rule.patience

    def end(self) -> None:
        """Gives the model its best weights."""
        if self._rule and math.isfinite(self.standing.best):
            self._best.restore(named_variables(self._model))
