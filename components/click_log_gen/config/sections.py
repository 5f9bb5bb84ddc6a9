"""Config section of the ingest: where the logs are and what a row means."""

from __future__ import annotations

import contextlib
import datetime
import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from components.click_log_gen.config import duration
from components.click_log_gen.config.event_logs import ClickFiles, EventFiles
from components.click_log_gen.config.labels import (
    Label,
    LabelRule,
    LabelTask,
    LabelTasks,
    check_labels,
)
from components.click_log_gen.config.log_files import (
    PLACEHOLDERS,
    LogFiles,
)
from components.click_log_gen.config.weight import Weight
from components.data_checks import Action, DriftConfig
from models.config.event_time import (
    FIRST_YEAR,
    TimeColumn,
    last_year,
)
from models.config.labels import Label as TrainedLabel
from models.config.section import FieldError, PathText
from models.config.training import (
    Name,
    Negatives,
    Section,
)

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Spans(Section):
    """The days, or numbered spans, of the logs that a run reads.

    Paths hold {DATE} (2026-11-22), or {YYYY}, {MM} and {DD}, or {SPAN} (a
    number). Where paths hold {VERSION} too, the highest one of each day counts.
    """

    last: Annotated[int, Field(ge=1)] | None = None
    """Length of a sliding window: as many days, up to `until`."""
    since: date | int | None = None
    """First day, or first span."""
    until: date | int | None = None
    """Last day, or last span; null: the newest there is."""
    skip_missing: bool = False
    """Go on where a day has no files; else the run stops."""

    @field_validator("since", "until", mode="before")
    @classmethod
    def _one_meaning(cls, value: Any) -> Any:
        """Not pydantic's: "1705276800" would be a day of 2024."""
        if isinstance(value, str) and _DAY.fullmatch(value):
            with contextlib.suppress(ValueError):
                return date.fromisoformat(value)
        plain = type(value) in (int, date, type(None))
        if not plain:
            raise ValueError(
                f"received {value!r}; accepted: a date, such as 2024-01-31, or"
                " a number"
            )
        return value

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


