"""ClickLogGen's work: a Beam pipeline over chunks of the logs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from components.click_log_gen import chunks, convert, split
from components.click_log_gen.chunks import Chunk
from components.click_log_gen.config import DataConfig
from models.errors import InputError

SPLITS = ("train", "eval")
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
        data = DataConfig.model_validate_json(exec_properties["data"])
        columns = {
            name: (kind, separator)
            for name, (kind, separator) in json.loads(
                exec_properties["columns"]
            ).items()
        }
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        rejected = artifact_utils.get_single_instance(output_dict["rejected"])
        plan = chunks.plan(data.impressions)
        if not plan:
            raise InputError(
                f"{', '.join(data.impressions.path)}: every file is empty"
            )
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        folders = {
            split: artifact_utils.get_split_uri([examples], split)
            for split in SPLITS
        }
        folders["rejected"] = rejected.uri
        for folder in folders.values():
            if not FileSystems.exists(folder):
                FileSystems.mkdirs(folder)

        path = os.path.join(rejected.uri, COUNTS)
        surveys: list[dict[str, Any]] = []
        if data.split.by != "hash":
            surveys = self._map(plan, "Survey", split.survey, path, data=data)
        cut = split.find_cut(surveys, data.split)
        job = convert.Job(data, columns, folders, len(plan), cut)
        parts = self._map(plan, "Convert", convert.run, path, job=job)
        counts = _total(parts)
        _write_json(counts, path)
        _check(counts, data)
        _check_columns(parts, data)
        for name in ("read", "kept", "rejected", *SPLITS):
            examples.set_int_custom_property(name, counts[name])

    def _map(
        self,
        plan: list[Chunk],
        label: str,
        work: Callable[..., dict[str, Any]],
        path: str,
        **arguments: Any,
    ) -> list[dict[str, Any]]:
        """`work` on each chunk, on Beam; the results come by way of `path`."""
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Chunks" >> beam.Create(plan)
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


def _guarded(
    chunk: Chunk, work: Callable[..., dict[str, Any]], **arguments: Any
) -> dict[str, Any]:
    """The result of `work`; an InputError as one, because runners lose it."""
    try:
        return work(chunk, **arguments)
    except InputError as error:
        return {"chunk": chunk.number, "error": str(error)}


def _write_json(value: Any, path: str) -> None:
    with FileSystems.create(path) as stream:
        stream.write(json.dumps(value, indent=1).encode())


def _read_json(path: str) -> Any:
    with FileSystems.open(path) as stream:
        return json.loads(stream.read())


def _total(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums the counts of all chunks; keeps one example of each reason."""
    numbers: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    examples: dict[str, Any] = {}
    for part in parts:
        numbers.update(part["counts"])
        reasons.update(part["reasons"])
        for reason, example in part["examples"].items():
            examples.setdefault(reason, example)
    names = ("read", "kept", "rejected", *SPLITS)
    return {
        **{name: numbers[name] for name in names},
        "positives": {s: numbers[f"positives_{s}"] for s in SPLITS},
        "reasons": dict(reasons.most_common()),
        "examples": examples,
    }


def _check(counts: dict[str, Any], data: DataConfig) -> None:
    """Stops on too many rejected rows or an empty split."""
    read, rejected = counts["read"], counts["rejected"]
    if read == 0:
        raise InputError(
            f"{', '.join(data.impressions.path)}: no rows in any file"
        )
    if rejected > data.max_rejected * read:
        lines = [
            f"  {count:,} x {reason}; first at"
            f" {counts['examples'][reason]['file']},"
            f" {counts['examples'][reason]['where']}:"
            f" {counts['examples'][reason]['row']}"
            for reason, count in list(counts["reasons"].items())[:5]
        ]
        raise InputError(
            f"{rejected:,} of {read:,} rows ({rejected / read:.2%}) were"
            " rejected; data.max_rejected accepts"
            f" {data.max_rejected:.2%}. The commonest reasons:\n"
            + "\n".join(lines)
        )
    for name in SPLITS:
        if counts[name] == 0:
            raise InputError(
                f"The {name} split is empty: {counts['kept']:,} rows, split"
                f" by {data.split.by} with eval {data.split.eval}. Change"
                " data.split.eval or data.split.by"
            )


def _check_columns(parts: list[dict[str, Any]], data: DataConfig) -> None:
    """Stops where a format without a list of columns never had one."""
    absent = set.intersection(*(set(part["absent"]) for part in parts))
    if absent and data.impressions.format in ("jsonl", "tfrecord"):
        raise InputError(
            f"{', '.join(data.impressions.path)}: no row has a value for"
            f" {', '.join(sorted(absent))}"
        )
