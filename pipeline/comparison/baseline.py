"""The first line of a comparison: logistic regression, fitted exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from models.config.labels import further_columns, output_of
from models.input_pipeline.dataset import Batches
from models.training import logistic_regression
from models.training.label_losses import probabilities
from models.training.run import TrainingRun
from pipeline.comparison.candidates import LOGISTIC
from pipeline.comparison.report import rates
from pipeline.comparison.trainings import Data

_BATCH = 1 << 14  # rows


def record(sections: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """Measures it on test rows; the record is as a training's.

    The log loss alone counts, whatever `train.loss` is. There is no chance in
    it: one fit stands for all seeds.

    Args:
        sections: see `TrainingRun`; of the model only the features count.
        data: what it is fitted to.
    """
    names = ("features", "negatives", "labels")
    made_from = {
        "baseline": LOGISTIC,
        **{name: sections.get(name) for name in names},
        **data.made_from,
    }
    found = data.finished.get(made_from)
    known = found is not None
    if found is None:
        with data.console.running(LOGISTIC):
            found = _fitted(sections, data)
        data.finished.put(made_from, found)
    took = "done before" if known else f"{found['seconds']:.1f} s"
    result = f"failed: {found['failed']}" if "failed" in found else "exact"
    data.console.line(
        f"  {LOGISTIC}: {rates(found['optimizer'])}; {result}  {took}"
    )
    return found


def _fitted(sections: Mapping[str, Any], data: Data) -> dict[str, Any]:
    began = time.monotonic()
    found: dict[str, Any] = {"optimizer": {"penalty": {}}, "slot_bytes": 0}
    try:
        job = TrainingRun(sections, data.files)
        further = further_columns(job.labels)
        train, held_out, test = (
            Batches(files, data.files.transform, _BATCH, labels=further)
            for files in (data.files.train, data.files.eval, data.test)
        )
        fit = logistic_regression.fit(
            job.shape,
            job.meaning.keys,
            job.labels,
            train,
            held_out,
            job.negatives,
            job.rows,
        )
        took = time.monotonic() - began
        logits = fit.logits(test)
        if not job.labels:
            logits = logits[:, 0]
        names = [output_of(job.labels, n) for n in range(len(fit.penalties))]
        found |= {
            "optimizer": {
                "penalty": dict(zip(names, fit.penalties, strict=True))
            },
            "rows": fit.rows,
            "outputs": data.measured(probabilities(job.labels, logits)),
            "curve": [],
            "train_seconds": round(took, 3),
        }
    except (FloatingPointError, ValueError) as error:
        found["failed"] = str(error)
    return found | {"seconds": round(time.monotonic() - began, 3)}
