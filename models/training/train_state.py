"""Where a training is, and what of it goes into its checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from models.checkpointing.checkpoint import Checkpoints
from models.training.advice import Course
from models.training.distribution import Team

log = logging.getLogger("lionctr.train")


@dataclass
class BestEvaluation:
    """How the evaluations went so far.

    best: eval logloss, or -1 times another metric that decides. waited:
    evaluations since. logloss, auc: with early stopping those of the best
    weights, else the newest.
    """

    best: float = math.inf
    waited: int = 0
    stop: bool = False
    logloss: float = math.nan
    auc: float = math.nan


@dataclass
class TrainState:
    """Steps made, their rows and seconds, and how good the model is."""

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    best_evaluation: BestEvaluation = field(default_factory=BestEvaluation)
    course: Course = field(default_factory=Course)

    def flat(self) -> dict[str, Any]:
        """JSON types; the best evaluation on the level of the rest."""
        found = asdict(self)
        return found | found.pop("best_evaluation")


def resume(
    checkpoints: Checkpoints, variables: Mapping[str, Any], team: Team
) -> TrainState:
    """Reads the newest checkpoint into `variables`; without one, step 0.

    Raises:
        OSError: the processes of `team` find different ones.
    """
    found = checkpoints.restore(variables)
    state = TrainState()
    if found:
        names = {one.name for one in fields(BestEvaluation)}
        best_evaluation = {name: found.pop(name) for name in names}
        state = TrainState(
            **{**found, "course": Course(**found["course"])},
            best_evaluation=BestEvaluation(**best_evaluation),
        )
    steps = team.gather_from_processes(state.step)
    if steps.min() < steps.max():
        raise OSError(
            "The processes of this training do not read the same"
            f" checkpoints in {checkpoints.folder}: they would go"
            f" on from steps {sorted({int(step) for step in steps[:, 0]})}"
        )
    if found:
        log.info("going on from the checkpoint of step %d", state.step)
    return state
