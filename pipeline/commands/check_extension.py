"""`lionctr check my_models:build`: a user's own code against its contract."""

from __future__ import annotations

import faulthandler
import inspect
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from models.errors import FailedError, InputError, UserError
from optimizers.extension import Registry
from pipeline.console import quiet
from pipeline.extensions import KINDS


def check(name: str, settings: Sequence[str], sample: Path | None) -> int:
    """Puts an extension through the contract of its kind; prints that it holds.

    Args:
        name: as a config names it; ours, or package.module:Name.
        settings: what stands beside the name in a config, as key=value.
        sample: of a log format, a file of three good rows or more.

    Raises:
        InputError: the extension cannot be had, or its kind not be told.
        FailedError: a demand is not met; the message says which.
    """
    beside = dict(map(_setting, settings))
    # Where a library aborts the process, the stack is all that is left.
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    with quiet(Path(os.devnull)):  # importing TensorFlow is not
        try:
            kind = kind_of(name)
            _CHECKS[kind](name, beside, sample)
        except AssertionError as error:
            raise FailedError(f"{name}: {error}") from error
        except ValueError as error:
            raise InputError(str(error)) from error
        except UserError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise FailedError(
                f"{name}: {type(error).__name__}: {error}{_demand(error)}"
            ) from error
    print(f"{name}: keeps to the contract of {_articled(KINDS[kind])}")
    return 0


def _demand(error: Exception) -> str:
    """The demand that was looked at when the user's code failed, in words."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        function = frame.f_globals.get(frame.f_code.co_name)
        if frame.f_code.co_name.startswith("_check_") and function.__doc__:
            found = f". Demand: {function.__doc__.splitlines()[0]}"
    return found


def kind_of(name: str) -> str:
    """The key of `KINDS` whose extensions look like this one.

    Raises:
        ValueError: there is none of the name.
        InputError: no kind looks like it.
    """
    for kind, registry in KINDS.items():
        if name in registry.names:
            return kind
    found = Registry("extension", "check", {}, "one of a config").load(name)
    for kind, looks_so in _SIGNS.items():
        if looks_so(found):
            return kind
    kinds = "; ".join(f"{_articled(k)}: {k.wanted}" for k in KINDS.values())
    raise InputError(
        f"{name}: received a {type(found).__name__}; accepted: {kinds}"
    )


def _is_class(found: Any, *modules: str) -> bool:
    """True if `found` derives from a class of Keras of that name."""
    return isinstance(found, type) and any(
        f"{base.__module__}.{base.__name__}".startswith(("keras.", "tf_keras."))
        and base.__name__ in modules
        for base in found.__mro__
    )


def _first_argument(found: Any) -> str:
    if isinstance(found, type) or not callable(found):
        return ""
    return next(iter(inspect.signature(found).parameters), "")


def _is_loss(found: Any) -> bool:
    call = vars(found).get("__call__") if isinstance(found, type) else None
    return call is not None and "logits" in inspect.signature(call).parameters


_SIGNS: dict[str, Callable[[Any], bool]] = {
    "optimizers": lambda found: _is_class(found, "Optimizer", "KerasOptimizer"),
    "callbacks": lambda found: _is_class(found, "Callback"),
    "losses": _is_loss,
    "metrics": lambda found: hasattr(found, "terms"),
    "log formats": lambda found: hasattr(found, "settings"),
    "gates": lambda found: _first_argument(found) == "report",
    "architectures": lambda found: _first_argument(found) == "layout",
}


def _log_format(name: str, beside: dict[str, Any], sample: Path | None) -> None:
    from components.click_log_gen.config.log_files import LogFiles
    from components.click_log_gen.formats import contract, log_format
    from components.click_log_gen.formats.plan import plan

    if sample is None or not sample.is_file():
        given = None if sample is None else str(sample)
        raise InputError(
            f"--sample: received {given!r}; accepted: a file of the format"
            f" that is not packed, of three good rows or more"
        )
    source = LogFiles(path=(str(sample),), format=name, **beside)
    work = plan(source)
    columns = log_format.of(source).names(work[0], source) if work else ()
    if not columns:
        raise InputError(
            f"{sample}: {name} finds no columns; accepted: a format whose"
            " `names` tells them. Of another, the contract is run by a test:"
            " see docs/extending.md"
        )
    contract.check(name, sample, dict.fromkeys(columns, "string"), **beside)


def _architecture(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from models.contracts import architecture

    architecture.check(name, beside)


def _optimizer(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from optimizers import contract

    contract.check(name, beside)


def _loss(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from models.contracts import loss

    loss.check(name, beside)


def _metric(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from components.evaluator import contract

    if beside:
        raise InputError(f"{name}: received {beside}; a metric has no settings")
    contract.check_metric(name)


def _gate(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from components.evaluator import contract

    contract.check_gate(name, beside)


def _callback(name: str, beside: dict[str, Any], _: Path | None) -> None:
    from models.contracts import callback

    callback.check(name, beside)


_CHECKS: dict[str, Callable[[str, dict[str, Any], Path | None], None]] = {
    "log formats": _log_format,
    "architectures": _architecture,
    "optimizers": _optimizer,
    "losses": _loss,
    "metrics": _metric,
    "objectives": _metric,
    "gates": _gate,
    "callbacks": _callback,
}


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set: received {text!r}; accepted: key=value")
    return key, yaml.safe_load(value)


def _articled(kind: Registry) -> str:
    return f"{'an' if kind.kind[0] in 'aeiou' else 'a'} {kind.kind}"
