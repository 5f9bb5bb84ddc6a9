"""Labels of a model: which there are, and what their outputs are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CTR, CVR, CTCVR = "ctr", "cvr", "ctcvr"
FURTHER = "example_label_"  # begins the names of labels after the first
UNKNOWN = -1  # such a label of a row that is not known, or not yet


@dataclass(frozen=True)
class Label:
    """One label.

    of: the label that a row needs for this one to count; None: none.
    weight: of its loss.
    """

    name: str
    of: str | None = None
    weight: float = 1.0

    @property
    def column(self) -> str:
        """Its feature in the examples, where it is not the first label."""
        return FURTHER + self.name


@dataclass(frozen=True)
class Output:
    """One probability that a model answers.

    label: number of its label.
    joint: of both, the label and the one that it is of.
    of: True if only rows with the first label count.
    """

    name: str
    label: int
    joint: bool = False
    of: bool = False


def labels_of(custom: Mapping[str, Any]) -> tuple[Label, ...]:
    """Labels of a training's settings; () where there is one alone."""
    return tuple(Label(**one) for one in custom.get("labels") or ())


def further_columns(labels: Sequence[Label]) -> list[str]:
    """Columns of the labels after the first, in examples."""
    return [label.column for label in labels[1:]]


def output_of(labels: Sequence[Label], number: int) -> str:
    """The output of a label alone: `ctr` of the first."""
    if not labels:
        return CTR
    (name,) = (
        one.name
        for one in outputs(labels)
        if one.label == number and not one.joint
    )
    return name


def outputs(labels: Sequence[Label]) -> tuple[Output, ...]:
    """Outputs of a model with these labels, the first label first.

    The first is `ctr`. The one label of the first is `cvr`, and both together
    `ctcvr`; where several are, their names follow: `cvr_buy`, `ctcvr_buy`. A
    label on its own is `p_like`.
    """
    found = [Output(CTR, 0)]
    several = sum(label.of is not None for label in labels) > 1
    for number, label in enumerate(labels[1:], 1):
        if label.of is None:
            found.append(Output(f"p_{label.name}", number))
            continue
        tail = f"_{label.name}" if several else ""
        found.append(Output(CVR + tail, number, of=True))
        found.append(Output(CTCVR + tail, number, joint=True))
    return tuple(found)
