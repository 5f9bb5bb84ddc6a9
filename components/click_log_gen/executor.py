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

from components.click_log_gen import chunks, convert
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

        survey = []
        if data.split.by != "hash":
            path = os.path.join(rejected.uri, "survey.json")
            self._map(plan, "Survey", convert.survey, path, data=data)
            survey = _read_json(path)
            FileSystems.delete([path])
        cut = convert.find_cut(survey, data.split)
        job = convert.Job(data, columns, folders, len(plan), cut)
        path = os.path.join(rejected.uri, COUNTS)
        self._map(plan, "Convert", convert.run, path, job=job)
        parts = _read_json(path)
        counts = _total(parts)
        _write_json(counts, path)
        _check(counts, data)
        for name in ("read", "kept", "rejected", *SPLITS):
            examples.set_int_custom_property(name, counts[name])

    def _map(
        self,
        plan: list[Chunk],
        label: str,
        work: Callable[..., dict[str, Any]],
        path: str,
        **arguments: Any,
    ) -> None:
        """Runs `work` on each chunk on Beam; writes the results to `path`."""
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Chunks" >> beam.Create(plan)
                | "Spread" >> beam.Reshuffle()
                | label >> beam.Map(work, **arguments)
                | "Collect" >> beam.combiners.ToList()
                | "Write" >> beam.Map(_write_json, path)
            )


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
    for part in sorted(parts, key=lambda part: part["chunk"]):
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
    for split in SPLITS:
        if counts[split] == 0:
            raise InputError(
                f"The {split} split is empty: {counts['kept']:,} rows, split"
                f" by {data.split.by} with eval {data.split.eval}. Change"
                " data.split.eval or data.split.by"
            )
