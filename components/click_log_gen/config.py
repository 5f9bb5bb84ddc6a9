"""Config section of the ingest: where the logs are and what a row means."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from models.config import Name, Negatives, Section

PLACEHOLDERS = ("{DATE}", "{YYYY}", "{MM}", "{DD}", "{SPAN}", "{VERSION}")
Format = Literal["csv", "tsv", "jsonl", "parquet", "tfrecord"]


class LogFiles(Section):
    """A log: one file, a glob, or a list of them, on any Beam filesystem.

    A list is read in its order, what a glob matches in the order of names.
    gzip is told by the file's first bytes.

    csv and tsv: a line is a row, an empty line is none. Either `columns` names
    the columns, or `header: true` reads the names from each file; with both,
    the header is skipped and `columns` counts.
    """

    path: tuple[str, ...]
    format: Format
    columns: tuple[Name, ...] | None = None
    header: bool = False
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    null_values: tuple[str, ...] = ("",)

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_byte(cls, value: str | None) -> str | None:
        if value is not None and (not value.isascii() or value in "\r\n"):
            raise ValueError(
                f"received {value!r}; accepted: one ASCII character, not a"
                " line end"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> LogFiles:
        if not self.path or not all(self.path):
            raise ValueError("`path` is empty; give a file or a glob")
        text = self.format in ("csv", "tsv")
        if text and not self.header and self.columns is None:
            raise ValueError(
                f"a {self.format} log needs `columns: [...]` or `header: true`"
            )
        if self.columns is not None:
            for name in self.columns:
                if self.columns.count(name) > 1:
                    raise ValueError(f"column {name!r} is named twice")
        if self.separator == self.quoting:
            raise ValueError(
                f"`delimiter` and `quote` are both {self.separator!r}"
            )
        if not text:
            for field in ("columns", "header", "delimiter", "quote"):
                if getattr(self, field):
                    raise ValueError(
                        f"`{field}` is for csv and tsv;"
                        f" received `format: {self.format}`"
                    )
        return self

    @property
    def separator(self) -> str:
        """The column delimiter of a csv or tsv log."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def quoting(self) -> str | None:
        """The quote character; tsv has none unless the config names one."""
        return self.quote or ('"' if self.format == "csv" else None)


class ClickFiles(LogFiles):
    """A separate click log, joined by key within a window (not yet)."""

    key: Name = "impression_id"
    time: Name | None = None
    window: str = "30m"


class Spans(Section):
    """Which days, or numbered spans, of the logs a run reads.

    For paths with {DATE} (2026-11-22), with {YYYY}, {MM} and {DD}, or with
    {SPAN} (a number). `last` is a sliding window: so many days up to `until`,
    which without a value is the newest there is. A day without files stops the
    run unless `skip_missing`. Where paths have {VERSION} too, the highest one
    of each day counts.
    """

    last: Annotated[int, Field(ge=1)] | None = None
    since: date | int | None = None
    until: date | int | None = None
    skip_missing: bool = False

    @model_validator(mode="after")
    def _check(self) -> Spans:
        if (self.last is None) == (self.since is None):
            raise ValueError(
                "give either `last: 7` (days up to `until`) or `since`"
            )
        bounds = [b for b in (self.since, self.until) if b is not None]
        if len({isinstance(bound, int) for bound in bounds}) > 1:
            raise ValueError(
                f"since {self.since} and until {self.until}: accepted: both"
                " dates or both numbers"
            )
        if len(bounds) == 2 and bounds[0] > bounds[1]:  # type: ignore[operator]
            raise ValueError(f"since {self.since} is after until {self.until}")
        return self


class LabelRule(Section):
    """A label computed from a column: exactly one comparison.

    `equals` compares numbers if it is one (4 and 4.0 are equal), else text.
    """

    column: Name
    at_least: float | None = None
    at_most: float | None = None
    equals: str | int | float | None = None

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
        given = [
            rule
            for rule in ("at_least", "at_most", "equals")
            if getattr(self, rule) is not None
        ]
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


class Split(Section):
    """How rows are divided into train and eval.

    time: the latest `eval` share goes to eval, rows of one time together.
    order: the last rows in the order of `path`. hash: by `key`'s value, so
    that all rows of a user stay together; without a key by the whole example.
    """

    by: Literal["time", "hash", "order"] = "hash"
    eval: Annotated[float, Field(gt=0, lt=1)] = 0.1
    key: Name | None = None

    @model_validator(mode="after")
    def _key_is_for_hash(self) -> Split:
        if self.key is not None and self.by != "hash":
            raise ValueError(
                f"`key` is for `by: hash`; received `by: {self.by}`"
            )
        return self


class DataConfig(Section):
    """The raw logs and how a row becomes a labelled example."""

    impressions: LogFiles
    clicks: ClickFiles | None = None
    label: Label
    time: Name | None = None
    split: Split = Split()
    negatives: Negatives = Negatives()
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.01
    curated_schema: str | None = None
    spans: Spans | None = None

    @field_validator("clicks")
    @classmethod
    def _no_join_yet(cls, value: ClickFiles | None) -> ClickFiles | None:
        if value is not None:
            raise ValueError(
                "joining a click log is not available yet; give impressions"
                " with a label column and set `clicks: null`"
            )
        return value

    @field_validator("negatives")
    @classmethod
    def _no_sampling_yet(cls, value: Negatives) -> Negatives:
        if value.keep != 1.0:
            raise ValueError(
                "sampling negatives is not available yet; accepted: `keep: 1.0`"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.split.by == "time" and self.time is None:
            raise ValueError(
                "`split.by: time` needs `time`, the column of event time"
            )
        for log, files in (
            ("impressions", self.impressions),
            ("clicks", self.clicks),
        ):
            if files is not None:
                _check_spans(f"{log}.path", files.path, self.spans)
        columns = self.impressions.columns
        if columns is not None:
            wanted = {
                "label": self.label_column,
                "time": self.time,
                "split.key": self.split.key,
            }
            for field, name in wanted.items():
                if name is not None and name not in columns:
                    raise ValueError(
                        f"`{field}` is column {name!r}, which is not among"
                        f" `impressions.columns`: {', '.join(columns)}"
                    )
        return self

    @property
    def label_column(self) -> str:
        """The raw column that the label is read or computed from."""
        if isinstance(self.label, LabelRule):
            return self.label.column
        return self.label


def _check_spans(
    field: str, paths: tuple[str, ...], spans: Spans | None
) -> None:
    """All paths say where the day stands, or none."""
    for path in paths:
        daily = (
            "{DATE}" in path
            or "{SPAN}" in path
            or all(part in path for part in ("{YYYY}", "{MM}", "{DD}"))
        )
        if spans is not None and not daily:
            raise ValueError(
                f"`spans` needs {{DATE}} (2026-11-22), {{YYYY}} {{MM}} {{DD}},"
                f" or {{SPAN}} (a number) in `{field}`; received {path!r}"
            )
        if spans is None and any(part in path for part in PLACEHOLDERS):
            raise ValueError(
                f"`{field}` has a placeholder; `spans` says which days are"
                f" meant, such as `spans: {{last: 7}}`. Received: {path!r}"
            )
        if spans is not None:
            kind = int if "{SPAN}" in path else date
            for name in ("since", "until"):
                bound = getattr(spans, name)
                if bound is not None and not isinstance(bound, kind):
                    accepted = "a number" if kind is int else "a date"
                    raise ValueError(
                        f"`spans.{name}` is {bound!r}; accepted: {accepted},"
                        f" for `{field}` is {path!r}"
                    )
