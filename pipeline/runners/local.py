"""Runs a pipeline on this machine, component by component."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import logging
import shlex
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from models import user_code, valid_json
from models.architectures.user_model import own_version
from models.config.search_space import decoded
from models.errors import FailedError, InputError, RefusedError
from pipeline import counts, metrics_table
from pipeline.config import ConfigError, PipelineConfig
from pipeline.console import Console, NoteHandler, quiet
from pipeline.preflight import checks
from pipeline.runners import disk
from pipeline.runners.plain_path import plain, unlinked
from pipeline.runners.store import Store
from pipeline.runners.watch import Watch, watch

_SECTION_WIDTH = 17
_RUN = "%Y%m%d-%H%M%S"


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
            folder = _new_folder(home / "runs")
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
                _write(folder / "summary.json", text)
            except OSError as error:
                console.line(disk.explain(error, [folder]) or str(error))
                summary["status"] = "failed"
            else:
                run.leave_report()
            if as_json:
                out.write(text + "\n")
            return int(_EXIT[summary["status"]])


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
        return run._uris


def home_of(config: PipelineConfig) -> Path:
    """The folder of a pipeline's runs on this machine.

    Raises:
        ConfigError: `root` is an object store.
    """
    if "://" in config.root:
        raise ConfigError(
            f"root: received {config.root!r}; accepted here: a folder of this"
            " machine, such as --set root=runs. Runs on an object store are"
            " Kubeflow's: lionctr submit"
        )
    return Path(config.root) / config.name


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
        self._seconds: dict[str, float] = {}
        self._uris: dict[str, dict[str, str]] = {}
        self._pushed = ""
        self._rejected = ""
        self._running = ""
        self._store = Store(home)
        self._warned: set[str] = set()
        self._refusals: list[str] = []

    def go(self, debug: bool, watched: Watch) -> dict[str, Any]:
        """Runs to the end, or to the first failure; returns the summary."""
        console = self._console
        handler = NoteHandler(console)
        ours = logging.getLogger("lionctr")
        ours.setLevel(logging.INFO)
        ours.addHandler(handler)
        status, message = "done", ""
        try:
            with watched.working():
                self._launch(watched)
        except InputError as error:
            status, message = "input_error", str(error)
            self._rejected = error.rejected
        except RefusedError as error:
            status, message = "refused", str(error)
        except (KeyboardInterrupt, SystemExit) as error:
            status, message = "failed", _stopped(error)
        except Exception as error:
            status, message = "failed", self._why(error)
            traceback.print_exc()
            if debug:
                console.line(traceback.format_exc())
        finally:
            ours.removeHandler(handler)
        # The folder's own name, where the components saw a link.
        home = self._folder.parent.parent
        summary = unlinked(self._summary(status, message), self._home, home)
        if status == "done":
            self._table(summary)
        else:
            self._metrics_table(summary)
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
            _write(self._folder / "config.yaml", text)
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
        """What a person is told of a failure."""
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
            folder = Path(self._uris["ClickLogGen"]["examples"])
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
        checks.quick(self._config)
        from apache_beam.io.filesystems import FileSystems

        from components.click_log_gen.files.spans import data_version, log_bytes

        data = data_version(self._config.data)
        logs = log_bytes(self._config.data)
        schema = self._config.data.curated_schema
        if schema is not None and not FileSystems.exists(schema):
            raise InputError(f"data.curated_schema: no file {schema!r}")
        model = user_version(self._config)
        metrics = self._config.evaluate.own_version()
        for line in self._store.tidy():
            self._console.line(f"  {line}")
        self._look_for_room("ClickLogGen", logs)
        with self._console.running("loading TFX"):
            from tfx.dsl.compiler import compiler
            from tfx.orchestration import metadata
            from tfx.orchestration.local import runner_utils
            from tfx.orchestration.portable import (
                launcher,
                runtime_parameter_utils,
            )

            from components.batching import prefer_large_batches
            from components.warm_start.executor import base_version
            from pipeline import dag

            checks.slow(self._config)
            prefer_large_batches()
            connection = metadata.sqlite_metadata_connection_config(
                str(self._store.database)
            )
            base = base_version(
                self._config.train.warm_start,
                dag.pushed_to(self._config),
                dag.training(self._config, data),
            )
            pipeline = compiler.Compiler().compile(
                dag.create_pipeline(
                    self._config,
                    str(self._store.artifacts),
                    dag.Versions(
                        data,
                        dag.code_versions(),
                        base,
                        model,
                        content_version(schema),
                        metrics,
                    ),
                    connection,
                    analysis_cache=str(self._home / "analysis_cache"),
                    trials=str(self._store.trials),
                    checkpoints=str(self._store.checkpoints),
                )
            )
            runtime_parameter_utils.substitute_runtime_parameter(
                pipeline,
                {"pipeline-run-id": f"{self._folder.name}-{uuid.uuid4().hex}"},
            )
            deployment = runner_utils.extract_local_deployment_config(pipeline)
        for item in pipeline.nodes:
            watched.leave_if_told()
            node = item.pipeline_node
            name = self._running = node.node_info.id
            self._look_for_room(name, logs)
            if name == "Pusher":
                self._stop_if_refused()
                # What it wrote lies outside the artifacts, where the cache
                # does not look; pushing the same model again does nothing.
                node.execution_options.caching_options.enable_cache = False
            if name == "Baseline":
                from components.baseline.executor import served

                # What is served may change while the model stays the same.
                value = node.parameters.parameters["served"].field_value
                value.string_value = served(
                    dag.pushed_to(self._config), self._uris["Trainer"]["model"]
                )
            store = metadata.Metadata(connection)
            began = time.monotonic()
            try:
                with self._console.running(name):
                    info = launcher.Launcher(
                        pipeline_node=node,
                        mlmd_connection=store,
                        pipeline_info=pipeline.pipeline_info,
                        pipeline_runtime_spec=pipeline.runtime_spec,
                        executor_spec=runner_utils.extract_executor_spec(
                            deployment, name
                        ),
                        custom_driver_spec=(
                            runner_utils.extract_custom_driver_spec(
                                deployment, name
                            )
                        ),
                    ).launch()
            except BaseException:
                seconds = time.monotonic() - began
                self._seconds[name] = round(seconds, 3)
                self._state(name, "FAILED", seconds)
                raise
            seconds = time.monotonic() - began
            self._seconds[name] = round(seconds, 3)
            cached = self._remember(name, info, store)
            self._state(name, "cached" if cached else "done", seconds)
            if name == "ClickLogGen":
                self._check_objective()
            if name == until:
                return

    def _remember(self, name: str, info: Any, store: Any) -> bool:
        """Notes where the outputs are; returns whether they were cached."""
        from ml_metadata.proto import metadata_store_pb2
        from tfx.orchestration.portable.mlmd import execution_lib

        with store as handle:
            (execution,) = handle.store.get_executions_by_id(
                [info.execution_id]
            )
            outputs = execution_lib.get_output_artifacts(
                handle, info.execution_id
            )
        self._uris[name] = {
            key: artifacts[0].uri for key, artifacts in outputs.items()
        }
        if name == "Pusher":
            artifact = outputs["pushed_model"][0]
            self._pushed = artifact.get_string_custom_property(
                "pushed_destination"
            )
        return bool(
            execution.last_known_state == metadata_store_pb2.Execution.CACHED
        )

    def _check_objective(self) -> None:
        """Stops before the search if its objective is not defined."""
        counts = self._counts()
        tune = self._config.tune
        rows, positives = counts["eval"], counts["positives"]["eval"]
        if tune and tune.objective == "auc" and positives in (0, rows):
            told = (
                f"received 'auc', but all {rows:,} rows of the eval split have"
                f" the label {int(positives > 0)}; accepted: logloss"
            )
            raise InputError(self._config.problem("tune.objective", told))

    def _state(self, name: str, state: str, seconds: float) -> None:
        rows = ""
        if name == "ClickLogGen" and state != "FAILED":
            rows = f"  {counts.rows(self._counts())}"
        if name == "Tuner" and state != "FAILED":
            best = decoded(self._best())
            rows = "  " + ", ".join(f"{k} {v}" for k, v in best.items())
        if name == "Trainer" and state != "FAILED":
            training = self._training()
            rows = (
                f"  {training['examples']:,} rows in {training['steps']:,}"
                f" steps, {training['train_examples_per_second']:,.0f} a second"
            )
        self._console.line(
            f"  {name:<{_SECTION_WIDTH}} {state:<7} {seconds:7.1f} s{rows}"
        )
        if name == "ClickLogGen" and state != "FAILED":
            splits = self._config.data.split.names
            for line in counts.details(self._counts(), splits):
                self._console.line(f"    {line}")

    def _stop_if_refused(self) -> None:
        from components.evaluator.executor import refusals

        self._refusals = refusals(self._uris["Evaluator"]["evaluation"])
        if self._refusals:
            judged = self._config.data.split.names[-1]
            lines = self._refusals + counts.about(self._counts(), judged)
            raise RefusedError(
                "The model was refused; nothing was pushed.\n"
                + "\n".join(f"  {line}" for line in lines)
            )

    def _counts(self) -> dict[str, Any]:
        uri = self._uris.get("ClickLogGen", {}).get("rejected")
        return _read(uri, "counts.json") if uri else {}

    def _training(self) -> dict[str, Any]:
        uri = self._uris.get("Trainer", {}).get("model_run")
        return _read(uri, "training.json") if uri else {}

    def _best(self) -> dict[str, Any]:
        uri = self._uris["Tuner"]["best_hyperparameters"]
        values: dict[str, Any] = _read(uri, "best_hyperparameters.txt")
        return dict(values["values"])

    def _metrics(self) -> dict[str, Any]:
        uri = self._uris.get("Evaluator", {}).get("evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import metrics

        return metrics(uri)

    def _evaluation(self) -> dict[str, Any]:
        """What `components.evaluator.evaluation` found of all rows."""
        uri = self._uris.get("Evaluator", {}).get("evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import report

        return {
            name: value
            for name, value in report(uri).items()
            if name not in ("slices", "curves")
        }

    def _undefined(self) -> dict[str, str]:
        uri = self._uris.get("Evaluator", {}).get("evaluation")
        if not uri:
            return {}
        from components.evaluator.executor import undefined

        return undefined(uri)

    def _summary(self, status: str, message: str) -> dict[str, Any]:
        counted, training = self._counts(), self._training()
        slices = self._metrics()
        rows = [
            "read", "kept", "rejected", "held_back", "sampled_out", "gap",
            *self._config.data.split.names,
        ]  # fmt: skip
        clicks = counted.get("clicks", {})
        schema = self._uris.get("SchemaGen", {}).get("schema")
        return {
            "status": status,
            "message": message,
            "run": self._folder.name,
            "name": self._config.name,
            "config_sha256": self._config.sha256(),
            "rows": {name: counted.get(name) for name in rows},
            "positives": counted.get("positives", {}),
            "times": counts.times(counted),
            "out_of_range": counted.get("out_of_range", {}),
            "warnings": counted.get("warnings", []),
            "rejected": self._uris.get("ClickLogGen", {}).get(
                "rejected", self._rejected
            )
            or None,
            "rejected_reasons": counted.get("reasons", {}),
            "clicks": {k: n for k, n in clicks.items() if isinstance(n, int)},
            "rejected_click_reasons": clicks.get("reasons", {}),
            "metrics": slices.pop("", {}),
            "slices": slices,
            "undefined": self._undefined(),
            "evaluation": self._evaluation(),
            "blessed": bool(self._uris.get("Evaluator") and not self._refusals),
            "refusals": self._refusals,
            "pushed_model": self._pushed or None,
            **self._settings(training),
            "chosen": training.get("chosen", []),
            "tuned": training.get("tuned", {}),
            "export": training.get("export"),
            "lion_kernel": training.get("lion_kernel"),
            "warm_start": training.get("warm_start"),
            "seconds": self._seconds,
            "train_examples_per_second": training.get(
                "train_examples_per_second"
            ),
            "schema": f"{schema}/schema.pbtxt" if schema else None,
            "tensorboard": self._uris.get("Trainer", {}).get("model_run"),
            "artifacts": self._uris,
        }

    def _settings(self, training: dict[str, Any]) -> dict[str, Any]:
        """The sections of the config, as the training used them."""
        settings = self._config.resolved()
        names = ("data", "features", "model", "optimizer", "train", "evaluate")
        return {name: training.get(name, settings[name]) for name in names}

    def _metrics_table(self, summary: dict[str, Any]) -> None:
        """Shows the metrics, also of a model that was refused."""
        line, undefined = self._console.line, summary["undefined"]
        if not summary["evaluation"]:
            return
        line("")
        for text in metrics_table.lines(summary["evaluation"]):
            line(text)
        if "" in undefined:
            line(f"  not defined       {undefined['']}")
        slices = len(undefined) - ("" in undefined)
        if slices:
            line(
                f"  not defined       AUC of {slices:,} slices, whose rows have"
                " one label"
            )

    def _table(self, summary: dict[str, Any]) -> None:
        line = self._console.line
        self._metrics_table(summary)
        line("")
        rejected = summary["rows"]["rejected"]
        if rejected:
            line(
                f"  rejected rows     {rejected:,}: lionctr rejected"
                f" {shlex.quote(str(self._folder))}"
            )
        clicks = summary["clicks"]
        if clicks:
            line(
                f"  held back rows    {summary['rows']['held_back']:,}: younger"
                " than data.clicks.window"
            )
            others = [
                f"{count:,} {name.replace('_', ' ')}"
                for name, count in clicks.items()
                if name not in ("read", "joined") and count
            ]
            line(
                f"  clicks            {clicks['joined']:,} of"
                f" {clicks['read']:,} joined; {', '.join(others) or 'all'}"
            )
        line(f"  pushed model      {summary['pushed_model']}")
        line(f"  summary           {self._folder / 'summary.json'}")
        line(
            "  TensorBoard       tensorboard --logdir"
            f" {shlex.quote(summary['tensorboard'])}"
        )
        models = shlex.quote(str(Path(self._pushed).parent))
        line(f"  serve it          lionctr serve {models}")


def _stopped(error: BaseException) -> str:
    """What a person is told of a run that a signal ended."""
    number = error.code if isinstance(error, SystemExit) else None
    by = ""
    if isinstance(number, int) and number > 128:
        by = f" by {signal.Signals(number - 128).name}"
    return f"Stopped{by}. Run the same command again to go on."


def _own_workers(config: PipelineConfig) -> bool:
    """Whether Beam's workers are started by this process."""
    return not any("environment_type" in a for a in config.runner.beam)


