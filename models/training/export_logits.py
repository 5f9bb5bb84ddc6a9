"""Numbers that an export puts behind the network's logits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.config.calibration import Calibrate
from models.config.labels import output_of
from models.layers.calibration import Calibration
from models.preprocessing.id_space import value_of
from models.training.calibration import UnfitError, fit
from models.training.run import TrainingRun

log = logging.getLogger("lionctr.train")


@dataclass(frozen=True)
class Calibrated:
    """Calibration of each label; None of one whose rows fit none.

    report: for `training.json`; of several labels that of the first, and in
        `outputs` those of the others, by output.
    warnings: lines about those that fit none.
    """

    functions: tuple[Calibration | None, ...] = ()
    report: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

    def arrays(self) -> list[npt.NDArray[Any]]:
        """All numbers, for the identity of an export."""
        found: list[npt.NDArray[Any]] = []
        for number, function in enumerate(self.functions):
            if function is not None:
                place = [np.array(number)] if number else []
                found += [*place, *function.arrays()]
        return found


def calibrated(
    job: TrainingRun, model: Any, settings: Mapping[str, Any]
) -> Calibrated:
    """Fits `evaluate.calibrate` by the eval split, for each label.

    A label of the first is fitted on rows where that is 1, and none on rows
    where it is not known. The weights stay as they are: the next training
    goes on from these, and fits its own.
    """
    asked = Calibrate.model_validate(settings)
    names = [f.name for f in job.shape.single]
    column = None if asked.by is None else names.index(asked.by)
    functions: list[Calibration | None] = []
    reports: dict[str, dict[str, Any]] = {}
    warnings = []
    for number, rows in enumerate(job.held_out_rows(model, column)):
        name = output_of(job.labels, number)
        of = f" of {name}" if job.labels else ""
        report: dict[str, Any] = {"method": asked.method, "by": asked.by}
        try:
            function, found = fit(asked.method, rows, column)
        except UnfitError as error:
            functions.append(None)
            reports[name] = {**report, "why": str(error), "functions": []}
            warnings.append(f"no calibration{of}: {error}")
            continue
        functions.append(function)
        reports[name] = {**report, "why": None, "functions": found}
        _name(found, job, asked.by)
        _tell(asked, found, of)
    first, *others = reports
    whole = dict(reports[first])
    if job.labels:
        whole["outputs"] = {name: reports[name] for name in others}
    return Calibrated(tuple(functions), whole, warnings)


def _name(
    functions: Sequence[dict[str, Any]], job: TrainingRun, by: str | None
) -> None:
    """Calls each function by the value that it is for, instead of its id."""
    keys = job.meaning.keys[by] if by else None
    for function in functions:
        id = function.pop("id")
        function["name"] = (
            "all rows"
            if id is None or keys is None
            else value_of(keys, id, job.meaning.text)
        )


def _tell(
    asked: Calibrate, functions: Sequence[Mapping[str, Any]], of: str
) -> None:
    last = functions[-1]
    log.info(
        "calibration%s: %s of %s eval rows, %s positives; %s%s",
        of,
        asked.method,
        f"{last['rows']:,}",
        f"{last['positives']:,}",
        f"slope {last['slope']:.3f}, intercept {last['intercept']:+.3f}"
        if asked.method == "platt"
        else f"{last['knots']} knots",
        f"; functions for values of {asked.by}: {len(functions) - 1}"
        if asked.by
        else "",
        extra={"keep": True},
    )


def shallow(job: TrainingRun, model: Any) -> dict[str, Any]:
    """Tells the shallow features, and what stands for them when served.

    Returns:
        `features`, `served_shift` of the first label's logit and, of several
        labels, `outputs`: those of the others, by output.
    """
    names = [f.name for f in job.shape.shallow]
    shifts = job.served_shifts(model)
    of = {output_of(job.labels, n): shift for n, shift in enumerate(shifts)}
    for name, shift in of.items():
        log.info(
            "%s: not served; %+.4f stands for it in the logit%s, so that the"
            " eval rows' mean prediction stays",
            ", ".join(names),
            shift,
            f" of {name}" if job.labels else "",
            extra={"keep": True},
        )
    first, *others = of
    found: dict[str, Any] = {"features": names, "served_shift": of[first]}
    if job.labels:
        found["outputs"] = {name: of[name] for name in others}
    return found
