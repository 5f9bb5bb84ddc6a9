"""TFX Tuner's tuner_fn: the best settings, by trainings on the train split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras_tuner
import tensorflow_transform as tft
from keras_tuner import errors
from keras_tuner.engine import base_tuner
from keras_tuner.oracles import BayesianOptimizationOracle, RandomSearchOracle
from tfx.components.tuner.component import TunerFnResult

from models.config.metric_registry import better
from models.config.search_space import Tune, applied, decoded
from models.errors import InputError
from models.training.run import Files, TrainingRun
from models.tuning.trial import IN_EVERY_RECORD, attempt, named, objective
from models.tuning.trial_store import FinishedTrainings, fingerprint

log = logging.getLogger("lionctr.tune")
SECTIONS = ("features", "model", "optimizer", "train", "negatives")
_ORACLES = {
    "random": RandomSearchOracle,
    "bayesian": BayesianOptimizationOracle,
}
_DIRECTIONS = {"lower": "min", "higher": "max"}


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """A search as `fn_args.custom_config` says.

    That holds the sections of a `TrainingRun`, `tune`, `code_version`, and two
    folders that outlive the component: `trials`, what has ended there is not
    done again, and `checkpoints`. The search itself restarts, as its
    choices follow from its seed and the results so far.
    """
    custom = fn_args.custom_config
    files = Files(
        tft.TFTransformOutput(fn_args.transform_graph_path),
        fn_args.train_files,
        fn_args.eval_files,
    )
    sections = {name: custom[name] for name in SECTIONS}
    if custom.get("labels"):
        sections["labels"] = custom["labels"]
    # Other code would train otherwise.
    sections["code_version"] = custom.get("code_version", "")
    TrainingRun(sections, files)  # raises if there is nothing to learn
    tuner = Search(
        Tune.model_validate(custom["tune"]),
        sections,
        files,
        FinishedTrainings(custom.get("trials")),
        custom.get("checkpoints"),
        fn_args.working_dir,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class Search(base_tuner.BaseTuner):
    """Trains once a trial, on one device, in this process."""

    def __init__(
        self,
        tune: Tune,
        sections: Mapping[str, Any],
        files: Files,
        trainings: FinishedTrainings,
        checkpoints: str | None,
        folder: str,
    ) -> None:
        self._tune = tune
        self._objective = named(tune.objective, tune.output)
        self._direction = _DIRECTIONS[better(tune.objective)]
        self._sections = sections
        self._files = files
        self._finished_trials = trainings
        self._checkpoints = checkpoints
        self._data = fingerprint(files)
        self._best: tuple[float, str] | None = None
        self._failed = ""
        super().__init__(
            _ORACLES[tune.algorithm](
                objective=keras_tuner.Objective(
                    self._objective, self._direction
                ),
                max_trials=tune.trials,
                hyperparameters=tune.hyperparameters(),
                seed=tune.seed,
                # A trial that fails is an answer, not the end.
                max_consecutive_failed_trials=tune.trials + 1,
            ),
            directory=folder,
            project_name="search",
            overwrite=True,
        )

    def run_trial(
        self, trial: Any, *fit_args: Any, **fit_kwargs: Any
    ) -> dict[str, float]:
        """Trains with a trial's values, unless that was done before."""
        values = decoded(trial.hyperparameters.values)
        sections = applied(self._sections, values)
        made_from = {**sections, "data": self._data}
        name = self._objective
        if name not in IN_EVERY_RECORD:
            made_from["objective"] = name
        record = self._finished_trials.get(made_from)
        known = record is not None
        if record is None:
            try:
                record = attempt(
                    sections,
                    self._files,
                    describe=partial(
                        objective, self._tune.objective, self._tune.output
                    ),
                    checkpoints=self._checkpoints,
                )
            except Exception as error:
                # KerasTuner would go on after any other error too.
                raise errors.FatalError(
                    f"{type(error).__name__}: {error}"
                ) from error
            self._finished_trials.put(made_from, record)
        self._report(trial.trial_id, values, record, known)
        if "failed" in record:
            self._failed = record["failed"]
            raise errors.FailedTrialError(record["failed"])
        return {name: record[name]}

    def on_search_end(self) -> None:
        """Stops if there is no best trial."""
        if self._best is None:
            raise InputError(
                f"tune: all {len(self.oracle.trials)} trials failed. The last"
                f" one: {self._failed}"
            )

    def _report(
        self,
        trial: str,
        values: Mapping[str, Any],
        record: Mapping[str, Any],
        known: bool,
    ) -> None:
        name = self._objective
        if "failed" in record:
            result = f"failed: {record['failed']}"
        else:
            score = record[name]
            better = self._best is None or (
                score < self._best[0]
                if self._direction == "min"
                else score > self._best[0]
            )
            if better:
                self._best = score, trial
            assert self._best is not None
            result = (
                f"{name} {score:.5f}, best"
                f" {self._best[0]:.5f} in trial {int(self._best[1]) + 1}"
            )
        log.info(
            "trial %d/%d: %s; %s%s",
            int(trial) + 1,
            self._tune.trials,
            ", ".join(f"{k} {_short(v)}" for k, v in values.items()),
            result,
            " (done before)" if known else f"; {record['seconds']:.1f} s",
            extra={"keep": True},
        )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
