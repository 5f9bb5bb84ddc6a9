"""`lionctr predict`: the predictions of a pushed model for a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from components import model_store
from models import valid_json
from models.errors import InputError, RefusedError
from pipeline import object_store
from pipeline.commands.models import errors_of, folder_of
from pipeline.config import load
from pipeline.console import info_lines
from pipeline.prediction import job
from pipeline.prediction.source import find
from serving.model_folder import version_number
from serving.object_store import is_store
from serving.store_versions import StoreVersions


def predict(
    model: str,
    logs: Sequence[str],
    output: job.Output,
    to: str = "serving_models",
    config: Path | None = None,
    since: str | None = None,
    until: str | None = None,
    max_rejected: float | None = None,
    beam: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Runs the command; returns the exit code.

    Args:
        model: a model's name, the folder of its versions, its config, or the
            folder of one version.
        to: `push.to`, where a name is looked for.
        logs, since, until: see `source.find`.
        output: where the predictions go.
        config: says how the log is read; None: the version does.
        max_rejected: greatest share of rejected rows; None: the config's.
        beam: Beam's options, after those of the config.
        as_json: whether the summary is printed as one JSON object.

    Raises:
        InputError: the model, the log, or an option is wrong.
        RefusedError: the version does not hold.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    if max_rejected is not None and not 0 <= max_rejected <= 1:
        raise InputError(
            f"--max-rejected: received {max_rejected}; accepted: 0 to 1"
        )
    start = time.perf_counter()
    with info_lines():
        source = find(
            _version(model, to),
            logs,
            load(config) if config else None,
            since,
            until,
        )
        if max_rejected is not None:
            source = replace(source, max_rejected=max_rejected)
        summary = job.score(source, output, beam)
    seconds = time.perf_counter() - start
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(valid_json.dumps({**summary, "out": str(output.folder)}))
        return 0
    means = {name: summary[f"mean_{name}"] for name in summary["outputs"]}
    told = ", ".join(
        f"{name} {'none' if mean is None else f'{mean:.5f}'}"
        for name, mean in means.items()
    )
    print(
        f"{summary['scored']:,} rows by version {summary['version']},"
        f" {summary['rejected']:,} rejected, mean {told}, in {seconds:.1f} s:"
        f" {output.folder}"
    )
    for reason, count in list(summary["reasons"].items())[:5]:
        print(f"{count:12,}  {reason}")
    return 0


def _version(model: str, to: str) -> str:
    """The folder of a version whose files hold."""
    path = Path(model)
    above, _, last = model.rstrip("/").rpartition("/")
    if is_store(model) and version_number(last) is not None:
        return _copied(above, int(last))
    if (path / "saved_model.pb").exists() and path.resolve().name.isdigit():
        if reason := model_store.fault(model):
            raise RefusedError(f"{model}: {reason}")
        return model
    with errors_of(model, to):
        base = folder_of(model, to)
        version = model_store.served(base)
    if version is not None and is_store(base):
        return _copied(base, version)
    if version is None:
        raise RefusedError(
            f"no version in {base} holds: lionctr models {model} verify"
        )
    return model_store.path_of(base, version)


def _copied(base: str, version: int) -> str:
    """A copy of a version in an object store, whose files hold.

    Raises:
        InputError: the store does not answer, or has no such version.
        RefusedError: the version does not hold.
    """
    with object_store.named(base):
        copy = str(StoreVersions(base).version(version))
    if not Path(copy).is_dir():
        raise InputError(
            f"{base}: no version {version}. Accepted:"
            f" {', '.join(map(str, model_store.versions(base))) or 'none'}"
        )
    if reason := model_store.fault(copy):
        raise RefusedError(f"{base}/{version}: {reason}")
    return copy
