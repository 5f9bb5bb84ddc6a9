"""Starts a pipeline's run on Kubeflow, and waits for its end."""

from __future__ import annotations

import datetime
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import kubeflow
from pipeline.config import ConfigError, PipelineConfig
from pipeline.kubeflow_api import Access, Api, KubeflowError, UnavailableError
from pipeline.kubeflow_failures import failures

_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_POLL = 10.0  # seconds between looks at a run
_PATIENCE = 900.0  # seconds that the API may be away while a run goes on
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class RunOptions:
    """How a run is started.

    Args:
        experiment: under which the run is listed; made if it is not there.
        service_account: of the run's pods; None for Kubeflow's own choice.
        wait: until the run has ended.
        timeout: seconds to wait; None for as long as it takes.
    """

    experiment: str = "lion-ctr"
    service_account: str | None = None
    wait: bool = False
    timeout: float | None = None


def submit(
    config: PipelineConfig, image: str, access: Access, options: RunOptions
) -> int:
    """Starts a run of `config`'s pipeline on a Kubeflow.

    Prints the run's address. Returns 0, or with `wait` 1 if the run failed;
    standard error then names the tasks that failed, and why.

    Raises:
        ConfigError: `image` is no image, or an option is wrong.
        KubeflowError: no `kubeflow` extra, no answer from the host, a refusal,
            or the end of `timeout`.
    """
    if options.timeout is not None and not options.wait:
        raise ConfigError("--timeout: accepted with --wait only")
    kubeflow.check_image(image)
    kubeflow.import_kfp()
    api = Api(access)
    namespace = _namespace(api)
    documents = kubeflow.compiled(config, image)
    run = api.post(
        "/runs",
        {
            "display_name": f"{config.name} {datetime.datetime.now():%F %T}",
            "experiment_id": _experiment(api, options.experiment, namespace),
            "pipeline_spec": as_spec(documents),
            "runtime_config": _runtime_config(config),
            "service_account": options.service_account,
        },
    )
    identity = _identity(run, "run_id", access)
    address = f"{access.address}/#/runs/details/{identity}"
    print(address, flush=True)
    for line in kubeflow.advice(config, image):
        print(f"note: {line}", file=sys.stderr)
    if not options.wait:
        return 0
    run = _wait(api, identity, address, options.timeout)
    print(run["state"])
    if run["state"] == "SUCCEEDED":
        return 0
    for line in failures(api, run, namespace or "kubeflow"):
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


def _runtime_config(config: PipelineConfig) -> dict[str, Any]:
    root = kubeflow.pipeline_root(config)
    return {"pipeline_root": root} if root else {}


def _namespace(api: Api) -> str | None:
    """The user's namespace; asking for it shows whether the API lets us in."""
    several = api.get("/healthz").get("multi_user") is True
    namespace = api.access.namespace
    if namespace is None and several and _NAMESPACE.is_file():
        namespace = _NAMESPACE.read_text("utf-8").strip()
    if namespace is None and several:
        raise ConfigError(
            f"--namespace: missing; Kubeflow at {api.access.host} has several"
            " users. Accepted: the namespace of your profile"
        )
    return namespace


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
    return _identity(found[0], "experiment_id", api.access)


def _identity(made: Mapping[str, Any], name: str, access: Access) -> str:
    """The id of what the API says that it has made."""
    identity = made.get(name)
    if not isinstance(identity, str) or not identity:
        raise KubeflowError(
            f"Kubeflow Pipelines at {access.host}: the answer has no {name};"
            f" received: {json.dumps(made)[:200]}"
        )
    return identity


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
    """What the API says of the run, again and again.

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
