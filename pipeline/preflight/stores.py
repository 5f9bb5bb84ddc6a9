"""Checks of object stores before a run: whether a library can open them."""

from __future__ import annotations

from collections.abc import Iterator

from models.config.paths import is_local
from pipeline.config import PipelineConfig


def problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    """Field and message of URIs that Beam, or TensorFlow, cannot open."""
    read = {"data.curated_schema": config.data.curated_schema}
    for name, log in config.data.logs.items():
        read[f"data.{name}.path"] = next(
            (p for p in log.path if "://" in p), None
        )
    written = {
        "push.to": config.push.to,
        "transform.cache": config.transform.cache,
        "train.warm_start": config.train.warm_start,
    }
    for library, fields in (("Beam", read), ("TensorFlow", written)):
        for field, uri in fields.items():
            if uri is None or is_local(uri):
                continue
            known = _beam_knows if library == "Beam" else _tensorflow_knows
            scheme = uri.partition("://")[0]
            if not known(uri, scheme):
                yield (
                    field,
                    (
                        f"received {uri!r}: {library} has no file system for"
                        f" {scheme}:// here. Accepted: a path of this machine,"
                        " gs://, or what a library adds to it"
                    ),
                )


def _beam_knows(uri: str, _: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(uri)
    except Exception:  # not there, or without the library that it needs
        return False
    return True


def _tensorflow_knows(_: str, scheme: str) -> bool:
    from tensorflow.io import gfile

    return scheme in gfile.get_registered_schemes()
