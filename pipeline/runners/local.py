"""Runs a pipeline on this machine, component by component."""

from __future__ import annotations

import datetime
import signal
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from models import valid_json
from models.config.labels import outputs
from models.config.metric_registry import REGISTERED
from models.errors import FailedError, InputError, RefusedError
from pipeline import beam, counts
from pipeline.config import PipelineConfig
from pipeline.console import Console, notes, quiet, written
from pipeline.preflight import checks
from pipeline.runners import disk, run_table
from pipeline.runners.launch import CompiledPipeline
from pipeline.runners.outputs import Outputs
from pipeline.runners.plain_path import plain, unlinked
from pipeline.runners.run_folder import home_of, new_folder, only_one, write
from pipeline.runners.store import Store
from pipeline.runners.summary import summary as summarized
from pipeline.runners.versions import user_version
from pipeline.runners.watch import Watch, watch


def run(
    config: PipelineConfig, debug: bool = False, as_json: bool = False
) -> int:
    """Runs `config`'s pipeline; returns the exit code.

    Leaves `<root>/<name>/runs/<run id>/` with `summary.json`, `config.yaml`
    and `log.txt`, whatever happens; only a full disk may leave less.
    """
    home = home_of(config)
    with watch(_own_workers(config)) as watched, only_one(home):
        try:
            folder = new_folder(home / "runs")
            (folder / "config.yaml").write_text(
                yaml.safe_dump(config.resolved(), sort_keys=False), "utf-8"
            )
        except OSError as error:
            raise FailedError(
                disk.explain(error, [home])
                or f"root: cannot write to {home}: {error.strerror}"
            ) from error
        with quiet(folder / "log.txt") as (out, err):
            console = Console(err)
            console.line(f"{config.name}: run {folder.name}")
            run = _Run(config, plain(home), folder, console)
            summary = run.go(debug, watched)
            text = valid_json.dumps(summary)
            try:
                write(folder / "summary.json", text)
            except OSError as error:
                console.line(disk.explain(error, [folder]) or str(error))
                summary["status"] = "failed"
            else:
                run.leave_report()
            if as_json:
                out.write(text + "\n")
            return int(_EXIT[summary["status"]]) or written(out, console)


def prepare(
    config: PipelineConfig, console: Console
) -> dict[str, dict[str, str]]:
    """Runs the pipeline as far as Transform; component -> output -> URI.

    What `run` has made is not made again, and the other way round.

    Raises:
        InputError, RefusedError, FailedError: as a run that says so.
    """
    home = home_of(config)
    with only_one(home):
        now = datetime.datetime.now(datetime.UTC)
        folder = home / f"prepare-{now:%Y%m%d-%H%M%S}"
        run = _Run(config, plain(home), folder, console)
        try:
            with watch(_own_workers(config)) as watched, watched.working():
                run._launch(watched, "Transform")
        except (InputError, RefusedError):
            raise
        except Exception as error:
            raise FailedError(run._why(error)) from error
        return run._outputs.uris


_EXIT = {"done": 0, "failed": 1, "refused": 1, "input_error": 2}


