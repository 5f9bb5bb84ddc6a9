"""The section on the outputs of a model of several labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.report import sections
from pipeline.report.elements import Section
from pipeline.report.gather import RunData


def outputs(run: RunData) -> Iterator[Section]:
    """Sections of each output after the first: metrics, curves, slices."""
    for name, part in (run.evaluation.get("outputs") or {}).items():
        alone = dataclasses.replace(run, evaluation=part)
        for make in (sections.metrics, sections.curves, sections.slices):
            found = make(alone)
            if not found:
                continue
            notes = found.notes
            if make is sections.metrics:
                notes = [_about(name, part), *notes]
            yield dataclasses.replace(
                found,
                key=f"{name}-{found.key}",
                title=f"{name}: {found.title.lower()}",
                notes=notes,
            )


def _about(name: str, part: Mapping[str, Any]) -> str:
    label = part["label"]
    return (
        f"{name} is of the label {label}. Rows where that does not count, or is"
        " not known, are left out."
    )