def content_version(path: str | None) -> str:
    """Changes when a file's content does; "" without a file."""
    if path is None:
        return ""
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path) as stream:
        return hashlib.sha256(stream.read()).hexdigest()[:16]


def user_version(config: PipelineConfig) -> str:
    """Changes when the user's own model, callbacks or optimizer changes."""
    return own_version(config.model) + user_code.version(config.own_modules())


@contextmanager
def only_one(
    home: Path, settings: Sequence[str] = ("root", "name")
) -> Iterator[None]:
    """Keeps two runs of one pipeline apart; a killed run leaves no lock.

    Args:
        home: the folder that only one may use.
        settings: those that say where it is.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"{settings[0]}: cannot write to {home}: {error.strerror}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another run of this pipeline is under way in {home}. Wait"
                f" for it, or give this one another {' or '.join(settings)}"
            ) from None
        yield


def _new_folder(runs: Path) -> Path:
    """A folder with the time as its name, but after those of all runs before.

    Their order is that of their names, also where the clock was put back.
    """
    runs.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    for path in runs.iterdir():
        with suppress(ValueError):
            then = datetime.datetime.strptime(path.name[:15], _RUN)
            then = then.replace(tzinfo=datetime.UTC)
            now = max(now, then + datetime.timedelta(seconds=1))
    folder = runs / now.strftime(_RUN)
    folder.mkdir()
    return folder


def _read(uri: str, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((Path(uri) / name).read_text("utf-8"))
    return data


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n", "utf-8")
    temporary.replace(path)
