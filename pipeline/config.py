"""PipelineConfig: one YAML file, checked whole before anything runs."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from components.click_log_gen.config import DataConfig
from components.evaluator.config import EvaluateConfig, Threshold
from models.config import (
    Features,
    ModelConfig,
    Section,
    TrainConfig,
)
from models.space import Tune, put
from optimizers import registry

__all__ = [
    "ConfigError",
    "EvaluateConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "Threshold",
    "load",
]


class ConfigError(Exception):
    """The config is wrong; the message has file, field and what is accepted."""


class OptimizerConfig(BaseModel):
    """One optimizer, or groups of them; checked by `optimizers.registry`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, Mapping):
            if "name" not in value and "groups" not in value:
                value = {"name": "lion", **value}
            registry.validate(value)
        return value

    def spec(self) -> dict[str, Any]:
        """The plain mapping that `optimizers.registry` takes."""
        return dict(self.model_extra or {})


class TransformConfig(Section):
    """Options of the Transform component.

    cache: folder, or URI that TensorFlow reads, of what was found in each
    file; by default the runner says where.
    """

    statistics: bool = False
    cache: Annotated[str, Field(min_length=1)] | None = None


class PushConfig(Section):
    """Where blessed models go: <to>/<name>/<version>/."""

    to: Annotated[str, Field(min_length=1)] = "serving_models"


class TFJobConfig(Section):
    """On Kubeflow, that several pods train together, as a TFJob.

    `folder`: on one of `runner.volumes`, which they share. `limits`: of each
    pod, such as {cpu: "8"}.
    """

    workers: Annotated[int, Field(ge=2)]
    folder: Annotated[str, Field(pattern=r"^/.")]
    limits: dict[str, str] = {}


class RunnerConfig(Section):
    """Where the work runs: Beam's own options, as on its command line.

    `volumes`: persistent volume claim -> where Kubeflow's tasks mount it.
    """

    beam: tuple[str, ...] = ()
    volumes: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")],
        Annotated[str, Field(pattern=r"^/.")],
    ] = {}
    tfjob: TFJobConfig | None = None

    @model_validator(mode="after")
    def _shared(self) -> RunnerConfig:
        mounts = [path.rstrip("/") + "/" for path in self.volumes.values()]
        if self.tfjob and not self.tfjob.folder.startswith(tuple(mounts)):
            raise ValueError(
                f"tfjob.folder: received {self.tfjob.folder!r}; accepted: a"
                " folder on a volume of runner.volumes, which all pods mount"
            )
        return self


