"""`lionctr models`: versions of a pushed model, and which one is served."""

from __future__ import annotations

import datetime
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from components import model_store
from components.pusher import rollback
from models import valid_json
from models.errors import InputError, RefusedError
from pipeline.object_store import named
from serving import manifest
from serving.object_store import is_store

_METRICS = ("auc", "logloss", "calibration")  # columns of the table


def main(
    name: str,
    action: str | None = None,
    version: int | None = None,
    to: str = "serving_models",
    as_json: bool = False,
) -> int:
    """Runs one `lionctr models` command; returns the exit code.

    Args:
        name: a model's name, the folder of its versions, or its config.
        action: verify, rollback, pin, unpin; None lists the versions.
        version: the one to pin, or to roll back to.
        to: `push.to`, where a name is looked for.
        as_json: whether the list is one JSON object.

    Raises:
        InputError: there is no such model or version.
        RefusedError: the version does not hold, or there is none before.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    with errors_of(name, to):
        return _carry_out(name, action, version, to, as_json)


def errors_of(name: str, to: str) -> AbstractContextManager[None]:
    """Errors of an object store, where a model is in one; see `named`."""
    for place in (name, to):
        if is_store(place):
            return named(place)
    return nullcontext()


def _carry_out(
    name: str, action: str | None, version: int | None, to: str, as_json: bool
) -> int:
    base = folder_of(name, to)
    if version is not None and action not in ("pin", "rollback"):
        raise InputError(
            f"received version {version}; only pin and rollback take one"
        )
    if action == "verify":
        return _verify(base)
    if action == "rollback":
        new, of, before = rollback.roll_back(base, version)
        print(
            f"version {new} is served now: the model of version {of}."
            f" Version {before} stays in {base}; to serve it again:"
            f" lionctr models {name} rollback {before}"
        )
        return 0
    if action == "pin":
        return _pin(base, version)
    if action == "unpin":
        model_store.set_pin(base, None)
        print(f"no version is pinned; {_newest(base)} is served")
        return 0
    return _list(base, as_json)


def folder_of(name: str, to: str) -> str:
    """The folder of a model's versions.

    Raises:
        InputError: there is no version.
    """
    if name.endswith((".yaml", ".yml")):
        from pipeline.config import load

        config = load(Path(name))
        base = os.path.join(config.push.to, config.name)
    elif "/" not in name and not model_store.versions(name):
        base = os.path.join(to, name)
    else:
        base = name.rstrip("/")
    if not model_store.versions(base):
        raise InputError(
            f"{name}: no version in {base}. Accepted: a name in --to (now"
            f" {to!r}), the folder of a model's versions, or a config"
        )
    return base


def _newest(base: str) -> str:
    served = model_store.served(base)
    return "no version" if served is None else f"version {served}"


def _pin(base: str, version: int | None) -> int:
    known = model_store.versions(base)
    if version not in known:
        raise InputError(
            f"pin: received {version}; accepted: {', '.join(map(str, known))}"
        )
    reason = model_store.fault(model_store.path_of(base, version))
    if reason:
        raise RefusedError(f"version {version} is not pinned: {reason}")
    with model_store.locked(base):
        model_store.set_pin(base, version)
    print(
        f"version {version} is pinned: lionctr serve serves it until `unpin`,"
        " whatever is pushed. TF Serving and KServe take no notice: they"
        " serve the highest number (docs/serving.md)"
    )
    return 0


def _verify(base: str) -> int:
    damaged = 0
    for version in model_store.versions(base):
        state, reason = _state(model_store.path_of(base, version))
        damaged += state == "damaged"
        print(f"{version}  {state}{f': {reason}' if reason else ''}")
    if damaged:
        print(f"{damaged} damaged in {base}; no server of lion-ctr loads them")
    return int(bool(damaged))


def _state(path: str) -> tuple[str, str]:
    """holds, damaged or no manifest; and what is wrong."""
    try:
        if manifest.verify(path, model_store.files_of(path)):
            return "holds", ""
    except (manifest.DamagedError, OSError) as error:
        return "damaged", str(error)
    return "no manifest", "exported by an older lion-ctr; nothing to compare"


def _list(base: str, as_json: bool) -> int:
    pin = model_store.pin(base)
    origins = rollback.copies(base)
    rows: dict[int, dict[str, Any]] = {}
    served = None
    for version in model_store.candidates(base):
        path = model_store.path_of(base, version)
        # Every one that a server would try is verified, the rest are not.
        state, reason = _state(path) if served is None else ("", "")
        if served is None and state != "damaged":
            served = version
        about = model_store.about(path) if state != "damaged" else {}
        rows[version] = {
            "version": version,
            "pushed": _pushed(path, version),
            "served": version == served,
            "pinned": version == pin,
            "copy_of": origins.get(version),
            "state": state or None,
            "reason": reason or None,
            **{
                key: about.get(key)
                for key in ("export_id", "created", "trained_on", "metrics")
            },
        }
    why = _why(served, pin, rows)
    ordered = [rows[version] for version in sorted(rows, reverse=True)]
    if as_json:
        found = {"folder": base, "served": served, "why": why}
        print(valid_json.dumps({**found, "versions": ordered}))
        return 0
    print(f"{base}: {why}")
    for line in _table(ordered):
        print(line)
    return 0


def _why(
    served: int | None, pin: int | None, rows: dict[int, dict[str, Any]]
) -> str:
    if served is None:
        return "no version holds; none is served"
    if served == pin:
        return f"version {served} is served: it is pinned"
    damaged = [v for v, row in rows.items() if row["state"] == "damaged"]
    if damaged:
        return (
            f"version {served} is served:"
            f" {', '.join(map(str, damaged))} damaged"
        )
    return f"version {served} is served: it is the newest"


def _pushed(path: str, version: int) -> str:
    """When it was pushed: a version is the time in seconds."""
    seconds = float(version)
    if not 1e9 < seconds < 1e11 and Path(path).is_dir():
        seconds = Path(path).stat().st_mtime
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    width = max(len("version"), *(len(str(row["version"])) for row in rows))
    head = f"  {'version':<{width}}  {'pushed (UTC)':<19}  {'model':<8}"
    lines = [head + "".join(f"  {name:>11}" for name in _METRICS)]
    for row in rows:
        metrics = row["metrics"] or {}
        values = [metrics.get(name) for name in _METRICS]
        numbers = "".join(
            f"  {'' if value is None else f'{value:.5f}':>11}"
            for value in values
        )
        notes = [
            "served" if row["served"] else "",
            "pinned" if row["pinned"] else "",
            f"copy of {row['copy_of']}" if row["copy_of"] else "",
            row["state"] if row["state"] in ("damaged", "no manifest") else "",
        ]
        lines.append(
            f"{'*' if row['served'] else ' '} {row['version']:<{width}}"
            f"  {row['pushed']:<19}  {(row['export_id'] or '')[:8]:<8}"
            f"{numbers}  {', '.join(filter(None, notes))}".rstrip()
        )
    return lines
