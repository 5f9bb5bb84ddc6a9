"""From a configuration's `optimizer` section to a Keras optimizer."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping
from typing import Any

from optimizers.config.catalog import (
    CLASSES,
    FIXED_RATE,
    NOT_IN_KERAS_2,
    defaults,
    names,
)
from optimizers.config.defaults import asked, resolved
from optimizers.config.sections import parse
from optimizers.config.tables import expanded

__all__ = [
    "asked",
    "build_optimizer",
    "learning_rates",
    "names",
    "resolved",
    "slot_bytes",
    "used",
    "validate",
]


def build_optimizer(
    spec: Mapping[str, Any],
    total_steps: int,
    keras: int = 3,
    first_step: int = 0,
) -> Any:
    """Builds the optimizer that a spec describes.

    A spec is one optimizer, with any argument of its class,

        {"name": "lion", "learning_rate": 1e-4, "sparse": "lazy",
         "schedule": {"name": "cosine", "warmup": 500, "final": 0.1}}

    or groups of variables, of which the first whose `match` fits counts:

        {"groups": [{"match": "wide/.*", "name": "ftrl"},
                    {"match": ".*", "name": "lion"}],
         "schedule": {"name": "linear", "warmup": 0.05}}

    An optimizer without groups may give embedding tables a rate of their own,
    `table_rate`, and Lion's tables a `table_beta_2` and a
    `table_frequency_power`.

    `match` is a regular expression and must match the whole path of a
    variable (`re.fullmatch`). A schedule is "constant", "linear", "cosine" or
    "exponential": it warms up over `warmup` steps (or that share of the run,
    if below 1) to each group's own learning rate, then decays to `final`
    times it (0; exponential: 0.01). It scales every group but those of FTRL,
    whose weights are a function of the current learning rate and would
    shrink with it. Without a schedule the rate is a variable that can be set.

    Args:
        spec: see above.
        total_steps: how often `apply` will be called in the run.
        keras: 3, or 2 for a model of the package tf_keras.
        first_step: updates made before the run, if its `iterations` will be
            set to them; a schedule begins there.

    Returns:
        A keras.optimizers.Optimizer, or a tf_keras.optimizers.Optimizer whose
        `apply_gradients` is called instead of `apply`; not built on variables
        yet.

    Raises:
        ValueError: as `validate`, or a warmup as long as the run.
    """
    spec = expanded(parse(spec, keras).spec())
    whole = isinstance(total_steps, numbers.Integral)
    if not whole or isinstance(total_steps, bool) or total_steps < 1:
        raise ValueError(
            f"`total_steps` must be an integer >= 1. Received: {total_steps!r}"
        )
    schedule = spec.get("schedule")
    if schedule is not None:
        schedule = {**schedule, "first_step": first_step}
    if "groups" not in spec:
        return _build_one(spec, schedule, total_steps, keras)
    from optimizers.groups import FirstMatch, GroupedOptimizer

    optimizers = {
        group["match"]: _build_one(
            {k: v for k, v in group.items() if k != "match"},
            None if group["name"] in FIXED_RATE else schedule,
            total_steps,
            keras,
        )
        for group in spec["groups"]
    }
    if keras == 2:
        from optimizers.keras2.optimizers import GroupedOptimizer as Grouped

        return Grouped(FirstMatch(optimizers))
    return GroupedOptimizer(
        FirstMatch(optimizers), spec.get("loss_scale_factor")
    )


def validate(spec: Mapping[str, Any], keras: int = 3) -> None:
    """Checks a spec as far as is possible unbuilt, without Keras.

    Args:
        spec: see `build_optimizer`.
        keras: 3, or 2 for a model of the package tf_keras.

    Raises:
        ValueError: a line for each wrong field, with received and accepted.
    """
    parse(spec, keras)


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Returns the rate that the next step will use, per group, for logs.

    The keys are the groups' patterns, or the optimizer's name where there is
    one group.
    """
    if hasattr(optimizer, "inner_optimizer"):
        return learning_rates(optimizer.inner_optimizer)
    groups = getattr(optimizer, "groups", {optimizer.name: optimizer})
    return {key: _next_rate(one) for key, one in groups.items()}


