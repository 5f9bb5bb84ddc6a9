"""create_pipeline: which components, in which order. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tfx.components import Trainer, Tuner
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2

from components import data_checks
from components.baseline.component import Baseline
from components.click_log_gen.component import ClickLogGen
from components.curated_schema.component import CuratedSchema
from components.evaluator.component import Evaluator
from components.evaluator.eval_config import eval_config
from components.example_validator.component import ExampleValidator
from components.pusher.component import Pusher
from components.schema_gen.component import SchemaGen
from components.serving_gate.component import ServingGate
from components.statistics_gen.component import StatisticsGen
from components.transform.component import Transform
from components.warm_start.component import WarmStart
from models.preprocessing import pretrained
from pipeline import beam
from pipeline.code_version import code_version
from pipeline.config import PipelineConfig


@dataclass(frozen=True)
class Versions:
    """Versions, besides the config, that cached results depend on.

    data: state of the raw files. code: component -> state of its sources.
    base: the model that training begins with. model: state of the code of
    the user's own model and callbacks. schema: state of the curated schema.
    metrics: state of the code of the user's own metrics.
    """

    data: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    model: str = ""
    schema: str = ""
    metrics: str = ""


# Where the code of a component begins, for its version.
_SOURCES = {
    "ClickLogGen": "components.click_log_gen.component",
    "StatisticsGen": "components.statistics_gen.component",
    "SchemaGen": "components.schema_gen.component",
    "ExampleValidator": "components.example_validator.component",
    "Transform": "components.transform.component",
    "Evaluator": "components.evaluator.component",
    "ServingGate": "components.serving_gate.component",
    "WarmStart": "components.warm_start.component",
    "Trainer": "models.trainer",
    "Tuner": "models.tuner",
}


def code_versions() -> dict[str, str]:
    """Component -> what changes when its code, or what it imports, does."""
    return {name: code_version(module) for name, module in _SOURCES.items()}


def pushed_to(config: PipelineConfig) -> str:
    """The folder of the model's versions."""
    return f"{config.push.to.rstrip('/')}/{config.name}"


def training(config: PipelineConfig, data: str) -> dict[str, Any]:
    """Identity of a training, besides code: its settings and its data."""
    sections = config.sections()
    names = ("features", "model", "optimizer", "train")
    return {
        **{name: sections[name] for name in names},
        "negatives": sections["data"]["negatives"],
        "weight": sections["data"]["weight"],
        "data_version": data,
        **_labels(config),
    }


def reading(config: PipelineConfig) -> dict[str, Any]:
    """How the log is read, whatever its files: `lionctr predict` does so."""
    log = config.data.impressions
    settings = log.model_dump(mode="json", exclude={"path"})
    return {"log": settings, "max_rejected": config.data.max_rejected}


