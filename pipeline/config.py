"""PipelineConfig: one YAML file, checked whole before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from components.click_log_gen.config.sections import DataConfig
from components.evaluator.config import EvaluateConfig, Threshold
from components.serving_gate.config import ServingGateConfig
from models.config.architectures import ARCHITECTURES
from models.config.event_time import TimeColumn
from models.config.labels import CTR, outputs
from models.config.losses import LossConfig
from models.config.search_space import Tune, put
from models.config.section import FieldError, PathText
from models.config.training import (
    ExportConfig,
    Features,
    ModelConfig,
    Section,
    TrainConfig,
    is_reserved,
    reserved,
)
from models.errors import InputError
from optimizers import extension, registry
from optimizers.config.sections import OptimizerConfig, check_keras_2
from pipeline import yaml_file
from pipeline.config_messages import explain, nearest, place, shown
from pipeline.kubeflow_config import STATE_STORES, KubeflowConfig
from pipeline.yaml_file import Lines

__all__ = [
    "ConfigError",
    "EvaluateConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "Threshold",
    "load",
]


class ConfigError(InputError):
    """The config is wrong; the message has file, field and what is accepted."""


_KERAS_3 = ", ".join(
    name
    for name, section in ARCHITECTURES.items()
    if section.keras == 3 and not section.takes_labels
)

# Sections whose class depends on the name in them.
_DOORS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
}


class TransformConfig(Section):
    """Options of the Transform component."""

    statistics: bool = False
    """Compute statistics of the transformed examples too."""
    cache: PathText | None = None
    """Folder, gs:// or s3:// of each file's analysis; null: the runner's
    own."""


class PushConfig(Section):
    """Where blessed models go: <to>/<name>/<version>/."""

    to: PathText = "serving_models"
    """Folder, gs:// or s3:// of the served models."""
    keep: Annotated[int, Field(ge=1)] | None = None
    """Versions that stay there beside the served one; null: all."""
    sign: PathText | None = None
    """Private key in PEM that signs each version; null: no signature."""

    @model_validator(mode="after")
    def _signable(self) -> PushConfig:
        if self.sign is not None and "://" in self.to:
            raise ValueError(
                f"sign: received a key, with to {self.to!r}; accepted with a"
                " URI: null. A folder of a machine can be signed"
            )
        return self


class TFJobConfig(Section):
    """Training by several pods together, as a TFJob on Kubeflow."""

    workers: Annotated[int, Field(ge=2)]
    """Number of pods."""
    folder: Annotated[str, Field(pattern=r"^/.")]
    """Folder on one of `runner.volumes`, which the pods share."""
    limits: dict[str, str] = {}
    """Limits of each pod, such as {cpu: "8"}."""


