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
    "KServe",
    "Notify",
    "Pusher",
    "Report",
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
    """CPU and memory, in Kubernetes's notation."""

    cpu: Quantity | None = None
    """Processors, such as 4 or "500m"."""
    memory: Quantity | None = None
    """Memory, such as 8Gi."""


class Accelerator(Section):
    """Devices of a pod."""

    type: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = (
        "nvidia.com/gpu"
    )
    """Resource name of the device on the cluster."""
    count: Annotated[int, Field(ge=1)] = 1
    """Number of devices."""


class Toleration(Section):
    """A taint of nodes that the pod accepts."""

    key: str | None = None
    """Key of the taint; null: every key, with operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal compares the value; Exists does not."""
    value: str | None = None
    """Value of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; null: every effect."""
    seconds: Annotated[int, Field(ge=0)] | None = None
    """Time that the pod stays on a node after a NoExecute taint; null: for
    good."""

    @model_validator(mode="after")
    def _check(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("`value` goes with operator Equal only")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("`key` is required with operator Equal")
        return self


class Secret(Section):
    """A secret of the cluster, as variables or as files."""

    name: ObjectName
    """Name of the secret."""
    env: dict[EnvName, Annotated[str, Field(min_length=1)]] = {}
    """Environment variable -> key of the secret."""
    mount: Annotated[str, Field(pattern=r"^/.")] | None = None
    """Folder of the secret's files in the pod."""

    @model_validator(mode="after")
    def _check(self) -> Secret:
        if not self.env and self.mount is None:
            raise ValueError("give `env` ({VARIABLE: key}) or `mount` (/path)")
        return self


class Retries(Section):
    """Repetitions of a failed task."""

    count: Annotated[int, Field(ge=0)]
    """Number of repetitions."""
    delay: Annotated[int, Field(ge=0)] = 0
    """Seconds before the first repetition."""
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Factor from one delay to the next."""
    max_delay: Annotated[int, Field(ge=0, le=3600)] = 3600
    """Longest delay, in seconds."""


class Pod(Section):
    """The pod of a task."""

    requests: Resources = Resources()
    """CPU and memory that the scheduler reserves."""
    limits: Resources = Resources()
    """CPU and memory that the pod may not exceed."""
    accelerator: Accelerator | None = None
    """Devices of the pod; null: none."""
    node_selector: dict[Label, LabelValue] = {}
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pod accepts."""
    env: dict[EnvName, Text] = {}
    """Environment variables."""
    secrets: tuple[Secret, ...] = ()
    """Secrets, as variables or as files."""
    image_pull_secrets: tuple[ObjectName, ...] = ()
    """Secrets that let the cluster pull the image."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the cluster pulls the image; null: its default."""
    retries: Retries | None = None
    """Repetitions of a failed task: a count, or a section."""
    timeout: Annotated[int, Field(ge=1)] | None = None
    """Longest time of the task, in seconds; null: none."""
    labels: dict[Label, LabelValue] = {}
    """Labels of the pod."""
    annotations: dict[Label, Text] = {}
    """Annotations of the pod."""

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
    """A webhook that is told how a run ended."""

    webhook: ObjectName
    """Secret that holds the webhook's URL."""
    key: Annotated[str, Field(min_length=1)] = "url"
    """Key of the URL in the secret."""


class KServe(Section):
    """An InferenceService that serves each pushed version."""

    name: (
        Annotated[
            str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)
        ]
        | None
    ) = None
    """Name of the InferenceService; null: that of the pipeline."""
    namespace: ObjectName | None = None
    """Its namespace; null: that of the run."""
    storage_uri: (
        Annotated[str, Field(pattern=r"^(pvc|gs|s3|https?)://.+")] | None
    ) = None
    """Folder of the model's versions as KServe finds it; null: of `push.to`."""
    canary: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percentage of the requests that a new version gets; null: all."""
    min_replicas: Annotated[int, Field(ge=0)] | None = None
    """Smallest number of pods; null: KServe's default."""
    requests: Resources = Resources()
    """CPU and memory that the scheduler reserves for a pod."""
    limits: Resources = Resources()
    """CPU and memory that a pod may not exceed."""
    service_account: ObjectName | None = None
    """Service account of the pods, whose secrets open the storage; null: the
    namespace's default."""
    timeout: Annotated[int, Field(ge=1)] = 1800
    """Longest wait until the version is ready, in seconds."""


class KubeflowConfig(Section):
    """Pods of the tasks on Kubeflow.

    A setting of a task goes before the default of the same name; mappings are
    merged by key.
    """

    state: Annotated[str, Field(min_length=1)] | None = None
    """Folder on a volume of `runner.volumes`, or URI of an object store, in
    which a task that was killed finds its progress; null: it restarts."""
    defaults: Pod = Pod()
    """Pod of every task."""
    tasks: dict[str, Pod] = {}
    """Task -> what its pod sets itself."""
    notify: Notify | None = None
    """Last task, which tells how the run ended; null: none."""
    kserve: KServe | None = None
    """Task after the push, which serves the version on KServe; null: none."""

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