def slot_bytes(optimizer: Any) -> int:
    """Returns the bytes of the optimizer's slots; 0 before it is built."""
    import tensorflow as tf

    return sum(
        variable.shape.num_elements() * tf.as_dtype(variable.dtype).size
        for variable in optimizer.variables
        if variable.name.removesuffix(":0") not in _NO_SLOTS
    )


_NO_SLOTS = ("iteration", "learning_rate", "current_learning_rate")


def _next_rate(optimizer: Any) -> float:
    import tensorflow as tf

    # A Keras 2 optimizer's `learning_rate` was the last step's.
    schedule = getattr(optimizer, "_learning_rate", None)
    if hasattr(optimizer, "apply_gradients") and callable(schedule):
        return float(schedule(tf.convert_to_tensor(optimizer.iterations)))
    # A mirrored variable has no float().
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def _build_one(
    spec: Mapping[str, Any],
    schedule: Mapping[str, Any] | None,
    total_steps: int,
    keras: int,
) -> Any:
    arguments = {k: v for k, v in spec.items() if k != "schedule"}
    cls = _optimizer_class(spec["name"], keras)
    if CLASSES.is_own(spec["name"]):
        del arguments["name"]
        rate = float(arguments["learning_rate"])
    else:
        default = defaults(spec["name"])["learning_rate"]
        rate = float(arguments.get("learning_rate", default))
    arguments["learning_rate"] = (
        rate
        if schedule is None
        else _build_schedule(rate, schedule, total_steps, keras)
    )
    if keras == 2:  # the training loop compiles as a whole, or not at all
        arguments["jit_compile"] = False
        for absent in NOT_IN_KERAS_2:  # which are null here
            arguments.pop(absent, None)
    elif spec["name"] != "lion":
        from optimizers.gradients import unscale_rows
        from optimizers.mirrored import sum_gradients_first

        return unscale_rows(sum_gradients_first(_made(spec, cls, arguments)))
    return cls(**arguments)


def _made(spec: Mapping[str, Any], cls: Any, arguments: dict[str, Any]) -> Any:
    """An optimizer of Keras's, or of the user's own.

    Raises:
        ValueError: the user's own cannot be made with these arguments.
    """
    if not CLASSES.is_own(spec["name"]):
        return cls(**arguments)
    import keras

    made = CLASSES.make(spec["name"], arguments=arguments)
    if not isinstance(made, keras.optimizers.Optimizer):
        raise ValueError(
            f"{CLASSES.field}: received {spec['name']!r}, a"
            f" {type(made).__name__}. Accepted: {CLASSES.wanted}"
        )
    return made


def used(spec: Mapping[str, Any]) -> dict[str, Any]:
    """As `resolved`, with the defaults in the signatures of the user's own.

    It imports their modules.
    """
    full = resolved(spec)
    for one in full.get("groups", [full]):
        if not CLASSES.is_own(one["name"]):
            continue
        parameters = inspect.signature(CLASSES.load(one["name"])).parameters
        for key, parameter in parameters.items():
            if key != "name" and isinstance(parameter.default, _SHOWN):
                one.setdefault(key, parameter.default)
    return full


_SHOWN = (bool, int, float, str, type(None))


def _build_schedule(
    rate: float, schedule: Mapping[str, Any], total_steps: int, keras: int
) -> Any:
    from optimizers.config.schedules import WarmupDecay

    decay = schedule["name"]
    warmup = schedule.get("warmup", 0)
    steps = round(warmup * total_steps) if warmup < 1 else int(warmup)
    if steps >= total_steps:
        raise ValueError(
            "`optimizer.schedule.warmup` must be shorter than the run of "
            f"{total_steps} steps (a number below 1 is a share of the run). "
            f"Received: {warmup!r}"
        )
    default_final = 0.01 if decay == "exponential" else 0.0
    final = schedule.get("final", default_final)
    built = WarmupDecay(
        rate, total_steps, decay, steps, float(final), schedule["first_step"]
    )
    if keras == 2:
        from optimizers.keras2.optimizers import Schedule

        return Schedule(built)
    return built


def _optimizer_class(name: str, keras: int = 3) -> Any:
    if keras == 2:
        from optimizers.keras2 import optimizers as keras_2

        return keras_2.optimizer_class(CLASSES.target(name).partition(":")[2])
    return CLASSES.load(name)
