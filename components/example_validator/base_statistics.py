"""The data of the newest pushed model, with which a run's data are compared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from components import model_store

_TRAIN = os.path.join("Split-train", "FeatureStats.pb")


@dataclass(frozen=True)
class Base:
    """A pushed version and the statistics of its train split.

    version: its number, or None where there is no such model.
    statistics: None where there are none.
    why: in words, where there are none.
    identity: of the version; another one for another base.
    """

    version: int | None = None
    statistics: Any = None
    why: str = ""
    identity: str = ""


def find(pushed_to: str, statistics: str) -> Base:
    """The served version, or the next one if that has this run's data.

    A run that is repeated is compared with what it was compared with at first.

    Args:
        pushed_to: folder of the versions.
        statistics: folder of this run's statistics.
    """
    ours = _read(os.path.join(statistics, _TRAIN))
    for version in model_store.candidates(pushed_to):
        model = model_store.path_of(pushed_to, version)
        identity = model_store.export_id(model)
        folder = model_store.statistics_folder(pushed_to, identity)
        where = f"version {version} of {pushed_to}"
        key = f"{model} {identity}"
        content = _read(os.path.join(folder, _TRAIN)) if identity else None
        if content is None:
            return Base(
                version,
                why=f"{where} is pushed, but {folder} has no statistics of its"
                " data; they are kept from the next push on",
                identity=key,
            )
        if content == ours:
            continue
        try:
            found = statistics_pb2.DatasetFeatureStatisticsList.FromString(
                content
            )
        except DecodeError:
            return Base(
                version,
                why=f"the statistics of {where} in {folder} are damaged",
                identity=f"{key} damaged",
            )
        return Base(version, found, identity=f"{key} statistics")
    return Base(why=f"no model of other data is in {pushed_to}")


def _read(path: str) -> bytes | None:
    files = model_store.files_of(path)
    if not files.exists(path):
        return None
    with files.open(path, "rb") as file:
        content: bytes = file.read()
    return content
