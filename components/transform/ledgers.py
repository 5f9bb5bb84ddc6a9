"""Ledgers of sightings: those of the run before, and those of this one."""

from __future__ import annotations

import json
import logging
import os

from tfx.dsl.io import fileio

from components import model_store, verified_copy
from models.config.training import Features
from models.preprocessing import admission
from models.preprocessing.preprocessing_fn import (
    by_vocabulary,
    vocabularies,
)

log = logging.getLogger("lionctr.transform")
_KEEP = {"keep": True}  # the run shows the line to its user


def fetched(features: Features, state: str | None, work: str) -> str:
    """Folder with copies of the ledgers of the run before; "": none.

    Args:
        features: the config section.
        state: folder of a training's state.
        work: folder of what is not kept.
    """
    wanted = features.admitted()
    if not wanted:
        return ""
    folder = os.path.join(work, admission.FOLDER)
    fileio.makedirs(folder)
    missing = []
    for table, name in _names(features).items():
        file = admission.file_of(name)
        source = os.path.join(state or "", admission.FOLDER, file)
        if state and model_store.files_of(source).exists(source):
            verified_copy.copy_file(source, os.path.join(folder, file))
        else:
            missing.append(table)
    if missing:
        log.warning(
            "admission: no counts of earlier days of %s: %s. They begin with"
            " this run",
            ", ".join(missing),
            f"{state} has none" if state else "there is no earlier model",
            extra=_KEEP,
        )
    return folder


def keep(features: Features, found: str, graph: str) -> None:
    """Puts the ledgers that the analysis left beside the graph; tells them."""
    names = _names(features)
    if not names:
        return
    source, target = (os.path.join(f, admission.FOLDER) for f in (found, graph))
    fileio.makedirs(target)
    told = {}
    for table, name in names.items():
        file = admission.file_of(name)
        fileio.copy(
            os.path.join(source, file), os.path.join(target, file), True
        )
        told[table] = one = admission.tally(source, name)
        log.info(
            "admission: %s: %s known, %s admitted (%s new), %s waiting, %s"
            " evicted, %s capped, %s forgotten, up to %s",
            table,
            *(
                f"{one[key]:,}"
                for key in (
                    "known",
                    "admitted",
                    "new",
                    "waiting",
                    "evicted",
                    "capped",
                    "forgotten",
                )
            ),
            one["day"],
            extra=_KEEP,
        )
    with fileio.open(os.path.join(target, admission.TALLIES), "w") as file:
        file.write(json.dumps(told))


def _names(features: Features) -> dict[str, str]:
    """Table whose vocabulary is admitted -> name of its file."""
    return {
        table: wanted.file_name
        for table, wanted in zip(
            by_vocabulary(features), vocabularies(features), strict=True
        )
        if wanted.admission is not None
    }