class RunnerConfig(Section):
    """Where the work runs."""

    beam: tuple[str, ...] = ()
    """Beam's own options, as on its command line."""
    volumes: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")],
        Annotated[str, Field(pattern=r"^/.")],
    ] = {}
    """Persistent volume claim -> folder where Kubeflow's tasks mount it."""
    kubeflow: KubeflowConfig = KubeflowConfig()
    """Pods on Kubeflow."""
    tfjob: TFJobConfig | None = None
    """Training by several pods; null: by one."""

    @model_validator(mode="after")
    def _reachable_state(self) -> RunnerConfig:
        state = self.kubeflow.state
        mounts = [path.rstrip("/") + "/" for path in self.volumes.values()]
        if state and not state.startswith((*STATE_STORES, *mounts)):
            raise ValueError(
                f"kubeflow.state: received {state!r}; accepted: a folder on a"
                f" volume of runner.volumes, {', '.join(STATE_STORES)}"
            )
        return self

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
    """Name of the pipeline and of its model."""
    root: PathText = "runs"
    """Folder of runs and artifacts."""
    data: DataConfig
    """Logs, label, time and splits."""
    features: Features
    """Columns that the model sees."""
    transform: TransformConfig = TransformConfig()
    """Options of Transform."""
    model: SerializeAsAny[ModelConfig] = ModelConfig()
    """Architecture: a name, or a section."""
    optimizer: SerializeAsAny[OptimizerConfig] = OptimizerConfig.model_validate(
        "lion"
    )
    """Optimizer: a name, a section, or `groups` of them; see Lion and other
    optimizers."""
    train: TrainConfig = TrainConfig()
    """Training loop."""
    export: ExportConfig = ExportConfig()
    """The exported model."""
    tune: Tune | None = None
    """Search for settings; null: none."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Gate before the push."""
    serving_gate: ServingGateConfig = ServingGateConfig()
    """Gate after it: the server must serve the model as trained; off: none."""
    push: PushConfig = PushConfig()
    """Where models go."""
    runner: RunnerConfig = RunnerConfig()
    """Where the work runs."""

    _file: str = PrivateAttr("")
    _lines: Lines = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _time_of_features(cls, value: Any) -> Any:
        """Tells `features.time` what `data.time` says."""
        try:
            time = value["features"]["time"]
            source = TimeColumn.model_validate(value["data"]["time"])
        except (KeyError, TypeError, ValueError):
            return value  # there is none, or its own error is told
        if isinstance(time, list | tuple):
            time = {"of": time}
        if not isinstance(time, Mapping):
            return value
        time = {**time, "source": source.model_dump()}
        return {**value, "features": {**value["features"], "time": time}}

    @field_validator("tune")
    @classmethod
    def _tunable(cls, tune: Tune | None, info: ValidationInfo) -> Tune | None:
        """The config has to be right at both ends of every range."""
        for path, value in tune.ends() if tune is not None else ():
            name = path.partition(".")[0]
            section = info.data.get(name)
            if section is None:  # it is wrong by itself
                continue
            changed = {
                name: section.model_dump(mode="json", exclude_unset=True)
            }
            try:
                put(changed, path, value)
                door = _DOORS.get(name, type(section))
                door.model_validate(changed[name])
            except ValidationError as error:
                raise ValueError(
                    f"{path} = {value!r}: "
                    + "; ".join(explain(error, PipelineConfig, (name,)))
                ) from error
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return tune

    @model_validator(mode="after")
    def _check(self) -> PipelineConfig:
        accepted = ("auto", "multi_worker")
        if self.runner.tfjob and self.train.strategy not in accepted:
            raise FieldError(
                "train.strategy",
                f"received {self.train.strategy!r}; accepted with"
                f" runner.tfjob: {', '.join(accepted)}",
            )
        kinds = self.features.kinds()
        for name in {*self.data.label_columns, self.data.label_column}:
            if name in kinds:
                raise FieldError(
                    self.use(str(name)),
                    f"feature {name!r} is the label's own column; a model that"
                    " sees it learns nothing",
                )
        self._check_labels()
        # A Keras 2 model takes fewer of the optimizer's arguments.
        try:
            if self.model.keras == 2:
                check_keras_2(self.optimizer)
        except FieldError as error:
            raise FieldError(
                f"optimizer.{error.field}", error.message
            ) from error
        if self.model.keras == 2 and self.features.shallow():
            name = min(self.features.shallow())
            raise FieldError(
                self.use(name),
                f"`serve: shallow` received model.name {self.model.name!r},"
                f" a Keras 2 model; accepted: {_KERAS_3}",
            )
        for setting in self.features.made_columns().values():
            if self.data.time is None:
                raise FieldError(
                    setting,
                    "`from: impressions` needs data.time, the column of event"
                    " time: a history holds what came before a row",
                )
        if self.model.reads_sequences and not self.features.sequences:
            raise FieldError(
                "model.name",
                f"received {self.model.name!r} without features.sequences;"
                " accepted with a sequence to look at, such as"
                " [{of: history, items: ad_id}]",
            )
        self._check_loss()
        self._check_admission()
        if self.features.time is not None and self.data.time is None:
            raise FieldError(
                "features.time",
                "needs data.time, the column of event time",
            )
        weight = self.data.weight
        if weight is not None and weight.source in kinds:
            raise FieldError(
                self.use(str(weight.source)),
                f"feature {weight.source!r} is the column of data.weight,"
                " which is not known when the model is served",
            )
        for name in filter(is_reserved, self.columns()):
            raise FieldError("evaluate.slices", reserved(name))
        for name in self.data.drift.features.keys() - kinds.keys():
            raise FieldError(
                f"data.drift.features.{name}",
                f"no feature {name!r}{nearest(name, kinds)}. Accepted:"
                f" {', '.join(kinds)}",
            )
        clicks = self.data.clicks
        carried = clicks.carry if clicks is not None else {}
        for name in kinds.keys() & carried.keys():
            raise FieldError(
                self.use(name),
                f"feature {name!r} is a column of data.clicks.carry: it is"
                " known only after the click, so it tells the label",
            )
        lists = self.features.lists()
        for field, group in (
            ("evaluate.group", self.evaluate.group),
            ("train.loss.group", self.group),
        ):
            if group in lists or group in self.features.sizes():
                raise FieldError(
                    field,
                    f"received {group!r}, a list; accepted: a column"
                    " with one value a row",
                )
            if group in self.data.label_columns:
                raise FieldError(
                    field,
                    f"received {group!r}, the column of a label, so that no"
                    " group has rows of both classes; accepted: a session, a"
                    " user, ...",
                )
        unsliced = (
            self.features.weighted().keys()
            | self.features.sizes().keys()
            | self.features.sequence_of().keys()
        )
        for number, names in enumerate(self.evaluate.slices):
            for name in unsliced & set(names):
                raise FieldError(
                    f"evaluate.slices.{number}",
                    f"received {name!r}, a vector, a sequence or a list with"
                    " weights;"
                    " accepted: a column of plain values",
                )
        self._check_calibration()
        columns = self.data.impressions.all_columns
        if columns is not None:
            made = self.features.made_columns()
            for name in {**self.columns(), **self.features.history_sources()}:
                if name not in columns and name not in made:
                    raise FieldError(
                        self.use(name),
                        f"column {name!r} is used but not among"
                        " data.impressions.columns"
                        f"{nearest(name, columns)}."
                        f" Accepted: {', '.join(columns)}",
                    )
        return self

    def _check_labels(self) -> None:
        """Refuses labels and settings that do not go together."""
        several = self.data.labels
        names = ", ".join(n for n, s in ARCHITECTURES.items() if s.takes_labels)
        name = self.model.name
        known = [o.name for o in outputs(self.data.trained_labels)[1:]]
        for output in self.evaluate.outputs.keys() - known:
            accepted = ", ".join(known) or "none without data.labels"
            raise FieldError(
                f"evaluate.outputs.{output}",
                f"no output {output!r}. Accepted: {accepted}",
            )
        for number, gate in enumerate(self.evaluate.gates):
            asked = gate.options.get("output")
            if gate.name == "slice" and asked not in (None, *known):
                accepted = ", ".join(known) or "none without data.labels"
                raise FieldError(
                    f"evaluate.gates.{number}.output",
                    f"no output {asked!r}. Accepted: {accepted}",
                )
        searched = self.tune.output if self.tune else None
        answers = [CTR, *known] if known else []
        if searched not in (None, *answers):
            accepted = ", ".join(answers) or "none without data.labels"
            raise FieldError(
                "tune.output", f"no output {searched!r}. Accepted: {accepted}"
            )
        if several is None:
            if self.model.takes_labels:
                raise FieldError(
                    "model.name",
                    f"received {name!r} without data.labels; accepted with two"
                    " labels or more, such as {click: click, buy: {column: buy,"
                    " of: click}}",
                )
            return
        if not self.model.takes_labels:
            raise FieldError(
                "model.name",
                f"received {name!r} with data.labels; accepted: {names}",
            )
        for label, task in self.data.further_labels.items():
            if self.model.entire_space and task.of is None:
                raise FieldError(
                    f"data.labels.{label}.of",
                    f"received null with model.name {name!r}, which learns a"
                    " label of another over all rows; accepted: the first"
                    " label, or model.name: shared_bottom, mmoe",
                )
        for loss in self.losses():
            if loss.name != "logloss":
                raise FieldError(
                    "train.loss",
                    f"received {loss.name!r} with data.labels; accepted:"
                    " logloss, of each label",
                )
        if self.tune is not None:
            if self.tune.output is None and self.tune.objective not in (
                "logloss",
                "auc",
            ):
                raise FieldError(
                    "tune.objective",
                    f"received {self.tune.objective!r} with data.labels and no"
                    " tune.output; accepted: logloss, the mean over the labels,"
                    " or auc, of the first; or tune.output with any of"
                    f" {', '.join(answers)}",
                )
            if "model.name" in self.tune.parameters:
                raise FieldError(
                    "tune.parameters",
                    "model.name: received a choice with data.labels; accepted:"
                    " one of them in model.name",
                )

    def _check_admission(self) -> None:
        for number, f in enumerate(self.features.categorical):
            if f.admission is None:
                continue
            field = f"features.categorical.{number}.admission"
            if not self.data.has_days:
                raise FieldError(
                    field,
                    "counts by the day of a row, and rows have none. Accepted:"
                    " data.time, the column of event time, or data.spans with"
                    " a {DATE} in the path. The day of the run would count a"
                    " log that is read again twice",
                )
            if self.train.warm_start is None:
                raise FieldError(
                    field,
                    "carries counts from run to run beside the state that"
                    " training begins with. Received train.warm_start: null;"
                    " accepted: latest_blessed, or a model's folder",
                )
            if self.transform.statistics:
                raise FieldError(
                    field,
                    "received transform.statistics: true, with which TFX's own"
                    " analysis runs; accepted: false",
                )

    def losses(self) -> list[LossConfig]:
        """The loss, and those that a search tries."""
        found = [self.train.loss]
        for path, value in self.tune.ends() if self.tune is not None else ():
            if path.startswith("train.loss"):
                train = self.train.model_dump(mode="json", exclude_unset=True)
                changed = {"train": train}
                put(changed, path, value)
                found.append(TrainConfig.model_validate(changed["train"]).loss)
        return found

    @property
    def group(self) -> str | None:
        """Column by which the loss groups rows; None: it groups none."""
        for loss in self.losses():
            if loss.grouped:
                return loss.column or self.evaluate.group
        return None

    def _check_loss(self) -> None:
        losses = self.losses()
        columns = {
            one.column or self.evaluate.group for one in losses if one.grouped
        }
        if None in columns:
            name = next(one.name for one in losses if one.grouped)
            raise FieldError(
                "train.loss",
                f"received {name!r} without a group, whose"
                " rows it compares; accepted with a column in train.loss.group"
                " or in evaluate.group, such as a session or a user",
            )
        if len(columns) > 1:
            raise FieldError(
                "train.loss.group",
                f"received {', '.join(sorted(map(str, columns)))}; accepted:"
                " one column, since all trials share one Transform",
            )
        stopping = self.train.early_stopping
        if stopping is not None and stopping.metric == "gauc" and not columns:
            raise FieldError(
                "train.early_stopping.metric",
                "received 'gauc' with a train.loss that groups no rows;"
                " accepted: auto, logloss, auc",
            )
        for one in losses:
            if one.logits == 2 and self.model.keras == 2:
                raise FieldError(
                    "train.loss",
                    f"received {one.name!r}, which needs two logits, with"
                    f" model.name {self.model.name!r}, a Keras 2 model of one;"
                    f" accepted: {_KERAS_3}",
                )

    def _check_calibration(self) -> None:
        asked = self.evaluate.calibrate
        if asked is None:
            return
        if not self.data.split.test:
            raise FieldError(
                "evaluate.calibrate",
                f"received {asked.method!r} without a test split; accepted"
                " with data.split.test above 0, such as 0.1. The eval split"
                " fits it, and no row may judge what it fitted",
            )
        constants = self.features.constants()
        accepted = [
            f.name
            for f in self.features.categorical
            if f.list is None and f.name not in constants
        ]
        if asked.by is not None and asked.by not in accepted:
            raise FieldError(
                "evaluate.calibrate.by",
                f"received {asked.by!r}{nearest(asked.by, accepted)}; accepted:"
                " a categorical feature with one value a row that requests"
                f" hold: {', '.join(accepted) or 'there is none'}",
            )

    def problem(self, field: str, text: str) -> str:
        """A problem that the values alone do not show, as `load` tells them.

        Args:
            field: the path of the setting, dotted.
            text: received and accepted.
        """
        return f"{place(self._file, self._lines, field)}{field}: {text}"

    def use(self, column: str) -> str:
        """The path of the first setting that reads the column."""
        return self.uses().get(column, "evaluate.slices")

    def uses(self) -> dict[str, str]:
        """Feature -> the path of its setting."""
        uses = {
            feature.name: f"features.{kind}.{number}"
            for kind in ("numeric", "categorical", "vectors")
            for number, feature in enumerate(getattr(self.features, kind))
        }
        for number, sequence in enumerate(self.features.sequences):
            made = [sequence.column, *sequence.columns]
            uses |= dict.fromkeys(made, f"features.sequences.{number}")
        if self.data.time is not None and self.features.time is not None:
            uses[self.data.time.column] = "features.time"
        return {**self.features.history_sources(), **uses}

    def columns(self) -> dict[str, str]:
        """Columns of the impressions in the examples -> kind.

        The features, then slices and groups; not what `data.clicks` carries.
        """
        columns: dict[str, str] = dict(self.features.kinds())
        clicks = self.data.clicks
        wanted = [n for names in self.evaluate.slices for n in names]
        groups = [g for g in (self.evaluate.group, self.group) if g is not None]
        for name in wanted + groups:
            if clicks is None or name not in clicks.carry:
                columns.setdefault(name, "string")
        return columns

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, in JSON types."""
        optimizer = self.optimizer.spec()
        if self.tune is None or "optimizer.name" not in self.tune.parameters:
            optimizer = registry.resolved(optimizer)
        return {
            **self.model_dump(mode="json"),
            "model": self.model.asked(),
            "train": self.train.asked(),
            "optimizer": optimizer,
        }

    def sections(self) -> dict[str, Any]:
        """As `resolved`, but of the optimizer what the config says.

        That is what a search changes: another optimizer has other defaults.
        """
        spec = registry.asked(self.optimizer.spec())
        return {**self.resolved(), "optimizer": spec}

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
        document = yaml_file.read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml_file.YamlError as error:
        where = f"{path}:{error.line}" if error.line else f"{path}"
        what = error.field or "not valid YAML"
        raise ConfigError(f"{where}: {what}: {error}") from error
    data, lines = document.value, dict(document.lines)
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: received {type(data).__name__};"
            " accepted: a mapping with name, data, features, ..."
        )
    for override in overrides:
        field = _override(data, override)
        # A setting of the command line has no line in the file.
        for way in [way for way in lines if way[: len(field)] == field]:
            del lines[way]
        lines[field] = yaml_file.NO_LINE
    extension.search(Path(path).parent)
    try:
        config = PipelineConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                explain(error, PipelineConfig, where=str(path), lines=lines)
            )
        ) from error
    config._file, config._lines = str(path), lines
    return config


def _override(data: dict[str, Any], text: str) -> tuple[str, ...]:
    """Sets what `text` says; returns the path as keys."""
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(
            f"--set: received {text!r}; accepted: path.to.field=value"
        )
    try:
        parsed = yaml_file.parse(value).value
    except yaml_file.YamlError as error:
        raise ConfigError(
            f"--set {path}: received {shown(value)}: not valid YAML: {error}"
        ) from error
    try:
        return put(data, path, parsed)
    except ValueError as problem:
        raise ConfigError(f"--set {text}: {problem}") from problem
