"""Ledgers of sightings: those of the run before, and those of this one."""

from __future__ import annotations

import json
import logging
import os

from tfx.dsl.io import fileio

from components import model_store, verified_copy
from models.config.training import Features
from models.preprocessing import ledger_file
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
    names = _names(features)
    if not names:
        return ""
    folder = os.path.join(work, ledger_file.FOLDER)
    fileio.makedirs(folder)
    if not state:
        log.info(
            "admission: counts begin with this run; there is no earlier model"
            " with the state of its training",
            extra=_KEEP,
        )
        return folder
    for table, name in names.items():
        if reason := _fetched(state, name, folder):
            log.warning(
                "admission: %s: no counts of earlier days: %s. They begin with"
                " this run; values that it does not admit have no row",
                table,
                reason,
                extra=_KEEP,
            )
    return folder


def _fetched(state: str, name: str, folder: str) -> str:
    """Copies the ledger of a vocabulary; "" or why there is none."""
    source = ledger_file.path_of(os.path.join(state, ledger_file.FOLDER), name)
    if not model_store.files_of(source).exists(source):
        return f"{state} has none of it"
    target = ledger_file.path_of(folder, name)
    verified_copy.copy_file(source, target)
    try:
        ledger_file.read(folder, name)
    except ledger_file.DamagedError as error:
        fileio.remove(target)
        return f"{source} cannot be used: {error}"
    return ""


def keep(features: Features, found: str, graph: str) -> None:
    """Puts the ledgers that the analysis left beside the graph; tells them."""
    names = _names(features)
    if not names:
        return
    source, target = (
        os.path.join(f, ledger_file.FOLDER) for f in (found, graph)
    )
    fileio.makedirs(target)
    told = {}
    for table, name in names.items():
        fileio.copy(
            ledger_file.path_of(source, name),
            ledger_file.path_of(target, name),
            overwrite=True,
        )
        told[table] = one = ledger_file.tally(source, name)
        outside = one.pop("outside")
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
        if outside > 0.5:
            log.warning(
                "admission: %s: %.0f%% of the rows are of days that do not"
                " count: the window ends with %s. If that day is wrong, a run"
                " read times of a wrong clock: roll back to the version before"
                " it, and run again",
                table,
                100 * outside,
                one["day"],
                extra=_KEEP,
            )
    with fileio.open(os.path.join(target, ledger_file.TALLIES), "w") as file:
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