def create_pipeline(
    config: PipelineConfig,
    pipeline_root: str,
    versions: Versions = Versions(),
    metadata_connection_config: Any = None,
    pipeline_name: str | None = None,
    analysis_cache: str | None = None,
    trials: str | None = None,
    checkpoints: str | None = None,
    tfjob: dict[str, Any] | None = None,
) -> Pipeline:
    """The TFX pipeline of `config`.

    Args:
        config: checked.
        pipeline_root: where artifacts go, a path or a URI.
        versions: see there; the runner knows them.
        metadata_connection_config: of ML Metadata, for local runs.
        pipeline_name: for a platform that does not take `config.name`; where
            models are pushed does not change with it.
        analysis_cache: folder of all runs, in which Transform keeps what it
            found in each file: logs of earlier days are not analyzed again.
            `transform.cache` of the config goes before it.
        trials: folder of all runs, in which the Tuner keeps what its trials
            gave: those of a run that was killed are not repeated.
        checkpoints: folder of all runs, in which a training that was stopped
            finds where it was.
        tfjob: what `kubeflow.tfjob` needs for a training by several pods.
    """
    separators = config.features.lists()
    sections = config.sections()

    def code(component: str) -> dict[str, str]:
        _SOURCES[component]  # else an edit of its code would run nothing again
        return {"code_version": versions.code.get(component, "")}

    ingest = ClickLogGen(
        data=config.data,
        columns=config.columns(),
        separators=separators,
        ranges=config.features.ranges(),
        weighted=config.features.weighted(),
        sizes=config.features.sizes(),
        histories=config.features.made(),
        sequences=config.features.sequence_of(),
        days=bool(config.features.admitted()),
        data_version=versions.data,
        **code("ClickLogGen"),
    )
    examples = ingest.outputs["examples"]
    statistics = StatisticsGen(
        examples,
        on_beam=not beam.in_process(config.runner.beam),
        weighted=config.features.weighted(),
        sequences={*config.features.sequence_of().values()},
        **code("StatisticsGen"),
    )
    schema_gen = _schema(config, statistics, versions)
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema,
        settings=data_checks.settings(
            config.data.drift,
            config.data.leaks,
            _checked_kinds(config),
            config.data.split.key,
            config.features.sequence_of(),
        ),
        pushed_to=pushed_to(config),
        **code("ExampleValidator"),
    )
    admits = bool(config.features.admitted())
    bases: list[BaseComponent] = []
    if config.train.warm_start is not None:
        bases = [
            WarmStart(
                source=config.train.warm_start,
                pushed_to=pushed_to(config),
                training=training(config, versions.data),
                base_version=versions.base,
                **code("WarmStart"),
            )
        ]
    transform = Transform(
        base_model=bases[0].outputs["base_model"] if admits else None,
        examples=examples,
        schema=schema,
        preprocessing_fn="models.preprocessing.preprocessing_fn.preprocessing_fn",
        custom_config={
            "features": sections["features"],
            **({"group": config.group} if config.group is not None else {}),
            **({"zone": config.data.zone} if admits else {}),
            "analysis_cache": config.transform.cache or analysis_cache,
            **code("Transform"),
        },
        disable_statistics=not config.transform.statistics,
        disable_analyzer_cache=True,
    )
    # Anomalies must stop the run before the expensive part.
    transform.add_upstream_node(validator)
    for base in bases:
        # Nothing is looked for before the data is good.
        base.add_upstream_node(validator if admits else transform)
    learning: dict[str, Any] = {
        "examples": transform.outputs["transformed_examples"],
        "transform_graph": transform.outputs["transform_graph"],
        "schema": schema,
        "train_args": trainer_pb2.TrainArgs(splits=["train"]),
        "eval_args": trainer_pb2.EvalArgs(splits=["eval"]),
    }
    job = {
        name: sections[name]
        for name in ("features", "model", "optimizer", "train", "export")
    } | {
        "negatives": sections["data"]["negatives"],
        "checkpoints": checkpoints,
        **({"group": config.group} if config.group is not None else {}),
        **(
            {"weight": sections["data"]["weight"]} if config.data.weight else {}
        ),
        **_labels(config),
        **({"model_version": versions.model} if versions.model else {}),
        **(
            {"pretrained_version": pretrained.version(config.features)}
            if any(f.pretrained for f in config.features.categorical)
            else {}
        ),
        **code("Trainer"),
    }
    tuner: list[BaseComponent] = []
    if config.tune is not None:
        tuner = [
            Tuner(
                tuner_fn="models.tuner.tuner_fn",
                custom_config=job
                | code("Tuner")
                | {"tune": sections["tune"], "trials": trials},
                **learning,
            )
        ]
    trainer = Trainer(
        run_fn="pipeline.runners.kubeflow.tfjob.run_fn"
        if tfjob
        else "models.trainer.run_fn",
        hyperparameters=(
            tuner[0].outputs["best_hyperparameters"] if tuner else None
        ),
        base_model=bases[0].outputs["base_model"] if bases else None,
        custom_config=job
        | {"data_version": versions.data}
        | _calibrate(sections)
        | ({"tfjob": tfjob} if tfjob else {}),
        **learning,
    )
    model = trainer.outputs["model"]
    baseline: list[BaseComponent] = []
    if config.evaluate.baseline is not None:
        baseline = [Baseline(model=model, pushed_to=pushed_to(config))]
    ingest.with_beam_pipeline_args(beam.threads(config.runner.beam))
    if not config.transform.statistics:  # else it is TFX's own
        transform.with_beam_pipeline_args(beam.threads(config.runner.beam))
    evaluator = Evaluator(
        examples=examples,
        example_splits=[config.data.split.names[-1]],
        model=model,
        baseline_model=baseline[0].outputs["baseline"] if baseline else None,
        eval_config=eval_config(
            config.evaluate.thresholds(),
            config.evaluate.slices,
            bool(baseline),
            config.data.weight is not None,
        ),
        settings={
            "evaluate": sections["evaluate"],
            "kinds": _evaluated_kinds(config),
            "timed": config.data.timed,
            "weighted": config.data.weight is not None,
            **_labels(config),
            "metrics_version": versions.metrics,
            **code("Evaluator"),
        },
    )
    served: list[BaseComponent] = []
    if config.serving_gate.enabled:
        served = [
            ServingGate(
                model=model,
                model_blessing=evaluator.outputs["blessing"],
                examples=examples,
                settings={
                    "serving_gate": sections["serving_gate"],
                    "name": config.name,
                    "split": config.data.split.names[-1],
                    "separators": separators,
                    **_labels(config),
                    **code("ServingGate"),
                },
                pushed_to=pushed_to(config),
            )
        ]
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=served[0].outputs["blessing"] if served else None,
        evaluation=evaluator.outputs["evaluation"],
        examples=examples,
        statistics=statistics.outputs["statistics"],
        custom_config={
            "config_sha256": config.sha256(),
            "keep": config.push.keep,
            "sign": config.push.sign,
            "reading": reading(config),
        },
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(
                base_directory=pushed_to(config)
            )
        ),
    )
    return Pipeline(
        pipeline_name=pipeline_name or config.name,
        pipeline_root=pipeline_root,
        components=_complete(
            [
                ingest,
                statistics,
                schema_gen,
                validator,
                transform,
                *tuner,
                *bases,
                trainer,
                *baseline,
                evaluator,
                *served,
                pusher,
            ]
        ),
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam.arguments(config.runner.beam),
    )