class _Run:
    """One run: its pipeline, its progress, what it found out."""

    def __init__(
        self,
        config: PipelineConfig,
        home: Path,
        folder: Path,
        console: Console,
    ) -> None:
        self._config = config
        self._home = home
        self._folder = folder
        self._console = console
        self._outputs = Outputs()
        self._running = ""
        self._store = Store(home)
        self._warned: set[str] = set()

    def go(self, debug: bool, watched: Watch) -> dict[str, Any]:
        """Runs to the end, or to the first failure; returns the summary."""
        console = self._console
        status, message = "done", ""
        try:
            with notes(console), watched.working():
                self._launch(watched)
        except InputError as error:
            status, message = "input_error", str(error)
            self._outputs.rejected = error.rejected
        except RefusedError as error:
            status, message = "refused", str(error)
            self._outputs.refused_checks = error.data_checks or {}
            if self._running == "ServingGate" and not self._outputs.refusals:
                lines = message.splitlines()[1:]
                self._outputs.refusals = [line.strip() for line in lines]
        except (KeyboardInterrupt, SystemExit) as error:
            status, message = "failed", _stopped(error)
        except Exception as error:
            status, message = "failed", self._why(error)
            traceback.print_exc()
            if debug:
                console.line(traceback.format_exc())
        # The folder's own name, where the components saw a link.
        home = self._folder.parent.parent
        found = summarized(
            self._config, self._outputs, self._folder.name, status, message
        )
        summary = unlinked(found, self._home, home)
        done = status == "done"
        for line in (
            run_table.table(summary, self._folder)
            if done
            else run_table.metrics(summary)
        ):
            console.line(line)
        if not done:
            console.line(summary["message"])
            console.line(f"log: {self._folder / 'log.txt'}")
        self._rewrite_config(summary)
        return summary

    def _rewrite_config(self, summary: dict[str, Any]) -> None:
        """Puts what the training used in place of `auto` in `config.yaml`."""
        settings = self._config.resolved()
        for name in ("model", "optimizer", "train"):
            settings[name] = summary[name]
        text = yaml.safe_dump(settings, sort_keys=False)
        try:
            write(self._folder / "config.yaml", text)
        except OSError as error:
            self._console.line(
                f"  warning: config.yaml keeps what was asked for: {error}"
            )

    def leave_report(self) -> None:
        """Writes `report.html`; a failure costs the report alone."""
        try:
            from pipeline.report import page

            path = page.write(self._folder)
        except Exception as error:
            # Standard error is the run's log by now.
            print(f"warning: no report: {error}", file=sys.stderr)
            traceback.print_exc()
            return
        self._console.line(f"  report            {path}")

    def _why(self, error: Exception) -> str:
        """Message about a failure."""
        places = self._places()
        if self._running == "Pusher":
            places.reverse()
        full = disk.explain(error, [*places, self._store.database])
        if full is not None:
            return full
        if isinstance(error, FailedError):
            return str(error)
        return f"{type(error).__name__}: {error}".strip()[:2000]

    def _places(self) -> list[Path]:
        """The folders of this machine that a run writes to."""
        store = self._store
        places = [store.artifacts, store.checkpoints, disk.temporary()]
        others = (self._config.transform.cache, self._config.push.to)
        return places + [Path(p) for p in others if p and "://" not in p]

    def _look_for_room(self, name: str, logs: int) -> None:
        """Warns of little room on the disks; stops where there is none."""
        need = 0
        if name == "ClickLogGen":
            need = logs
        elif name == "Transform":
            folder = Path(self._outputs.uri("ClickLogGen", "examples"))
            files = (p for p in folder.rglob("*") if p.is_file())
            need = sum(p.stat().st_size for p in files)
        for line in disk.check(name, self._places(), need):
            if line not in self._warned:
                self._console.line(f"  {line}")
            self._warned.add(line)

    def _launch(self, watched: Watch, until: str = "") -> None:
        """Runs the components, up to the one that is named."""
        # Mistakes are told before Beam and TFX are imported, which take
        # seconds.
        config = self._config
        checks.quick(config)
        from apache_beam.io.filesystems import FileSystems

        from components.click_log_gen.files.spans import data_version, log_bytes

        beam.open_files(config.runner.beam)
        data = data_version(config.data)
        logs = log_bytes(config.data)
        schema = config.data.curated_schema
        if schema is not None and not FileSystems.exists(schema):
            raise InputError(f"data.curated_schema: no file {schema!r}")
        own = user_version(config), config.evaluate.own_version()
        for line in self._store.tidy():
            self._console.line(f"  {line}")
        self._look_for_room("ClickLogGen", logs)
        with self._console.running("loading TFX"):
            checks.slow(config)
            run = self._folder.name
            pipeline = CompiledPipeline(
                config, self._home, self._store, run, data, *own
            )
        for line in self._store.sweep_checkpoints(pipeline.codes.values()):
            self._console.line(f"  {line}")
        with ExitStack() as prepared:
            self._launch_all(pipeline, watched, until, logs, prepared)

    def _launch_all(
        self,
        pipeline: CompiledPipeline,
        watched: Watch,
        until: str,
        logs: int,
        prepared: ExitStack,
    ) -> None:
        """Runs the components, one after the other."""
        for node in pipeline.nodes:
            watched.leave_if_told()
            name = self._running = node.node_info.id
            self._look_for_room(name, logs)
            self._prepare(node)
            began = time.monotonic()
            try:
                with self._console.running(name):
                    launched = pipeline.launch(node)
            except BaseException:
                self._tell(name, "FAILED", time.monotonic() - began)
                raise
            self._outputs.uris[name] = launched.uris
            self._outputs.pushed = launched.pushed or self._outputs.pushed
            state = "cached" if launched.cached else "done"
            self._tell(name, state, time.monotonic() - began)
            if name == "ClickLogGen":
                self._check_objective()
            if name == "Trainer" and not launched.cached:
                self._prepare_server(prepared)
            if name == until:
                return

    def _prepare_server(self, prepared: ExitStack) -> None:
        """Starts the program of the ServingGate beside the Evaluator."""
        from components.serving_gate import server
        from components.serving_gate.config import lacking

        if self._config.serving_gate.enabled and not lacking():
            prepared.enter_context(server.prepared())

    def _prepare(self, node: Any) -> None:
        """Sets in a component what is known only when its turn comes."""
        name = node.node_info.id
        if name in ("ServingGate", "Pusher"):
            self._stop_if_refused()
        if name == "Pusher":
            # Its files lie outside the artifacts, where the cache
            # does not look; pushing the same model again does nothing.
            node.execution_options.caching_options.enable_cache = False
        if node.node_info.id == "ExampleValidator":
            from components.example_validator.base_statistics import find
            from pipeline import dag

            value = node.parameters.parameters["base"].field_value
            value.string_value = find(
                dag.pushed_to(self._config),
                self._outputs.uri("StatisticsGen", "statistics"),
            ).identity
        if name in ("Baseline", "ServingGate"):
            from components.baseline import executor as baseline
            from components.serving_gate import executor as serving_gate
            from pipeline import dag

            # The served model may change while this one stays the same.
            served = (baseline if name == "Baseline" else serving_gate).served
            value = node.parameters.parameters["served"].field_value
            value.string_value = served(
                dag.pushed_to(self._config),
                self._outputs.uri("Trainer", "model"),
            )

    def _tell(self, name: str, state: str, seconds: float) -> None:
        self._outputs.seconds[name] = round(seconds, 3)
        splits = self._config.data.split.names
        for line in run_table.step(name, state, seconds, self._outputs, splits):
            self._console.line(line)

    def _check_objective(self) -> None:
        """Stops before the search if its objective is not defined."""
        counted = self._outputs.counts()
        tune = self._config.tune
        rows, positives = counted["eval"], counted["positives"]["eval"]
        metric = REGISTERED.get(tune.objective) if tune else None
        if metric is None:
            return
        where = ""
        labels = self._config.data.trained_labels
        for output in outputs(labels)[1:]:
            if tune is not None and tune.output == output.name:
                label = labels[output.label].name
                values = counted["labels"][label]["splits"]["eval"]
                positives = values["positives"]
                if not output.joint:
                    rows = positives + values["negatives"]
                where = f" where {output.name} counts"
        lacks = {"positive": positives == 0, "both": positives in (0, rows)}
        if lacks.get(metric.needs):
            text = (
                f"received {metric.name!r}, but all {rows:,} rows of the eval"
                f" split{where} have the label {int(positives > 0)}; accepted:"
                " logloss"
            )
            raise InputError(self._config.problem("tune.objective", text))

    def _stop_if_refused(self) -> None:
        from components.evaluator.executor import refusals

        outputs = self._outputs
        outputs.refusals = refusals(outputs.uri("Evaluator", "evaluation"))
        if outputs.refusals:
            judged = self._config.data.split.names[-1]
            lines = outputs.refusals + counts.about(outputs.counts(), judged)
            raise RefusedError(
                "The model was refused; nothing was pushed.\n"
                + "\n".join(f"  {line}" for line in lines)
            )


def _stopped(error: BaseException) -> str:
    """Message about a run that a signal ended."""
    number = error.code if isinstance(error, SystemExit) else None
    by = ""
    if isinstance(number, int) and number > 128:
        by = f" by {signal.Signals(number - 128).name}"
    return f"Stopped{by}. Run the same command again to go on."


def _own_workers(config: PipelineConfig) -> bool:
    """True if this process starts Beam's workers."""
    return not any("environment_type" in a for a in config.runner.beam)
