"""Rollback: an earlier version becomes the newest again."""

from __future__ import annotations

import json
import logging
import os

from components import model_store
from components.pusher import publish
from models.errors import InputError, RefusedError

log = logging.getLogger("lionctr.versions")
_COPIES = ".rollbacks"  # version -> the one that it is a copy of


def roll_back(base: str, to: int | None = None) -> tuple[int, int, int]:
    """Serves an earlier version again, under the highest number.

    TF Serving and KServe serve the highest number, so a rollback has to be
    one. Nothing is removed. A pin moves to the new version.

    Args:
        base: the folder of the versions.
        to: the version to serve; None: the one before the served one.

    Returns:
        The new version, the one that it is a copy of, and the one that was
        served.

    Raises:
        InputError: there is no such version.
        RefusedError: it does not hold, or there is none before.
    """
    with model_store.locked(base):
        served = model_store.served(base)
        if served is None:
            raise RefusedError(f"{base}: no version holds; nothing is served")
        if to is None:
            to = _before(base, served)
        elif to not in model_store.versions(base):
            raise InputError(
                f"rollback: received {to}; accepted:"
                f" {', '.join(map(str, model_store.versions(base)))}"
            )
        elif reason := model_store.fault(model_store.path_of(base, to)):
            raise RefusedError(f"version {to} is not served: {reason}")
        new = publish.republish(to, base)
        _note(base, new, to)
        if model_store.pin(base) is not None:
            model_store.set_pin(base, new)
    return new, to, served


def copies(base: str) -> dict[int, int]:
    """Version that a rollback made -> the version that it is a copy of."""
    path = os.path.join(base, _COPIES)
    files = model_store.files_of(base)
    if not files.exists(path):
        return {}
    try:
        with files.open(path, "r") as file:
            content = json.loads(file.read())
        return {int(new): int(old) for new, old in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        log.warning("%s is ignored: %s", path, error)
        return {}


def _before(base: str, served: int) -> int:
    """The newest version before the served one that is another model."""
    identity = model_store.export_id(model_store.path_of(base, served))
    origin = copies(base).get(served, served)
    for version in reversed(model_store.versions(base)):
        path = model_store.path_of(base, version)
        if version >= origin or version == served:
            continue
        if identity and model_store.export_id(path) == identity:
            continue
        if reason := model_store.fault(path):
            log.warning("version %d is passed over: %s", version, reason)
            continue
        return version
    raise RefusedError(
        f"{base}: no version before {origin} is another model that holds."
        " Name the version to serve: rollback V"
    )


def _note(base: str, new: int, of: int) -> None:
    known = copies(base)
    there = set(model_store.versions(base))
    known = {v: origin for v, origin in known.items() if v in there}
    known[new] = known.get(of, of)
    model_store.write(os.path.join(base, _COPIES), json.dumps(known))
