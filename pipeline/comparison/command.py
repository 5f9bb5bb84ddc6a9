"""Compares optimizers and models: search on eval rows, judged on test rows."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from models import valid_json
from models.config.labels import CTR, outputs
from optimizers.config.catalog import names
from optimizers.config.defaults import resolved
from pipeline.code_version import code_version
from pipeline.comparison import candidates
from pipeline.comparison.candidates import LOGISTIC, Contender
from pipeline.config import ConfigError, PipelineConfig, load
from pipeline.console import Console, notes, quiet, written
from pipeline.runners import local
from pipeline.runners.run_folder import home_of, only_one
from pipeline.runners.versions import user_version

if TYPE_CHECKING:
    from pipeline.comparison.progress import Progress
    from pipeline.comparison.trainings import Data, Trainings

RESULTS, PLOT = "compare.json", "compare.png"
OPTIMIZERS = "lion,adamw,adagrad,ftrl"


def compare(
    path: Path,
    overrides: Sequence[str],
    optimizers: str,
    models: str,
    seeds: int,
    out: Path | None,
    as_json: bool,
    output: str = CTR,
) -> int:
    """Compares on the data of the config at `path`; returns the exit code.

    Without `models`, optimizers with the config's model. With them, models
    with each of `optimizers`, or "" for the config's. A logistic regression
    comes first. Of several labels, settings are chosen by `output`; all of the
    outputs are judged.

    Leaves `compare.json`, `compare.png`, TensorBoard's logs and a record of
    each training in `out`, by default `<root>/<name>/compare`.

    Raises:
        ConfigError: the config or an argument is wrong.
        InputError: the data is.
    """
    chosen = _chosen(optimizers or ("" if models else OPTIMIZERS))
    if seeds < 1:
        raise ConfigError(f"--seeds: received {seeds}; accepted: 1 or more")
    config = load(path, overrides)
    labels = config.data.trained_labels
    answers = [one.name for one in outputs(labels)]
    if output not in answers:
        raise ConfigError(
            f"--output: received {output!r}; accepted: {', '.join(answers)}"
        )
    numbers = config.resolved()["features"]["numeric"]
    architectures = []
    if models:
        with_sequences = bool(config.features.sequences)
        architectures = candidates.models(
            models,
            with_sequences,
            config.model.name,
            any(map(candidates.is_plain, numbers)),
            labels,
        )
    if not config.data.split.test:
        # Reported rows must not be those that settings were chosen by.
        share = config.data.split.eval
        overrides = [*overrides, f"data.split.test={share}"]
        config = load(path, overrides)
    ways = {candidates.numbers_of(name) for name in architectures}
    variants = {
        way: load(path, [*overrides, _numeric(way, numbers)])
        for way in sorted(ways - {""})
    }
    settings = ("--out",) if out else ("root", "name")
    out = out or home_of(config) / "compare"
    with only_one(out, settings):
        (out / "config.yaml").write_text(
            yaml.safe_dump(config.resolved(), sort_keys=False), "utf-8"
        )
        with quiet(out / "log.txt") as (stdout, stderr):
            console = Console(stderr)
            try:
                results = _results(
                    config,
                    variants,
                    chosen,
                    architectures,
                    seeds,
                    out,
                    console,
                    output,
                )
                from pipeline.comparison import report

                text = valid_json.dumps(results)
                report.plot(results, out / PLOT)
                (out / RESULTS).write_text(text + "\n", "utf-8")
                shown = text if as_json else "\n" + report.table(results)
            except Exception:
                traceback.print_exc()
                raise
            stdout.write(shown + "\n")
            console.line(f"\n  plot {out / PLOT}\n  results {out / RESULTS}")
            tested = all(one["test"] for one in report.lines(results).values())
            return written(stdout, console) if tested else 1


def _chosen(optimizers: str) -> list[str]:
    chosen = [name.strip() for name in optimizers.split(",") if optimizers]
    for name in chosen:
        if name not in names():
            raise ConfigError(
                f"--optimizers: received {name!r}; accepted: some of"
                f" {', '.join(names())}, with commas between"
            )
    return list(dict.fromkeys(chosen))


def _numeric(way: str, numbers: Sequence[Mapping[str, Any]]) -> str:
    """The override of the numbers, for `load`."""
    section = candidates.numbers_as(way, numbers)
    text = yaml.safe_dump(section, allow_unicode=True, width=1 << 30)
    return f"features.numeric={text}"


def _results(
    config: PipelineConfig,
    variants: Mapping[str, PipelineConfig],
    chosen: Sequence[str],
    architectures: Sequence[str],
    seeds: int,
    out: Path,
    console: Console,
    output: str,
) -> dict[str, Any]:
    with notes(console):
        made = local.prepare(config, console)
        from pipeline.comparison import baseline, report
        from pipeline.comparison.intervals import judge
        from pipeline.comparison.progress import Progress
        from pipeline.comparison.trainings import Data, Trainings

        code = (
            code_version("models.trainer")
            + code_version("models.training.logistic_regression")
            + user_version(config)
        )
        labels = config.data.trained_labels
        data = Data.of(made, config.evaluate, out, code, console, labels)
        sections = config.sections()
        own = Trainings("", _sections(config), data, output)
        first = baseline.record(_sections(config), data)
        line = {"on_edge": False, "tried": [], "model": {"name": LOGISTIC}}
        line["rows"] = first.get("rows")
        line |= {"optimizer": first["optimizer"]} | _measured([first], own)
        found: dict[str, Any] = {"baseline": {LOGISTIC: line}}
        contenders = candidates.contenders(
            config.model, sections["optimizer"], architectures, chosen
        )
        progress = Progress(len(contenders or chosen), console)
        if architectures:
            lines: dict[str, Any] = {}
            for way, its in {"": config, **variants}.items():
                if way:  # another Transform, of the same rows
                    made = local.prepare(its, console)
                    data = Data.of(
                        made, its.evaluate, out, code, console, labels
                    )
                some = [c for c in contenders if c.numbers == way]
                lines |= _each(its, some, data, seeds, output, progress)
            found["models"] = {c.label: lines[c.label] for c in contenders}
        else:
            lines = {}
            for name, best in _search(own.optimizer, chosen, own):
                lines[name] = _tested(best, own, seeds)
                progress.ended(name, *own.taken())
            found["optimizers"] = {name: lines[name] for name in chosen}
    confidence = config.evaluate.confidence
    judge(report.lines(found), LOGISTIC, confidence)
    for name in data.rows.keys() - {output}:
        others = {k: v["outputs"][name] for k, v in report.lines(found).items()}
        judge(others, LOGISTIC, confidence)
    counts = Path(made["ClickLogGen"]["rejected"]) / "counts.json"
    rows = json.loads(counts.read_text("utf-8"))
    return {
        "name": config.name,
        "config_sha256": config.sha256(),
        "rows": {n: rows[n] for n in config.data.split.names},
        "budget": {
            "steps": own.steps,
            "epochs": own.train["epochs"],
            "batch_size": own.train["batch_size"],
        },
        "seeds": seeds,
        "searched_by": own.searched_by,
        "output": output,
        "confidence": confidence,
        "unit": data.unit,
        **found,
    }


def _sections(config: PipelineConfig) -> dict[str, Any]:
    """Sections of the config that a training takes."""
    sections = config.sections()
    names = ("features", "model", "optimizer", "train")
    labels = [asdict(label) for label in config.data.trained_labels]
    return {
        **{name: sections[name] for name in names},
        "negatives": sections["data"]["negatives"],
        **({"labels": labels} if labels else {}),
    }


def _each(
    config: PipelineConfig,
    contenders: Sequence[Contender],
    data: Data,
    seeds: int,
    output: str,
    progress: Progress,
) -> dict[str, Any]:
    """Label -> what a contender reaches, from what `run` would use on."""
    from pipeline.comparison.trainings import Trainings

    found = {}
    for one in contenders:
        sections = _sections(config)
        sections |= {"model": one.model, "optimizer": one.optimizer}
        trainings = Trainings(one.label, sections, data, output)
        tried = Tried(trainings)
        best, on_edge = candidates.search(resolved(trainings.optimizer), tried)
        found[one.label] = _tested(
            tried.record(best, on_edge), trainings, seeds
        )
        found[one.label]["model"] = trainings.model
        progress.ended(one.label, *trainings.taken())
    return found


class Tried:
    """The value that a search lowers, of settings trained once each."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings
        self._losses: dict[str, float] = {}

    def __call__(self, spec: dict[str, Any]) -> float:
        """The loss with the optimizer's section."""
        full = resolved(spec)
        key = json.dumps(full, sort_keys=True)
        if key not in self._losses:
            self._losses[key] = self._trainings.eval_loss(full)
        return self._losses[key]

    def record(self, best: Mapping[str, Any], on_edge: bool) -> dict[str, Any]:
        """The best settings in full, and all that were tried."""
        by = self._trainings.searched_by
        return {
            "optimizer": resolved(best),
            "on_edge": on_edge,
            "tried": [
                {
                    "optimizer": json.loads(key),
                    f"eval_{by}": value if by == "logloss" else 1 - value,
                }
                for key, value in self._losses.items()
            ],
        }


