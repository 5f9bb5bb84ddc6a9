"""The config section `runner.kubeflow`: pods of a pipeline's tasks."""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from models.config.section import Section

STATE_STORES = ("gs://", "s3://", "minio://")
TASKS = (
    "Baseline",
    "ClickLogGen",
    "Evaluator",
    "ExampleValidator",
    "Notify",
    "Pusher",
    "SchemaGen",
    "StatisticsGen",
    "Trainer",
    "Transform",
    "Tuner",
    "Versions",
    "WarmStart",
)
_SUFFIXES: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
_QUANTITY = r"^\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?$"


def _text(value: Any) -> Any:
    """YAML reads `cpu: 4` as a number, and `env: {X: 1}` too."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


Text = Annotated[str, BeforeValidator(_text)]
Quantity = Annotated[str, BeforeValidator(_text), Field(pattern=_QUANTITY)]
ObjectName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)
]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Label = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?"
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[
    str,
    BeforeValidator(_text),
    Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"),
]


def amount(quantity: str) -> Decimal:
    """The number that a quantity of Kubernetes, such as 500m or 8Gi, is."""
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity)
    assert match is not None
    return Decimal(match[1]) * _SUFFIXES[match[2]]


class Resources(Section):
    """CPU and memory, as Kubernetes writes them: "500m", 8Gi."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class Accelerator(Section):
    """Devices of a pod, as the cluster calls them."""

    type: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = (
        "nvidia.com/gpu"
    )
    count: Annotated[int, Field(ge=1)] = 1


class Toleration(Section):
    """A taint of nodes that the pod accepts."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("`value` goes with operator Equal only")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("`key` is required with operator Equal")
        return self


class Secret(Section):
    """A secret of the cluster, as variables or as files.

    `env`: variable -> key of the secret. `mount`: folder of its files.
    """

    name: ObjectName
    env: dict[EnvName, Annotated[str, Field(min_length=1)]] = {}
    mount: Annotated[str, Field(pattern=r"^/.")] | None = None

    @model_validator(mode="after")
    def _check(self) -> Secret:
        if not self.env and self.mount is None:
            raise ValueError("give `env` ({VARIABLE: key}) or `mount` (/path)")
        return self


class Retries(Section):
    """How often a failed task is tried again; waits are in seconds."""

    count: Annotated[int, Field(ge=0)]
    delay: Annotated[int, Field(ge=0)] = 0
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    max_delay: Annotated[int, Field(ge=0, le=3600)] = 3600


class Pod(Section):
    """What the pod of a task asks of the cluster."""

    requests: Resources = Resources()
    limits: Resources = Resources()
    accelerator: Accelerator | None = None
    node_selector: dict[Label, LabelValue] = {}
    tolerations: tuple[Toleration, ...] = ()
    env: dict[EnvName, Text] = {}
    secrets: tuple[Secret, ...] = ()
    image_pull_secrets: tuple[ObjectName, ...] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    retries: Retries | None = None
    timeout: Annotated[int, Field(ge=1)] | None = None
    labels: dict[Label, LabelValue] = {}
    annotations: dict[Label, Text] = {}

    @field_validator("retries", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        is_count = isinstance(value, int) and not isinstance(value, bool)
        return {"count": value} if is_count else value

    @model_validator(mode="after")
    def _check(self) -> Pod:
        for name in ("cpu", "memory"):
            asked, bound = (
                getattr(self.requests, name),
                getattr(self.limits, name),
            )
            if asked and bound and amount(asked) > amount(bound):
                raise ValueError(
                    f"requests.{name} {asked} is above limits.{name} {bound}"
                )
        return self


class Notify(Section):
    """Who is told of a run's end: `key` of the secret `webhook` is a URL."""

    webhook: ObjectName
    key: Annotated[str, Field(min_length=1)] = "url"


class KubeflowConfig(Section):
    """On Kubeflow: the pods of all tasks, and of single ones.

    What a task sets goes before the default of the same name; mappings are
    merged by key. `state`: a folder on a volume of `runner.volumes`, or a URI
    of an object store, in which a task that was killed finds where it was.
    `notify`: a last task that tells how the run ended.
    """

    state: Annotated[str, Field(min_length=1)] | None = None
    defaults: Pod = Pod()
    tasks: dict[str, Pod] = {}
    notify: Notify | None = None

    @field_validator("tasks")
    @classmethod
    def _known(cls, value: dict[str, Pod]) -> dict[str, Pod]:
        for name in value:
            if name not in TASKS:
                close = difflib.get_close_matches(name, TASKS, 1, 0.5)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise ValueError(
                    f"unknown task {name!r}{hint}. Accepted: {', '.join(TASKS)}"
                )
        return value

    @model_validator(mode="after")
    def _merged(self) -> KubeflowConfig:
        for name in self.tasks:
            try:
                self.pod(name)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(
                    f"tasks.{name}, with defaults: {reason}"
                ) from error
        return self

    def pod(self, task: str) -> Pod:
        """The pod of a task; of the steps beside a task, the defaults."""
        given = self.tasks.get(task)
        if given is None:
            return self.defaults
        merged = self.defaults.model_dump(exclude_unset=True)
        for name, value in given.model_dump(exclude_unset=True).items():
            old = merged.get(name)
            if isinstance(old, dict) and isinstance(value, dict):
                value = {**old, **value}
            merged[name] = value
        return Pod.model_validate(merged)