class Split(Section):
    """How rows are divided into train, eval and, if `test` > 0, test."""

    by: Literal["time", "hash", "order"] = "hash"
    """`time`: the latest rows go to test, those before to eval, rows of one
    time together. `order`: the same by the order of `path`. `hash`: by the hash
    of `key`."""
    eval: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the eval split."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the test split."""
    key: tuple[Name, ...] = ()
    """Columns of the hash, so that all rows of a user stay together; without a
    key the whole example."""
    gap: str | None = None
    """Time before a later split whose rows are left out, with `by: time`: 90s,
    30m, 2h, 1d."""

    @field_validator("key", mode="before")
    @classmethod
    def _none_or_more(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str | int) else value

    @field_validator("gap")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None and not duration.microseconds(value):
            raise ValueError(duration.not_a_duration(value))
        return value

    @model_validator(mode="after")
    def _check(self) -> Split:
        if self.key and self.by != "hash":
            raise ValueError(
                f"`key` is for `by: hash`; received `by: {self.by}`"
            )
        if self.gap is not None and self.by != "time":
            raise ValueError(
                f"`gap` is for `by: time`; received `by: {self.by}`"
            )
        if self.eval + self.test >= 1:
            raise ValueError(
                f"eval {self.eval} and test {self.test} leave nothing to train"
                " on; accepted: less than 1 together"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The splits there are, in the order of time."""
        return ("train", "eval", "test") if self.test else ("train", "eval")

    @property
    def gap_micros(self) -> int:
        """The gap in microseconds."""
        return duration.microseconds(self.gap) if self.gap else 0


class DataConfig(Section):
    """The raw logs and how a row becomes a labelled example."""

    impressions: LogFiles
    """Log of the impressions."""
    clicks: ClickFiles | None = None
    """Log of the clicks, where it is a separate one."""
    events: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)],
        EventFiles,
    ] = {}
    """Logs by name that `labels` are from, such as orders."""
    labels: LabelTasks | None = None
    """Labels that one model learns together, by name, in place of `label`: the
    first is the click, another may be `of` it. Null: `label` alone."""
    label: Label | None = Field(None, validate_default=True)
    """Column of the label, or a rule over a column.

    With `clicks` it may be missing: a click is the label.
    """
    time: TimeColumn | None = None
    """Event time of the impressions."""
    weight: Weight | None = None
    """How much a row counts: a column's name, `{column, half_life}` of its age,
    `{half_life}` by `time`, or `{propensity, clip}`. Null: 1 each."""
    split: Split = Split()
    """Division into train, eval and test."""
    negatives: Negatives = Negatives()
    """Sampling of the negatives."""
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Greatest share of rejected rows; the run stops above it."""
    max_out_of_range: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Greatest share of rows with an `encode: identity` feature out of its
    range, which the model reads as missing."""
    curated_schema: PathText | None = None
    """Schema that the data must satisfy; null: the inferred one."""
    spans: Spans | None = None
    """Days to read, where paths have placeholders."""
    drift: DriftConfig = DriftConfig()
    """Comparison with the data of the pushed model, and of train with eval:
    warn, stop or off, or a section."""
    leaks: Action = "warn"
    """Consequence of a feature whose values alone give an AUC above 0.99 on
    the train split: warn, stop or off."""

    @model_validator(mode="before")
    @classmethod
    def _first_label(cls, value: Any) -> Any:
        """The first of `labels` is the label of all that knows one alone."""
        if not isinstance(value, dict) or not value.get("labels"):
            return value
        labels = value["labels"]
        if not isinstance(labels, dict):
            return value  # its own error is told
        try:
            task = LabelTask.model_validate(next(iter(labels.values())))
        except ValueError:
            return {**value, "label": "?"}  # as above
        first = None if task.column is None else task.rule
        given = value.get("label")
        if given is not None and _plain(given) != _plain(first):
            raise FieldError(
                "label",
                f"received {given!r} beside `labels`; accepted: null. The first"
                " of `labels` is the label",
            )
        return {**value, "label": first}

    @field_validator("label")
    @classmethod
    def _label_or_clicks(
        cls, value: str | LabelRule | None, info: ValidationInfo
    ) -> str | LabelRule | None:
        if (
            value is None
            and info.data.get("clicks", 1) is None
            and not info.data.get("labels")
        ):
            raise ValueError(
                "missing; it is required, except with `clicks`: there the"
                " label is whether there was a click"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.split.by == "time" and self.time is None:
            raise ValueError(
                "`split.by: time` needs `time`, the column of event time"
            )
        for log, files in self.logs.items():
            _check_spans(f"{log}.path", files.path, self.spans)
        self._check_weight()
        shown: dict[str, str | None] = {
            "time": self.time.column if self.time else None,
            **{f"split.key: {name}": name for name in self.split.key},
            **{f"negatives.key: {name}": name for name in self.negatives.key},
        }
        if self.weight is not None and not self.weight_of_click:
            shown[f"weight.{self.weight.field()}"] = self.weight.source
        self._check_labels()
        for name, task in (self.labels or {}).items():
            if task.column is not None and self.clicks is None:
                shown[f"labels.{name}.column"] = task.column
        if self.clicks is None:
            shown["label"] = self.label_column
        else:
            if self.time is None:
                raise ValueError(
                    "`clicks` needs `time`, the column of the impressions'"
                    " event time"
                )
            _check_until(self.clicks.until, self.click_time)
            shown |= {f"clicks.key: {n}": n for n in self.clicks.shown_key}
            clicked = {
                "clicks.time": self.click_time.column,
                "label": self.label_column,
                **{f"clicks.key: {name}": name for name in self.clicks.key},
                **{f"clicks.carry: {n}": n for n in self.clicks.carry},
            }
            _check_columns("clicks", self.clicks, clicked)
        _check_columns("impressions", self.impressions, shown)
        return self

    def _check_events(self) -> None:
        for name, task in self.event_labels.items():
            if task.from_ not in self.events:
                raise FieldError(
                    f"labels.{name}.from",
                    f"received {task.from_!r}; accepted: a log of `events`:"
                    f" {', '.join(self.events) or 'there is none'}",
                )
            if self.time is None:
                raise FieldError(
                    f"labels.{name}.from",
                    "needs `time`, the column of the impressions' event time",
                )
            log = self.events[task.from_]
            field = f"events.{task.from_}.until"
            _check_until(log.until, log.time or self.time, field)
            wanted: dict[str, str | None] = {
                f"labels.{name}.key: {column}": column for column in task.key
            }
            wanted["time"] = (log.time or self.time).column
            _check_columns(f"events.{task.from_}", log, wanted)
            shown = dict.fromkeys(task.shown_key)
            _check_columns(
                "impressions",
                self.impressions,
                {f"labels.{name}.impression_key: {c}": c for c in shown},
            )
        used = {task.from_ for task in self.event_labels.values()}
        for name in self.events.keys() - used:
            raise FieldError(
                f"events.{name}",
                "no label is from it; accepted: the `from` of one of `labels`",
            )

    def _check_labels(self) -> None:
        self._check_events()
        if self.labels is None:
            return
        check_labels(self.labels)
        first = next(iter(self.labels))
        if self.labels[first].from_ is not None and self.clicks is None:
            raise FieldError(
                f"labels.{first}.from",
                "received 'clicks' without `clicks`, the log of the clicks",
            )
        if self.clicks is not None and self.column_labels:
            name = next(iter(self.column_labels))
            raise FieldError(
                f"labels.{name}.column",
                f"received {self.labels[name].column!r} beside `clicks`;"
                " accepted: `from`, a log of `events`",
            )
        for name, task in self.labels.items():
            if task.of is None and name != next(iter(self.labels)):
                sampled = self.negatives.keep < 1
                if sampled and not self.negatives.reweight:
                    raise FieldError(
                        "negatives.keep",
                        f"received {self.negatives.keep:g} with the label"
                        f" {name!r}, which is of no other; accepted: 1, or"
                        " `reweight: true`. The correction for negatives that"
                        " were left out is that of the first label",
                    )

    def _check_weight(self) -> None:
        weight = self.weight
        if weight is None:
            return
        if weight.by_time and self.time is None:
            raise ValueError(
                "`weight.half_life` needs `time`, the column of event time, or"
                " `weight.column`, that of the ages"
            )
        if self.weight_of_click and weight.default is None:
            raise ValueError(
                f"`weight.{weight.field()}` is {weight.source!r}, a column of"
                " `clicks.carry`, which an impression without a click lacks;"
                " give `weight.default`, such as 1"
            )
        if weight.source is not None and weight.source == self.label_column:
            raise ValueError(
                f"`weight.{weight.field()}` is {weight.source!r}, the label's"
                " own column"
            )

    @property
    def weight_of_click(self) -> bool:
        """True where the click log has the column of the weight."""
        if self.weight is None or self.clicks is None:
            return False
        return self.weight.source in self.clicks.carry

    @property
    def logs(self) -> dict[str, LogFiles]:
        """The logs there are, by the name of their section."""
        logs = {"impressions": self.impressions, "clicks": self.clicks}
        found: dict[str, LogFiles] = {
            name: log for name, log in logs.items() if log is not None
        }
        return found | {f"events.{n}": log for n, log in self.events.items()}

    @property
    def click_time(self) -> TimeColumn:
        """The click log's column of event time."""
        assert self.clicks is not None and self.time is not None
        return self.clicks.time or self.time

    @property
    def clicks_until(self) -> int | None:
        """`clicks.until` in microseconds since 1970, in the clicks' zone."""
        if self.clicks is None or self.clicks.until is None:
            return None
        until = self.click_time.moment(self.clicks.until)
        return (until - _EPOCH) // datetime.timedelta(microseconds=1)

    @property
    def zone(self) -> str | None:
        """Zone of `time`; None: UTC."""
        return self.time.zone if self.time is not None else None

    @property
    def has_days(self) -> bool:
        """True if rows have a time, or their files have a day."""
        paths = self.impressions.path
        dates = self.spans is not None and "{SPAN}" not in paths[0]
        return self.time is not None or dates

    @property
    def timed(self) -> bool:
        """True if the examples of all splits but train carry their times."""
        return self.clicks is not None or self.reads_time

    @property
    def reads_time(self) -> bool:
        """True if a row's time decides its split or its weight."""
        weighed = self.weight is not None and self.weight.by_time
        return weighed or self.split.by == "time"

    @property
    def further_labels(self) -> dict[str, LabelTask]:
        """The labels after the first, by name."""
        return dict(list((self.labels or {}).items())[1:])

    @property
    def column_labels(self) -> dict[str, LabelTask]:
        """The labels after the first that columns have."""
        labels = self.further_labels
        return {n: one for n, one in labels.items() if one.from_ is None}

    @property
    def event_labels(self) -> dict[str, LabelTask]:
        """The labels after the first that are from `events`."""
        labels = self.further_labels
        return {n: one for n, one in labels.items() if one.from_ is not None}

    def events_until(self, name: str) -> int | None:
        """`until` of a log of events in microseconds since 1970."""
        log = self.events[name]
        time = log.time or self.time
        if log.until is None or time is None:
            return None
        return (time.moment(log.until) - _EPOCH) // datetime.timedelta(
            microseconds=1
        )

    @property
    def trained_labels(self) -> tuple[TrainedLabel, ...]:
        """Labels as a training takes them, in order; () for one alone."""
        return tuple(
            TrainedLabel(name, task.of, task.weight)
            for name, task in (self.labels or {}).items()
        )

    @property
    def label_columns(self) -> dict[str, str]:
        """Columns of the impressions that labels are read from -> setting."""
        columns = {
            task.column: f"data.labels.{name}.column"
            for name, task in (self.labels or {}).items()
            if task.column is not None and self.clicks is None
        }
        if not columns and self.clicks is None and self.label_column:
            columns[self.label_column] = "data.label"
        return columns

    @property
    def label_column(self) -> str | None:
        """The raw column that the label is read or computed from.

        With `clicks` one of theirs, or None: a click is the label.
        """
        if isinstance(self.label, LabelRule):
            return self.label.column
        return self.label


def _plain(label: Any) -> Any:
    """A label as YAML has it, whatever it was read to."""
    if isinstance(label, LabelRule):
        label = label.model_dump()
    if isinstance(label, dict):
        label = {k: v for k, v in label.items() if v is not None}
        return label["column"] if list(label) == ["column"] else label
    return label


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


def _check_until(
    until: str | None, time: TimeColumn, field: str = "clicks.until"
) -> None:
    """The end is a moment that a click of the log may have."""
    if until is None:
        return
    year = time.moment(until).astimezone(datetime.UTC).year
    if time.unit is None and not FIRST_YEAR <= year <= last_year():
        raise ValueError(
            f"`{field}`: received {until}; accepted: a time of"
            f" {FIRST_YEAR} to {last_year()}, as in the log"
        )


def _check_columns(
    section: str, log: LogFiles, wanted: dict[str, str | None]
) -> None:
    for field, name in wanted.items():
        known = log.all_columns
        if name is not None and known is not None and name not in known:
            raise ValueError(
                f"`{field}` is column {name!r}, which is not among"
                f" `{section}.columns`: {', '.join(known)}"
            )
