"""Extensions: the kinds that there are, and those that a config names."""

from __future__ import annotations

from collections.abc import Iterator

from components.click_log_gen.config.log_formats import FORMATS
from components.evaluator.config import GATES
from models.config.architectures import BUILDERS
from models.config.losses import LOSSES
from models.config.metric_registry import METRICS, OBJECTIVES
from models.config.training import CALLBACKS
from optimizers.config.catalog import CLASSES
from optimizers.extension import Registry
from pipeline.config import PipelineConfig

Named = tuple[str, Registry, str]  # setting, kind, name

KINDS: dict[str, Registry] = {
    "log formats": FORMATS,
    "architectures": BUILDERS,
    "optimizers": CLASSES,
    "losses": LOSSES,
    "metrics": METRICS,
    "objectives": OBJECTIVES,
    "gates": GATES,
    "callbacks": CALLBACKS,
}


def named(config: PipelineConfig) -> Iterator[Named]:
    """Every extension that a config names, ours and the user's own."""
    for log, source in config.data.logs.items():
        yield f"data.{log}.format", FORMATS, source.format
    yield "model.name", BUILDERS, config.model.name
    yield from _of_training(config)
    for field, kind, name in config.evaluate.extensions():
        yield f"evaluate.{field}", kind, name


def own_modules(config: PipelineConfig) -> list[str]:
    """Modules of the user's own that training runs, but for the model."""
    return [
        name.partition(":")[0]
        for _, kind, name in _of_training(config)
        if kind.is_own(name)
    ]


def _of_training(config: PipelineConfig) -> Iterator[Named]:
    spec = config.optimizer.spec()
    for number, group in enumerate(spec.get("groups", ())):
        yield f"optimizer.groups.{number}.name", CLASSES, group["name"]
    if "groups" not in spec:
        yield "optimizer.name", CLASSES, spec["name"]
    yield "train.loss", LOSSES, config.train.loss.name
    for number, callback in enumerate(config.train.callbacks):
        yield f"train.callbacks.{number}", CALLBACKS, callback.name
    if config.tune is not None:
        yield "tune.objective", OBJECTIVES, config.tune.objective
