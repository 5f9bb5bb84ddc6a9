"""Config section of the Evaluator: what is measured, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from models.config import metric_registry
from models.config.calibration import Calibrate
from models.config.section import FieldError, Name, PositiveInt, Section
from optimizers.extension import Registry

GATES = Registry(
    "gate",
    "evaluate.gates",
    {"slice": "components.evaluator.gate:slice_thresholds"},
    "a function of the report of an evaluation, with the other keys as"
    " arguments, that returns the reasons to refuse",
)


class Threshold(Section):
    """Bounds that a metric must keep; changes are against the baseline."""

    min: float | None = None
    """Least value."""
    max: float | None = None
    """Greatest value."""
    below: float | None = None
    """Upper bound that the metric must stay below."""
    min_change: float | None = None
    """Least difference from the baseline."""
    max_change: float | None = None
    """Greatest difference from the baseline."""
    sure: bool | None = None
    """Judge by the confidence interval.

    true: all of it must be within the bound. false: refuse only if all of it is
    beyond. null: judge the value, and of a change the interval, as with false.
    """

    def out_of_reach(self, low: float, high: float) -> str:
        """The bounds that no metric from `low` to `high` keeps; "" if none."""
        broken = {
            "min": self.min is not None and self.min > high,
            "max": self.max is not None and self.max < low,
            "below": self.below is not None and self.below <= low,
            "min_change": (self.min_change or 0) > high - low,
            "max_change": (self.max_change or 0) < low - high,
        }
        return ", ".join(
            f"{name} {getattr(self, name):g}"
            for name, is_broken in broken.items()
            if is_broken
        )

    @model_validator(mode="after")
    def _check(self) -> Threshold:
        bounds = self.model_dump(exclude={"sure"})
        if all(value is None for value in bounds.values()):
            raise ValueError(
                "give `min`, `max`, `below`, `min_change` or `max_change`"
            )
        if None not in (self.min_change, self.max_change):
            raise ValueError("give `min_change` or `max_change`, not both")
        if (
            self.min is not None
            and self.max is not None
            and self.min > self.max
        ):
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Importance(Section):
    """Importance of features; ids that training never saw."""

    rows: PositiveInt = 100_000
    """Rows of the evaluated split that are drawn for it."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """Permutations of each feature; few rows want several."""


DEFAULTS: Mapping[str, Threshold] = {
    # better than the constant
    "normalized_entropy": Threshold(below=1),
    "calibration": Threshold(min=0.75, max=1.333, sure=False),
    # not worse than the pushed model by more than noise
    "logloss": Threshold(max_change=0, sure=False),
}


class Gate(BaseModel):
    """A function that may refuse the model; its arguments stand beside it."""

    model_config = ConfigDict(
        frozen=True, extra="allow", use_attribute_docstrings=True
    )

    name: Annotated[str, AfterValidator(GATES.check)]
    """`slice`, or `package.module:function` of your own."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """The arguments."""
        return dict(self.model_extra or {})


class SliceGate(Section):
    """Arguments of the gate `slice`."""

    slice: str
    """Name of the slice in the report, such as `device=tv`."""
    metrics: dict[str, Threshold]
    """Metric -> bounds."""
    output: str | None = None
    """Output after the first, such as `cvr`, with `data.labels`; null: the
    first."""


class EvaluateConfig(Section):
    """Metrics on the last split, and the bounds that a model must keep."""

    metrics: dict[str, Threshold | None] = Field(
        default={}, validate_default=True
    )
    """Metric -> bounds, besides the defaults; null takes a default out."""
    outputs: dict[str, dict[str, Threshold | None]] = {}
    """Output after the first, such as `cvr` -> its metrics and bounds, besides
    the same defaults; with `data.labels`."""
    gates: tuple[Gate, ...] = ()
    """Gates besides those bounds, each a name or `{name: ..., argument: ...}`;
    any of them may refuse the model."""
    slices: tuple[tuple[Name, ...], ...] = ()
    """Lists of columns; the report has the metrics of each of their values."""
    baseline: Literal["latest_blessed"] | None = "latest_blessed"
    """Model to compare with: `latest_blessed`, the newest pushed one; null:
    none."""
    group: Name | None = None
    """Column, such as user_id, of GAUC, NDCG@k and recall@k; the bootstrap
    keeps its rows together."""
    k: PositiveInt = 10
    """Rank at which NDCG@k and recall@k cut."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the confidence intervals."""
    replicates: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Number of bootstrap replicates."""
    too_few: Literal["refuse", "pass"] = "refuse"
    """Verdict where there are too few positives, negatives or groups: refuse,
    or push without a verdict."""
    importance: Importance | None = None
    """Look at importance of features, unseen ids and hash collisions; true for
    the defaults, null or false: not."""

    calibrate: Calibrate | None = None
    """Calibrate the export's probability by the eval split, and judge it by the
    test split: `platt`, `isotonic`, or a section with `by`; `none` or null:
    not."""

    @field_validator("calibrate", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        # YAML 1.1 reads off as false.
        return None if value in ("none", False) else value

    @field_validator("importance", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {} if value else None
        return value

    @field_validator("outputs")
    @classmethod
    def _known_of_outputs(cls, value: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for output, metrics in value.items():
            try:
                found[output] = cls._known(metrics)
            except FieldError as error:
                raise FieldError(
                    f"{output}.{error.field}", error.message
                ) from error
            except ValueError as error:  # of a name
                raise FieldError(output, str(error)) from error
        return found

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, threshold in value.items():
            low, high = metric_registry.limits(
                metric_registry.METRICS.check(name)
            )
            bounds = threshold.out_of_reach(low, high) if threshold else ""
            if bounds:
                raise FieldError(
                    name,
                    f"received {bounds}; accepted: what a metric from {low:g}"
                    f" to {high:g} can reach",
                )
        return {**DEFAULTS, **value}

    @field_validator("gates")
    @classmethod
    def _of_a_slice(cls, value: tuple[Gate, ...]) -> tuple[Gate, ...]:
        for number, gate in enumerate(value):
            if gate.name != "slice":
                continue
            try:
                SliceGate.model_validate(gate.options)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, (number, *first["loc"])))
                raise FieldError(field, first["msg"]) from error
        return value

    @model_validator(mode="after")
    def _grouped(self) -> EvaluateConfig:
        given = [(f"metrics.{name}", name) for name in self.thresholds()]
        given += [
            (f"outputs.{output}.{name}", name)
            for output, metrics in self.outputs.items()
            for name, threshold in metrics.items()
            if threshold is not None
        ]
        for field, name in given:
            known = metric_registry.REGISTERED.get(name)
            if known and known.needs == "group" and self.group is None:
                raise FieldError(
                    field,
                    "a metric by group; name the column in `evaluate.group`,"
                    " such as user_id",
                )
        return self

    def thresholds(self) -> dict[str, Threshold]:
        """Metric -> bounds, without those that are taken out."""
        return {name: t for name, t in self.metrics.items() if t is not None}

    def of_output(self, name: str) -> EvaluateConfig:
        """The section for an output after the first."""
        own = {
            "metrics": self.outputs.get(name, dict(DEFAULTS)),
            "outputs": {},
            "gates": (),
            "calibrate": None,
        }
        return self.model_copy(update=own)

    def extensions(self) -> list[tuple[str, Registry, str]]:
        """Setting, registry and name of each metric and gate."""
        metrics = metric_registry.METRICS
        return [
            *((f"metrics.{name}", metrics, name) for name in self.thresholds()),
            *(
                (f"outputs.{output}.{name}", metrics, name)
                for output, bounds in self.outputs.items()
                for name, bound in bounds.items()
                if bound is not None
            ),
            *((f"gates.{n}", GATES, g.name) for n, g in enumerate(self.gates)),
        ]

    def own_version(self) -> str:
        """Changes with the code of one's own metrics and gates; "" without any.

        Raises:
            InputError: there is no such module.
        """
        from models.user_code import module_version

        return ",".join(
            module_version(name, f"evaluate.{field}")
            for field, registry, name in self.extensions()
            if registry.is_own(name)
        )
