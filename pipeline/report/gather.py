"""Content of a report, read from a run without TensorFlow."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from components import data_checks
from models.config.features import MISSING
from models.config.numeric import SHALLOW
from models.config.search_space import decoded
from models.errors import InputError
from pipeline import run_store
from pipeline.run_store import Run, artifact, runs

log = logging.getLogger("lionctr.report")
Curves = dict[str, list[tuple[int, float]]]
Copies = Mapping[str, Mapping[str, str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Feature:
    """A feature's statistics in one split."""

    name: str
    rows: int
    missing: int
    about: str


@dataclass(frozen=True)
class RunData:
    """All that the page shows; what is not there is empty.

    Attributes:
        summary: of `summary.json`.
        counts: of ingest's `counts.json`.
        training: of the Trainer's `training.json`.
        evaluation: of the Evaluator's `evaluation.json`.
        curves: TensorBoard's scalars, tag -> (step, value).
        features: split -> statistics.
        pushed_before: id of the last run before it that pushed a model.
        changes: settings that differ from those of that run.
        checks: of ExampleValidator's `data_checks.json`.
        trials: of the Tuner's `tuner_results.json`, path -> value each.
        lost: what could not be read, and why.
    """

    summary: dict[str, Any]
    counts: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    features: dict[str, list[Feature]] = field(default_factory=dict)
    pushed_before: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    lost: tuple[str, ...] = ()

    def constants(self) -> dict[str, str]:
        """Features that only training sees -> what requests get for them."""
        known = self.summary.get("features") or {}
        return {
            one["name"]: _served(one["serve"])
            for kind in ("numeric", "categorical")
            for one in known.get(kind) or ()
            if isinstance(one, dict) and one.get("serve") is not None
        }


def _served(value: Any) -> str:
    if value == SHALLOW:
        return "left out"
    return "no value" if value == MISSING else str(value)


def gather(folder: Path, copies: Copies | None = None) -> RunData:
    """Reads the run in `folder`; see `page.write`.

    Raises:
        InputError: `folder` has no `summary.json` of a run.
    """
    summary = _json(folder / "summary.json")
    if not summary:
        raise InputError(
            f"{folder}: received a folder without summary.json; accepted: the"
            " folder of a run that has ended"
        )
    lost: list[str] = []

    def read(what: str, function: Callable[[], T], default: T) -> T:
        try:
            return function()
        except Exception as error:
            log.warning("report: %s: %s", what, error)
            lost.append(f"{what}: {type(error).__name__}: {error}")
            return default

    home = folder.parent.parent
    outputs = summary.get("artifacts") or {}

    def place(node: str, output: str, older: str = "") -> Path | None:
        if copies is not None:
            copy = copies.get(node, {}).get(output)
            return Path(copy) if copy else None
        uri = (outputs.get(node) or {}).get(output) or summary.get(older)
        return artifact(home, uri) if uri else None

    trained = place("Trainer", "model_run", "tensorboard")
    rejected = place("ClickLogGen", "rejected", "rejected")
    evaluation = place("Evaluator", "evaluation")
    statistics = place("StatisticsGen", "statistics")
    searched = place("Tuner", "tuner_results")

    def part(where: Path | None, name: str) -> dict[str, Any]:
        if where is None:
            return {}
        return read(name, lambda: _json(where / name), {})

    before: tuple[str, list[dict[str, Any]]] = ("", [])
    before = read("runs before it", lambda: _changes(Run(home, folder)), before)
    return RunData(
        summary,
        part(rejected, "counts.json"),
        part(trained, "training.json"),
        part(evaluation, "evaluation.json"),
        read("TensorBoard", lambda: scalars(trained), {}) if trained else {},
        read("statistics", lambda: feature_statistics(statistics), {})
        if statistics
        else {},
        *before,
        part(place("ExampleValidator", "anomalies"), data_checks.FILE),
        read("tuner_results.json", lambda: trials(searched), [])
        if searched
        else [],
        tuple(lost),
    )


def trials(results: Path) -> list[dict[str, Any]]:
    """The Tuner's trials, the best first: number, score, and their values."""
    text = (results / "tuner_results.json").read_text("utf-8")
    return [
        {"trial": int(one.pop("trial_id")) + 1, "score": one.pop("score")}
        | decoded(one)
        for one in json.loads(text)
    ]


def _changes(run: Run) -> tuple[str, list[dict[str, Any]]]:
    """The last run before it that pushed, and settings that differ."""
    before = [one for one in runs(run.home) if one.id < run.id]
    for one in reversed(before):
        if one.summary.get("pushed_model"):
            return one.id, run_store.changes(one.settings(), run.settings())
    return "", []


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: received no JSON object")
    return found


def scalars(model_run: Path) -> Curves:
    """The scalars of all TensorBoard logs below a folder, by tag and step."""
    from tensorboard.compat.proto import event_pb2

    from components.example_io import tfrecord

    found: dict[str, dict[int, float]] = {}
    for path in sorted(model_run.rglob("*.tfevents.*")):
        with path.open("rb") as stream:
            for record, _ in tfrecord.read(stream, 1 << 20, 0):
                event = event_pb2.Event.FromString(record)
                for value in event.summary.value:
                    number = _number(value)
                    if number is not None:
                        found.setdefault(value.tag, {})[event.step] = number
    return {tag: sorted(points.items()) for tag, points in found.items()}


def _number(value: Any) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    if tensor.float_val:
        return float(tensor.float_val[0])
    if tensor.dtype == 1 and len(tensor.tensor_content) == 4:
        return float(struct.unpack("<f", tensor.tensor_content)[0])
    return None


def feature_statistics(statistics: Path) -> dict[str, list[Feature]]:
    """Split -> features, of StatisticsGen's output."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    found = {}
    for path in sorted(statistics.glob("Split-*/FeatureStats.pb")):
        proto = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            path.read_bytes()
        )
        split = path.parent.name.removeprefix("Split-")
        found[split] = [
            _feature(item)
            for dataset in proto.datasets[:1]
            for item in dataset.features
        ]
    return found


def _feature(item: Any) -> Feature:
    name = item.name or ".".join(item.path.step)
    kind = item.WhichOneof("stats")
    common = getattr(item, kind).common_stats if kind else None
    missing = data_checks.missing(item) if common else 0
    rows = common.num_missing + common.num_non_missing if common else 0
    about = ""
    if kind == "num_stats":
        numbers = item.num_stats
        about = (
            f"mean {numbers.mean:.4g}, deviation {numbers.std_dev:.4g},"
            f" {numbers.min:.4g} to {numbers.max:.4g}"
        )
    elif kind in ("string_stats", "bytes_stats"):
        texts = getattr(item, kind)
        total = max(1, int(common.tot_num_values)) if common else 1
        about = f"{texts.unique:,} values"
        top = getattr(texts, "top_values", [])[:3]
        shown = [
            f"{one.value[:40]} {100 * one.frequency / total:.3g} %"
            for one in top
        ]
        if shown:
            about += f": {', '.join(shown)}"
    return Feature(name, int(rows), missing, about)