def _calibrate(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the Trainer's settings that calibrates the export."""
    asked = sections["evaluate"]["calibrate"]
    return {} if asked is None else {"calibrate": asked}


def _labels(config: PipelineConfig) -> dict[str, Any]:
    """The labels, where there are several."""
    labels = [asdict(label) for label in config.data.trained_labels]
    return {"labels": labels} if labels else {}


def _complete(components: list[BaseComponent]) -> list[BaseComponent]:
    """The components, none of which waits for one that is not among them."""
    known = {component.id for component in components}
    for component in components:
        for before in component.upstream_nodes:
            if before.id not in known:
                raise ValueError(
                    f"{component.id} waits for {before.id}, which is not in"
                    " the list `components`"
                )
    return components


def _checked_kinds(config: PipelineConfig) -> dict[str, str]:
    """Features that drift and leaks are looked for in.

    Not the time itself, nor vectors, whose numbers mean nothing one by one.
    Beam's workers count values of a list with their weights: no such list.
    """
    left_out: set[str] = set()
    if not beam.in_process(config.runner.beam):
        left_out = set(config.features.weighted())
    return {
        name: kind
        for name, kind in config.features.kinds().items()
        if kind not in ("time", "vector") and name not in left_out
    }


def _evaluated_kinds(config: PipelineConfig) -> dict[str, str]:
    """Kind of each column that the evaluation slices or groups by."""
    clicks, group = config.data.clicks, config.evaluate.group
    kinds: dict[str, str] = config.columns()
    if clicks is not None:
        kinds |= clicks.carry
    names = {name for names in config.evaluate.slices for name in names}
    if group is not None:
        names.add(group)
    calibrate = config.evaluate.calibrate
    if calibrate is not None and calibrate.by is not None:
        names.add(calibrate.by)
    return {name: kinds[name] for name in sorted(names)}


def _schema(
    config: PipelineConfig, statistics: Any, versions: Versions
) -> BaseComponent:
    """The curated schema where there is one, else one from the statistics."""
    curated = config.data.curated_schema
    if curated is not None:
        return CuratedSchema(curated, versions.schema).with_id("SchemaGen")
    return SchemaGen(
        statistics.outputs["statistics"],
        lists=config.features.lists().keys() - config.features.sizes().keys(),
        code_version=versions.code.get("SchemaGen", ""),
    )
