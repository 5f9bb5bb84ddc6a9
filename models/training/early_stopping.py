"""Early stopping: the best weights so far, and whether to go on."""

from __future__ import annotations

import math
from typing import Any

from models.checkpointing.checkpoint import Checkpoints
from models.config.training import EarlyStopping as Rule
from models.losses.registry import Loss
from models.training.evaluation import Scores
from models.training.train_state import BestEvaluation
from models.variables import named_variables


def deciding(rule: Rule | None, loss: Loss) -> str:
    """The metric that decides which weights are best.

    A loss that is not calibrated moves the logloss away from its minimum.
    """
    if rule is not None and rule.metric != "auto":
        return rule.metric
    if loss.calibrated:
        return "logloss"
    return "gauc" if loss.grouped else "auc"


class EarlyStopper:
    """Judges each evaluation of `model`; without a rule it never stops.

    Args:
        rule: the config section, or None.
        metric: of the evaluation, that decides.
        best: where the best weights are kept.
        writes: whether this process does so.
    """

    def __init__(
        self,
        model: Any,
        rule: Rule | None,
        metric: str,
        best: Checkpoints,
        writes: bool,
    ) -> None:
        self._metric = metric
        self._model = model
        self._rule = rule
        self._best = best
        self._writes = writes
        self.best_evaluation = BestEvaluation()

    def judge(self, step: int, scores: Scores) -> None:
        """Takes note of what the weights of `step` are worth."""
        best_evaluation, rule = self.best_evaluation, self._rule
        value = getattr(scores, self._metric)
        if self._metric != "logloss":  # more is better
            value = -value
        if rule is None or value < best_evaluation.best - rule.min_delta:
            best_evaluation.best, best_evaluation.waited = value, 0
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
