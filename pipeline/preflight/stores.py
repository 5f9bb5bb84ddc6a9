"""Checks of object stores before a run: they can be opened, and answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from models.config.paths import is_local
from pipeline.config import PipelineConfig
from serving.object_store import CREDENTIALS, StoreFiles, is_store


def problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    """Field and message of URIs that cannot be read, or written to."""
    read = {"data.curated_schema": config.data.curated_schema}
    for name, log in config.data.logs.items():
        read[f"data.{name}.path"] = next(
            (p for p in log.path if "://" in p), None
        )
    for field, uri in read.items():
        if uri and not is_local(uri) and not _beam_knows(uri):
            yield field, _unknown(uri, "Beam")
    used = {
        "push.to": config.push.to,
        "transform.cache": config.transform.cache,
        "train.warm_start": config.train.warm_start,
    }
    for field, place in used.items():
        if place is None or is_local(place):
            continue
        if is_store(place):
            read_only = field == "train.warm_start"
            if why := _unusable(place.rstrip("/"), read_only):
                yield field, f"received {place!r}: {why}. {CREDENTIALS}"
        elif not _tensorflow_knows(place):
            yield field, _unknown(place, "TensorFlow")


def _unusable(uri: str, read_only: bool) -> str:
    """Why a place in a store cannot be used; "" if it can."""
    files, probe = StoreFiles(), f"{uri}/.lionctr-{uuid.uuid4().hex}"
    try:
        files.listdir(uri)
        if not read_only:
            with files.open(probe, "w") as file:
                file.write("a run may write here")
            files.remove(probe)
    except OSError as error:
        return str(error)
    return ""


def _unknown(uri: str, library: str) -> str:
    return (
        f"received {uri!r}: {library} has no file system for"
        f" {uri.partition('://')[0]}:// here. Accepted: a path of this"
        " machine, gs://, s3://, or what a library adds to it"
    )


def _beam_knows(uri: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(uri)
    except Exception:  # not there, or without the library that it needs
        return False
    return True


def _tensorflow_knows(uri: str) -> bool:
    from tensorflow.io import gfile

    return uri.partition("://")[0] in gfile.get_registered_schemes()
