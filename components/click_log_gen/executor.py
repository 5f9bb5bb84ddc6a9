"""ClickLogGen's work: a Beam pipeline over chunks of the logs."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from components.click_log_gen import ingest, match, spans
from components.click_log_gen.config import ClickFiles, DataConfig
from models.errors import InputError

COUNTS = "counts.json"


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
            InputError: no file, too many rejected rows, an empty split.
        """
        data, versions = spans.resolved(
            DataConfig.model_validate_json(exec_properties["data"])
        )
        columns = {
            name: (kind, separator)
            for name, (kind, separator) in json.loads(
                exec_properties["columns"]
            ).items()
        }
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
            if not FileSystems.exists(folder):
                FileSystems.mkdirs(folder)

        path = os.path.join(rejected.uri, COUNTS)
        with _temporary(os.path.join(rejected.uri, "work")) as work:
            outcome = ingest.run(
                data,
                columns,
                ingest.Places(folders, work),
                functools.partial(self._each, path=path),
            )
        counts = outcome.counts
        _write_json(counts, path)
        try:
            _check(counts, data)
        except InputError as error:
            raise _with_rows(error, rejected.uri) from error
        for log, names in outcome.absent.items():
            raise InputError(
                f"{log}: no row has a value for {', '.join(names)}"
            )
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
    (found,) = FileSystems.match([os.path.join(uri, "*.json*")])
    paths = [item.path for item in found.metadata_list]
    if len(paths) < 2:  # only counts
        return error
    _remove(kept)  # of a try before
    FileSystems.mkdirs(kept)
    names = [os.path.join(kept, path.rpartition("/")[2]) for path in paths]
    FileSystems.rename(paths, names)
    told = InputError(f"{error}\nRejected rows: lionctr rejected {kept}")
    told.rejected = kept
    return told


def _check(counts: dict[str, Any], data: DataConfig) -> None:
    """Stops on too many rejected rows, a join of nothing, an empty split."""
    if counts["read"] == 0:
        raise InputError(
            f"{', '.join(data.impressions.path)}: no rows in any file"
        )
    _check_rejected(counts, data.max_rejected, "rows")
    if data.clicks is not None:
        _check_join(counts["clicks"], data, data.clicks)
    for name in data.split.names:
        if counts[name] == 0:
            raise InputError(
                f"The {name} split is empty: {counts['kept']:,} rows"
                f"{_left_out(counts)}, split by {data.split.by} with eval"
                f" {data.split.eval}, test {data.split.test}. Change data.split"
            )


def _left_out(counts: dict[str, Any]) -> str:
    """The good rows that went into no split, in brackets; "" without any."""
    ways = {
        "held_back": "held back",
        "gap": "left out by data.split.gap",
        "sampled_out": "left out by data.negatives",
    }
    found = [
        f"{counts[name]:,} {how}"
        for name, how in ways.items()
        if counts.get(name)
    ]
    return f" ({', '.join(found)})" if found else ""


def _check_join(
    clicks: dict[str, Any], data: DataConfig, source: ClickFiles
) -> None:
    _check_rejected(clicks, data.max_rejected, "clicks")
    if clicks["read"] and clicks["orphans"] == clicks["read"]:
        raise InputError(
            f"{', '.join(source.path)}: none of the {clicks['read']:,} clicks"
            " has an impression; are data.clicks.key"
            f" ({', '.join(source.key)}) and its columns in the impressions"
            f" ({', '.join(source.shown_key)}) the right ones?"
        )


def _check_rejected(counts: dict[str, Any], accepted: float, what: str) -> None:
    read, rejected = counts["read"], counts["rejected"]
    if rejected <= accepted * read:
        return
    lines = [
        f"  {count:,} x {reason}; first at"
        f" {counts['examples'][reason]['file']},"
        f" {counts['examples'][reason]['where']}:"
        f" {counts['examples'][reason]['row']}"
        for reason, count in counts["reasons"].items()
        if reason not in match.NO_FAULT
    ]
    raise InputError(
        f"{rejected:,} of {read:,} {what} ({rejected / read:.2%}) were"
        " rejected; data.max_rejected accepts"
        f" {accepted:.2%}. The commonest reasons:\n" + "\n".join(lines[:5])
    )
