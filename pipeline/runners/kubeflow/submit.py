"""Starts a pipeline's run on Kubeflow, and waits for its end."""

from __future__ import annotations

import datetime
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import InputError
from pipeline.config import ConfigError, PipelineConfig
from pipeline.runners.kubeflow import compiler
from pipeline.runners.kubeflow.api import (
    Access,
    Api,
    KubeflowError,
    UnavailableError,
)
from pipeline.runners.kubeflow.failures import failures
from pipeline.runners.kubeflow.inputs import SET, UNTIL, check_settable
from pipeline.runners.kubeflow.schedule import create, cron, upload, version

_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_POLL = 10.0  # seconds between looks at a run
_PATIENCE = 900.0  # seconds that the API may be away while a run goes on


@dataclass(frozen=True)
class RunOptions:
    """How a run is started.

    Args:
        experiment: under which the run is listed; made if it is not there.
        service_account: of the run's pods; None for Kubeflow's own choice.
        wait: until the run has ended.
        timeout: seconds to wait; None for as long as it takes.
        upload: run a version of the pipeline that Kubeflow keeps.
        cron: make a recurring run of it, at these times.
        until: the last of `data.spans`, in place of the config's.
        version: run this version that Kubeflow keeps, or `latest`, without
            compiling anew.
        changed: `--set PATH=VALUE` of the command line; with `version` they
            are settings of this run.
    """

    experiment: str = "lion-ctr"
    service_account: str | None = None
    wait: bool = False
    timeout: float | None = None
    upload: bool = False
    cron: str | None = None
    until: str | None = None
    version: str | None = None
    changed: Sequence[str] = ()

    def check(self, config: PipelineConfig) -> None:
        """Raises ConfigError if options do not go together."""
        if self.timeout is not None and not self.wait:
            raise ConfigError("--timeout: accepted with --wait only")
        if self.cron is not None and (self.wait or self.until):
            raise ConfigError("--cron: accepted without --wait and --until")
        if self.version is not None and self.upload:
            raise ConfigError("--version: accepted without --upload")
        if self.until is not None and config.data.spans is None:
            raise ConfigError("--until: accepted with data.spans only")


def submit(
    config: PipelineConfig,
    image: str | None,
    access: Access,
    options: RunOptions,
) -> int:
    """Starts a run of `config`'s pipeline on a Kubeflow.

    `image` is None with `options.version` only. Prints the run's address.
    Returns 0, or with `wait` 1 if the run failed; standard error then names
    the tasks that failed, and why.

    Raises:
        ConfigError: `image` is no image, or an option is wrong.
        KubeflowError: no `kubeflow` extra, no answer from the host, a refusal,
            or the end of `timeout`.
    """
    options.check(config)
    schedule = cron(options.cron) if options.cron else None
    given = _parameters(config, options)
    documents = []
    if options.version is None:
        if image is None:
            raise ConfigError("--image: missing; accepted without --version")
        compiler.check_image(image)
        compiler.import_kfp()
    api = Api(access)
    namespace = api.namespace()
    name = compiler.kfp_name(config.name)
    if image is not None and options.version is None:
        documents = compiler.compiled(config, image)
    run = {
        "experiment_id": _experiment(api, options.experiment, namespace),
        "runtime_config": _runtime_config(config, given),
        "service_account": options.service_account,
    }
    if options.version is not None:
        reference = version(api, name, options.version, namespace)
        run["pipeline_version_reference"] = reference
    elif options.upload or schedule:
        reference = upload(api, name, documents, namespace)
        run["pipeline_version_reference"] = reference
    else:
        run["pipeline_spec"] = as_spec(documents)
    if schedule:
        identity = create(api, schedule, {"display_name": config.name} | run)
        print(f"{access.address}/#/recurringrun/details/{identity}")
        return 0
    date = f"{config.name} {datetime.datetime.now():%F %T}"
    made = api.post("/runs", {"display_name": date} | run)
    identity = api.identity(made, "run_id")
    address = f"{access.address}/#/runs/details/{identity}"
    print(address, flush=True)
    for line in compiler.advice(config, image) if documents and image else ():
        print(f"note: {line}", file=sys.stderr)
    if not options.wait:
        return 0
    ended = _wait(api, identity, address, options.timeout)
    print(ended["state"])
    if ended["state"] == "SUCCEEDED":
        return 0
    for line in failures(api, ended, namespace or "kubeflow"):
        print(line, file=sys.stderr)
    return 1


