"""ClickLogGen's work: a Beam pipeline over chunks of the logs."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from components.click_log_gen import checks, stages
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.files import spans
from models.config.paths import is_local, literal
from models.config.sequences import SequenceFeature
from models.errors import InputError
from models.input_pipeline.row_counts import ROWS, WEIGHTS

COUNTS = "counts.json"
log = logging.getLogger("lionctr.ingest")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads, labels, splits and writes; stops past `max_rejected`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            InputError: no file, too many rejected rows, an empty split, labels
                of one class.
        """
        asked = DataConfig.model_validate_json(exec_properties["data"])
        data, versions = spans.resolved(asked)
        train_times = bool(exec_properties.get("times"))
        columns = json.loads(exec_properties["columns"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        rejected = artifact_utils.get_single_instance(output_dict["rejected"])
        examples.split_names = artifact_utils.encode_split_names(
            list(data.split.names)
        )
        folders = {
            name: artifact_utils.get_split_uri([examples], name)
            for name in data.split.names
        }
        folders["rejected"] = rejected.uri
        for folder in folders.values():
            _remove(folder)  # what a try left that was killed
            FileSystems.mkdirs(folder)

        path = os.path.join(rejected.uri, COUNTS)
        with _temporary(os.path.join(rejected.uri, "work")) as work:
            outcome = stages.ingest(
                data,
                columns,
                stages.Places(folders, work),
                functools.partial(self._each, path=path),
                json.loads(exec_properties["ranges"]),
                [
                    SequenceFeature.model_validate(one)
                    for one in json.loads(exec_properties["histories"])
                ],
                train_times,
                spans.days(asked) if train_times else {},
            )
        counts = outcome.counts
        counts["warnings"] = checks.warnings(counts, data)
        _write_json(counts, path)
        try:
            checks.check(counts, data)
        except InputError as error:
            raise _with_rows(error, rejected.uri) from error
        for paths, names in outcome.absent.items():
            raise InputError(
                f"{paths}: no row has a value for {', '.join(names)}"
            )
        for warning in counts["warnings"]:
            log.warning("%s", warning)
        _write_json(
            {name: counts[name] for name in data.split.names},
            os.path.join(examples.uri, ROWS),
        )
        if "weights" in counts:
            _write_json(counts["weights"], os.path.join(examples.uri, WEIGHTS))
        for name in ("read", "kept", "rejected", *data.split.names):
            examples.set_int_custom_property(name, counts[name])
        if versions:
            examples.span = max(versions)
            examples.version = versions[max(versions)]
            examples.set_int_custom_property("first_span", min(versions))
            examples.set_int_custom_property("spans", len(versions))

    def _each(
        self,
        pieces: Sequence[Any],
        label: str,
        work: Callable[..., dict[str, Any]],
        path: str,
        **arguments: Any,
    ) -> list[dict[str, Any]]:
        """`work` on each piece, on Beam; the results come by way of `path`."""
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Pieces" >> beam.Create(pieces)
                | "Spread" >> beam.Reshuffle()
                | label >> beam.Map(_guarded, work, **arguments)
                | "Collect" >> beam.combiners.ToList()
                | "Write" >> beam.Map(_write_json, path)
            )
        results: list[dict[str, Any]] = _read_json(path)
        results.sort(key=lambda result: int(result["chunk"]))
        errors = [r["error"] for r in results if "error" in r]
        if errors:
            # One file may have many chunks, and one mistake many files.
            raise InputError("\n".join(list(dict.fromkeys(errors))[:5]))
        return results


@contextmanager
def _temporary(folder: str) -> Iterator[str]:
    """A folder that is gone in the end, whatever happens."""
    _remove(folder)  # of a try that was killed
    FileSystems.mkdirs(folder)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: str) -> None:
    """Removes a folder's files, and it, where there are folders."""
    if is_local(folder):  # Beam would take its name for a glob
        if os.path.isdir(folder):  # noqa: PTH112 (it may be a URI)
            shutil.rmtree(folder)
        return
    found = FileSystems.match([os.path.join(folder, "*")])[0].metadata_list
    if found:
        FileSystems.delete([file.path for file in found])
    if FileSystems.exists(folder):
        FileSystems.delete([folder])


def _guarded(
    piece: Any, work: Callable[..., dict[str, Any]], **arguments: Any
) -> dict[str, Any]:
    """The result of `work`; an InputError as one, because runners lose it."""
    try:
        return work(piece, **arguments)
    except InputError as error:
        return {"chunk": piece.number, "error": str(error)}


def _write_json(value: Any, path: str) -> None:
    with FileSystems.create(path) as stream:
        stream.write(json.dumps(value, indent=1).encode())


def _read_json(path: str) -> Any:
    with FileSystems.open(path) as stream:
        return json.loads(stream.read())


def _with_rows(error: InputError, uri: str) -> InputError:
    """`error`, and the rejected rows where TFX does not remove them."""
    kept = f"{uri.rstrip('/')}-refused"
    (found,) = FileSystems.match([os.path.join(literal(uri), "*.json*")])
    paths = [item.path for item in found.metadata_list]
    if len(paths) < 2:  # only counts
        return error
    _remove(kept)  # of a try before
    FileSystems.mkdirs(kept)
    names = [os.path.join(kept, path.rpartition("/")[2]) for path in paths]
    FileSystems.rename(paths, names)
    extended = InputError(f"{error}\nRejected rows: lionctr rejected {kept}")
    extended.rejected = kept
    return extended