class PipelineConfig(Section):
    """One pipeline."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    root: Annotated[str, Field(min_length=1)] = "runs"
    data: DataConfig
    features: Features
    transform: TransformConfig = TransformConfig()
    model: SerializeAsAny[ModelConfig] = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig.model_validate(
        {"name": "lion"}
    )
    train: TrainConfig = TrainConfig()
    tune: Tune | None = None
    evaluate: EvaluateConfig = EvaluateConfig()
    push: PushConfig = PushConfig()
    runner: RunnerConfig = RunnerConfig()

    @field_validator("tune")
    @classmethod
    def _tunable(cls, tune: Tune | None, info: ValidationInfo) -> Tune | None:
        """The config has to be right at both ends of every range."""
        for path, value in tune.ends() if tune is not None else ():
            name = path.partition(".")[0]
            section = info.data.get(name)
            if section is None:  # it is wrong by itself
                continue
            changed = {name: section.model_dump(mode="json")}
            try:
                put(changed, path, value)
                type(section).model_validate(changed[name])
            except ValidationError as error:
                raise ValueError(
                    f"{path} = {value!r}: " + "; ".join(_explain(error, name))
                ) from error
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return tune

    @model_validator(mode="after")
    def _check(self) -> PipelineConfig:
        accepted = ("auto", "multi_worker")
        if self.runner.tfjob and self.train.strategy not in accepted:
            raise ValueError(
                f"train.strategy: received {self.train.strategy!r}; accepted"
                f" with runner.tfjob: {', '.join(accepted)}"
            )
        kinds = self.features.kinds()
        if self.data.label_column in kinds:
            raise ValueError(
                f"feature {self.data.label_column!r} is the label's own"
                " column; a model that sees it learns nothing"
            )
        # A Keras 2 model takes fewer of the optimizer's arguments.
        registry.validate(self.optimizer.spec(), self.model.keras)
        clicks = self.data.clicks
        carried = clicks.carry if clicks is not None else {}
        for name in kinds.keys() & carried.keys():
            raise ValueError(
                f"feature {name!r} is a column of data.clicks.carry: it is"
                " known only after the click, so it tells the label"
            )
        lists = [f.name for f in self.features.categorical if f.list]
        if self.evaluate.group in lists:
            raise ValueError(
                f"evaluate.group: {self.evaluate.group!r} is a list; accepted:"
                " a column with one value a row"
            )
        columns = self.data.impressions.columns
        if columns is not None:
            for name in self.columns():
                if name not in columns:
                    raise ValueError(
                        f"column {name!r} is used but not among"
                        " data.impressions.columns"
                        f"{_nearest(name, columns)}."
                        f" Accepted: {', '.join(columns)}"
                    )
        return self

    def columns(self) -> dict[str, str]:
        """Columns of the impressions in the examples -> kind.

        The features, then slices and group; not what `data.clicks` carries.
        """
        columns: dict[str, str] = dict(self.features.kinds())
        clicks = self.data.clicks
        group = self.evaluate.group
        wanted = [n for names in self.evaluate.slices for n in names]
        for name in wanted + ([group] if group is not None else []):
            if clicks is None or name not in clicks.carry:
                columns.setdefault(name, "string")
        return columns

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, in JSON types."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Identifies the resolved config."""
        text = json.dumps(self.resolved(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path, overrides: Iterable[str] = ()) -> PipelineConfig:
    """Reads `path`, applies `a.b=value` overrides and checks the result.

    Raises:
        ConfigError: with the file, the field's path, what was received and
            what is accepted, one line for each problem.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: received {type(data).__name__};"
            " accepted: a mapping with name, data, features, ..."
        )
    for override in overrides:
        _override(data, override)
    try:
        return PipelineConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{path}: {line}" for line in _explain(error))
        ) from error


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is a number and a key may not come twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} comes twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _override(data: dict[str, Any], text: str) -> None:
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(
            f"--set: received {text!r}; accepted: path.to.field=value"
        )
    try:
        parsed = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: not valid YAML: {value!r}") from error
    try:
        put(data, path, parsed)
    except ValueError as problem:
        raise ConfigError(f"--set {text}: {problem}") from problem


def _nearest(name: str, known: Iterable[str]) -> str:
    if ":" in str(name):
        return " (YAML wants a space after the colon)"
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _explain(error: ValidationError, *above: str) -> list[str]:
    """One line for each field: path, received, accepted.

    above: the path of what was validated.
    """
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        kind = item["type"]
        sections, parts = _walk(above + item["loc"], kind != "extra_forbidden")
        field = ".".join(parts) or "(top level)"
        if kind == "extra_forbidden":
            known = sections[-1].model_fields
            line = (
                f"{field}: unknown key{_nearest(parts[-1], known)}."
                f" Accepted: {', '.join(known)}"
            )
        elif kind == "missing":
            line = f"{field}: missing; it is required"
        elif kind == "value_error":
            line = f"{field}: {item['ctx']['error']}"
        else:
            accepted = item["msg"].removeprefix("Input should be ")
            line = f"{field}: received {item['input']!r}; accepted: {accepted}"
            if field in lines and "; accepted: " in lines[field]:
                line = f"{lines[field]}, or {accepted}"
        lines[field] = line
    return list(lines.values())


def _walk(
    loc: tuple[int | str, ...], is_value: bool
) -> tuple[list[type[BaseModel]], list[str]]:
    """Sections on the way to `loc`, and the path without union tags.

    `is_value`: the last part may be a tag, not a key.
    """
    sections: list[type[BaseModel]] = [PipelineConfig]
    parts: list[str] = []
    annotation: Any = PipelineConfig
    for number, part in enumerate(loc):
        owner = next(
            (m for m in _models(annotation) if part in m.model_fields), None
        )
        if owner is not None:
            annotation = owner.model_fields[str(part)].annotation
        elif part in _UNION_TAGS and number < len(loc) - 1 + is_value:
            continue
        parts.append(str(part))
        if owner is not None or isinstance(part, int):
            sections += _models(annotation)[:1]
    return sections, parts


# What pydantic puts into a path for the branch of a union.
_UNION_TAGS = {"rule", "column", "bool", "str", "literal['auto']"}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside a type such as `tuple[Cross, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (
        tuple,
        dict,
        Annotated,
        typing.Union,
        types.UnionType,
    ):
        return [
            model
            for argument in typing.get_args(annotation)
            for model in _models(argument)
        ]
    return []
