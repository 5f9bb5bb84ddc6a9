"""Config sections of the labels: a rule over a column, or several labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from components.click_log_gen.config.event_logs import EventKey
from models.config.section import FieldError, Name, Section

CLICKS = "clicks"  # as `from` of the first label: a click of the log
_RULES = ("at_least", "at_most", "equals")


class LabelRule(Section):
    """A label computed from a column: exactly one comparison."""

    column: Name
    """Column to compare."""
    at_least: float | None = None
    """Label 1 from this number up."""
    at_most: float | None = None
    """Label 1 up to this number."""
    equals: str | int | float | None = None
    """Label 1 at this value.

    A number is compared as a number (4 equals 4.0), else as text.
    """

    @field_validator("equals", mode="before")
    @classmethod
    def _not_a_boolean(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(
                f"received {value}; accepted: a number or a text, such as"
                f' "{str(value).lower()}" in quotes. A column that is true for'
                " clicks needs no rule: `label: <column>`"
            )
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> LabelRule:
        given = [rule for rule in _RULES if getattr(self, rule) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of `at_least`, `at_most`, `equals`;"
                f" received {given or 'none'}"
            )
        return self


def _label_form(value: Any) -> str:
    return "rule" if isinstance(value, dict | LabelRule) else "column"


Label = Annotated[
    Annotated[Name, Tag("column")] | Annotated[LabelRule, Tag("rule")],
    Discriminator(_label_form),
]


class LabelTask(EventKey):
    """One of several labels that a model learns together.

    A row without a value of a label after the first does not count for it: the
    label is not known yet.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    column: Name | None = None
    """Column of the label: 0 or 1, or compared by a rule."""
    from_: Name | None = Field(None, alias="from")
    """In place of a column, log of `data.events`: the label is whether one of
    its events came after the row. `clicks`, of the first label: those of
    `data.clicks`."""
    key: tuple[Name, ...] = ()
    """With `from`, columns of the event that name its row, compared as text."""
    impression_key: tuple[Name, ...] | None = None
    """With `from`, columns of the key in the impressions; null: the same
    names."""
    window: str | None = None
    """With `from`, longest time from a row to its event: 30m, 24h, 7d. Of a row
    whose window ends after the log the label is not known."""
    at_least: float | None = None
    """Label 1 from this number up."""
    at_most: float | None = None
    """Label 1 up to this number."""
    equals: str | int | float | None = None
    """Label 1 at this value."""
    of: Name | None = None
    """Label that a row needs for this one to count, such as click; null:
    none."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the loss."""

    @model_validator(mode="before")
    @classmethod
    def _by_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_column_or_events(self) -> LabelTask:
        if (self.column is None) == (self.from_ is None):
            raise ValueError(
                "give either `column` or `from`; received"
                f" {'neither' if self.column is None else 'both'}"
            )
        of_events = ("key", "impression_key", "window")
        if self.from_ is None:
            for name in of_events:
                if getattr(self, name):
                    raise FieldError(
                        name,
                        f"received {getattr(self, name)!r} without `from`;"
                        " accepted with a log of data.events",
                    )
            return self
        if self.from_ == CLICKS:
            return self
        for name in _RULES:
            if getattr(self, name) is not None:
                raise FieldError(
                    name,
                    f"received {getattr(self, name)!r} with `from`; accepted:"
                    " null. An event is the label",
                )
        if not self.key or self.window is None:
            raise ValueError(
                f"`from: {self.from_}` needs `key`, such as impression_id, and"
                " `window`, such as 24h"
            )
        self.check_key()
        return self

    @model_validator(mode="after")
    def _check(self) -> LabelTask:
        if self.column is not None and any(
            getattr(self, rule) is not None for rule in _RULES
        ):
            _ = self.rule
        return self

    @property
    def rule(self) -> str | LabelRule:
        """As `data.label` has it: the column, or a rule over it."""
        assert self.column is not None
        rule = {name: getattr(self, name) for name in _RULES}
        if all(value is None for value in rule.values()):
            return self.column
        return LabelRule(column=self.column, **rule)


LabelTasks = dict[
    Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)],
    LabelTask,
]


def check_labels(tasks: Mapping[str, LabelTask]) -> None:
    """Refuses labels that no model learns together.

    Raises:
        FieldError: one that is of another than the first, or a single one.
    """
    if len(tasks) < 2:
        raise FieldError(
            "labels",
            f"received {', '.join(tasks) or 'none'}; accepted: two labels or"
            " more. One alone is `label`",
        )
    first, *others = tasks
    if tasks[first].from_ not in (None, CLICKS):
        raise FieldError(
            f"labels.{first}.from",
            f"received {tasks[first].from_!r} for the first label; accepted: a"
            f" `column`, or {CLICKS}",
        )
    if tasks[first].of is not None:
        raise FieldError(
            f"labels.{first}.of",
            f"received {tasks[first].of!r} for the first label; accepted: null",
        )
    for name in others:
        if tasks[name].of not in (None, first):
            raise FieldError(
                f"labels.{name}.of",
                f"received {tasks[name].of!r}; accepted: {first!r}, the first"
                " label, or null",
            )