def seconds(duration: str | None) -> float | None:
    """The seconds of `--timeout`: a number, or one with s, m, h or d.

    Raises:
        ConfigError: `duration` is none.
    """
    if duration is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", duration)
    if match is None:
        raise ConfigError(
            f"--timeout: received {duration!r}; accepted: seconds, or a number"
            " with s, m, h or d, such as 30m"
        )
    return float(match[1]) * {"m": 60, "h": 3600, "d": 86400}.get(match[2], 1)


def as_spec(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The documents of an IR as the API takes them."""
    if len(documents) == 1:
        return documents[0]
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _parameters(config: PipelineConfig, options: RunOptions) -> dict[str, str]:
    """Values of the pipeline's own parameters.

    Raises:
        ConfigError: `--set` names what is compiled into a version.
    """
    given = {UNTIL: options.until} if options.until else {}
    if options.version is None or not options.changed:
        return given
    sections, changes = config.sections(), {}
    for text in options.changed:
        path = text.partition("=")[0].strip()
        try:
            check_settable(path)
        except InputError as error:
            raise ConfigError(f"--{error}") from None
        changes[path] = _value(sections, path)
    return given | {SET: json.dumps(changes, sort_keys=True)}


def _value(sections: dict[str, Any], path: str) -> Any:
    """The checked value of a setting, in JSON types."""
    value: Any = sections
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(
                f"--set: received {path!r}; accepted with --version: the path"
                " of one setting"
            )
        value = value[part]
    return value


def _runtime_config(
    config: PipelineConfig, parameters: dict[str, str]
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    root = compiler.pipeline_root(config)
    if root:
        given["pipeline_root"] = root
    if parameters:
        given["parameters"] = parameters
    return given


def _experiment(api: Api, name: str, namespace: str | None) -> str:
    """The id of the experiment `name`, which is made where there is none."""
    predicate = {"operation": 1, "key": "display_name", "stringValue": name}
    listed = api.get(
        "/experiments",
        filter=json.dumps({"predicates": [predicate]}),
        namespace=namespace,
    )
    found = listed.get("experiments") or [
        api.post("/experiments", {"display_name": name, "namespace": namespace})
    ]
    return api.identity(found[0], "experiment_id")


def _wait(
    api: Api, run: str, address: str, timeout: float | None
) -> dict[str, Any]:
    """The run, ended; an API that is away for a while is asked again."""
    started = time.monotonic()
    for state in _states(api, run, address):
        if state.get("state") in _ENDED:
            return state
        waited = time.monotonic() - started
        if timeout is not None and waited >= timeout:
            raise KubeflowError(
                f"--timeout: the run is {state.get('state', 'under way')} after"
                f" {waited:.0f} s and goes on: {address}"
            )
        left = _POLL if timeout is None else min(_POLL, timeout - waited)
        time.sleep(max(left, 0.01))
    raise AssertionError("states have no end")


def _states(api: Api, run: str, address: str) -> Iterator[dict[str, Any]]:
    """Poll the state of the run.

    While the API is away, an answer without a state.
    """
    away: float | None = None
    while True:
        state: dict[str, Any] = {}
        try:
            state = api.get(f"/runs/{run}")
            away = None
        except UnavailableError as error:
            now = time.monotonic()
            if away is None:
                away = now
                print(f"note: {error}; asking again", file=sys.stderr)
            if now - away > _PATIENCE:
                raise KubeflowError(
                    f"{error}. The run goes on: {address}"
                ) from error
        except KubeflowError as error:
            raise KubeflowError(f"{error}. The run goes on: {address}") from (
                error
            )
        yield state