def _search(
    config: Mapping[str, Any], chosen: Sequence[str], trainings: Trainings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The best settings of each optimizer, in full, and all that were tried.

    config: the optimizer's section; what `run` would train with is tried too.
    """
    found: dict[str, dict[str, Any]] = {}
    # Lion's are derived from AdamW's best.
    for name in sorted(chosen, key=lambda name: name != "adamw"):
        adamw = found.get("adamw", {}).get("optimizer")
        loss = Tried(trainings)
        best, on_edge = candidates.search(
            candidates.start(name, config, adamw), loss
        )
        if name == config.get("name") and loss(dict(config)) < loss(best):
            best, on_edge = dict(config), False
        found[name] = loss.record(best, on_edge)
        yield name, found[name]


def _tested(
    found: dict[str, Any], trainings: Trainings, seeds: int
) -> dict[str, Any]:
    """Adds what the best settings reach on test rows, over the seeds."""
    records = [
        trainings.test(found["optimizer"], number)
        for number in range(1, seeds + 1)
    ]
    return {**found, **_measured(records, trainings)}


def _measured(
    records: Sequence[Mapping[str, Any]], trainings: Trainings
) -> dict[str, Any]:
    """The part of a line that records of trainings make.

    `outputs` are those besides the one that the search goes by.
    """
    from pipeline.comparison.report import spread

    ended = [r for r in records if "failed" not in r]

    def judged(output: str) -> dict[str, Any]:
        some = [record["outputs"][output] for record in ended]
        return {
            "test": {
                metric: spread([one["test"][metric] for one in some])
                for metric in (some[0]["test"] if some else ())
            },
            "replicates": [one["replicates"] for one in some],
        }

    first, *others = trainings.outputs
    return {
        **judged(first),
        "outputs": {name: judged(name) for name in others},
        "seconds": spread([r["train_seconds"] for r in ended] or [0.0]),
        "slot_bytes": ended[0]["slot_bytes"] if ended else None,
        "failed": [r["failed"] for r in records if "failed" in r],
        "curves": [r["curve"] for r in ended if r["curve"]],
    }
