"""Recurring runs on Kubeflow, and the pipeline versions that they run."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import yaml

from pipeline.config import ConfigError
from pipeline.runners.kubeflow.api import Access, Api, NotFoundError

_FIELD = re.compile(r"[\d*/,\-?LW#A-Za-z]+")
_EQUALS = 1  # as a filter's operation
_PAGE = "100"


def cron(text: str) -> str:
    """The six fields of KFP, seconds first, for the five of a crontab.

    Raises:
        ConfigError: `text` is no schedule.
    """
    fields = text.split()
    if len(fields) not in (5, 6) or not all(map(_FIELD.fullmatch, fields)):
        raise ConfigError(
            f"--cron: received {text!r}; accepted: minute hour day month"
            ' weekday, such as "0 3 * * *" (03:00 each day, in UTC), or six'
            " fields that begin with seconds"
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def upload(
    api: Api, name: str, documents: list[dict[str, Any]], namespace: str | None
) -> dict[str, str]:
    """The reference of the version of pipeline `name` with this content.

    A version's name is a digest of its content; what is there is not uploaded
    again.
    """
    text = yaml.safe_dump_all(documents, sort_keys=True, width=1 << 20)
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    pipeline = _pipeline(api, name, namespace)
    found = _version(api, pipeline, version)
    if found is None:
        found = _upload(api, pipeline, version, text)
    return {"pipeline_id": pipeline, "pipeline_version_id": found}


def version(
    api: Api, name: str, which: str, namespace: str | None
) -> dict[str, str]:
    """The reference of a version of pipeline `name` that Kubeflow keeps.

    Args:
        api: of Kubeflow.
        name: of the pipeline.
        which: name or id of the version, or `latest`.
        namespace: of the pipeline.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = api.get(f"/pipelines/names/{name}", namespace=namespace)
    except NotFoundError:
        raise ConfigError(
            f"--version: Kubeflow keeps no pipeline {name!r}; `lionctr submit"
            " --upload` makes one"
        ) from None
    pipeline = api.identity(found, "pipeline_id")
    listed = api.get(
        f"/pipelines/{pipeline}/versions",
        sort_by="created_at desc",
        page_size=_PAGE,
    )
    versions = listed.get("pipeline_versions") or []
    for one in versions:
        names = ("pipeline_version_id", "name", "display_name")
        if which == "latest" or which in (one.get(key) for key in names):
            identity = api.identity(one, "pipeline_version_id")
            return {"pipeline_id": pipeline, "pipeline_version_id": identity}
    known = ", ".join(
        str(one.get("display_name") or one.get("name")) for one in versions[:5]
    )
    raise ConfigError(
        f"--version: received {which!r}; accepted: latest, or one of"
        f" {known or 'none: there is no version'}"
    )


def _pipeline(api: Api, name: str, namespace: str | None) -> str:
    try:
        found = api.get(f"/pipelines/names/{name}", namespace=namespace)
    except NotFoundError:
        made = {"name": name, "display_name": name, "namespace": namespace}
        found = api.post("/pipelines", made)
    return api.identity(found, "pipeline_id")


def _version(api: Api, pipeline: str, name: str) -> str | None:
    predicate = {
        "operation": _EQUALS,
        "key": "display_name",
        "stringValue": name,
    }
    listed = api.get(
        f"/pipelines/{pipeline}/versions",
        filter=json.dumps({"predicates": [predicate]}),
        page_size=_PAGE,
    )
    for version in listed.get("pipeline_versions") or ():
        if name in (version.get("name"), version.get("display_name")):
            return api.identity(version, "pipeline_version_id")
    return None


def _upload(api: Api, pipeline: str, name: str, text: str) -> str:
    from urllib3.filepost import encode_multipart_formdata

    file = ("pipeline.yaml", text.encode(), "application/yaml")
    body, content_type = encode_multipart_formdata({"uploadfile": file})
    made = api.call(
        "POST",
        "/pipelines/upload_version",
        query={"name": name, "pipelineid": pipeline},
        body=body,
        content_type=content_type,
    )
    return api.identity(made, "pipeline_version_id")


def create(api: Api, schedule: str, run: dict[str, Any]) -> str:
    """Makes a recurring run of what `run` (an API object) says; its id.

    One run at a time; times that were missed while it was paused are not made
    up for.
    """
    made = api.post(
        "/recurringruns",
        run
        | {
            "trigger": {"cron_schedule": {"cron": schedule}},
            "mode": "ENABLE",
            "max_concurrency": "1",
            "no_catchup": True,
        },
    )
    return api.identity(made, "recurring_run_id")


def manage(access: Access, action: str, which: str | None) -> int:
    """Lists recurring runs, or pauses, resumes or deletes one.

    Args:
        access: to Kubeflow.
        action: `list`, `pause`, `resume` or `delete`.
        which: id or name of the recurring run.

    Raises:
        ConfigError: there is no such run, or `which` is missing.
        KubeflowError: no answer, or a refusal.
    """
    api = Api(access)
    runs = _all(api, api.namespace())
    if action == "list":
        for run in runs:
            print("\t".join(_columns(run)))
        return 0
    identity = _chosen(runs, which)
    if action == "delete":
        api.call("DELETE", f"/recurringruns/{identity}")
    else:
        verb = {"pause": "disable", "resume": "enable"}[action]
        api.post(f"/recurringruns/{identity}:{verb}")
    print(f"{action}: {identity}")
    return 0


def _all(api: Api, namespace: str | None) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        page = api.get(
            "/recurringruns",
            namespace=namespace,
            page_size=_PAGE,
            page_token=token,
        )
        runs += page.get("recurringRuns") or page.get("recurring_runs") or ()
        token = page.get("next_page_token")
        if not token:
            return runs


def _columns(run: dict[str, Any]) -> list[str]:
    trigger = run.get("trigger") or {}
    schedule = (trigger.get("cron_schedule") or {}).get("cron") or "periodic"
    return [
        str(run.get("recurring_run_id")),
        str(run.get("status") or run.get("mode")),
        str(schedule),
        str(run.get("display_name")),
    ]


def _chosen(runs: list[dict[str, Any]], which: str | None) -> str:
    fits = [
        str(run["recurring_run_id"])
        for run in runs
        if which in (run.get("recurring_run_id"), run.get("display_name"))
    ]
    if len(fits) == 1:
        return fits[0]
    known = ", ".join(
        f"{run.get('recurring_run_id')} ({run.get('display_name')})"
        for run in runs
    )
    raise ConfigError(
        f"schedule: received {which!r}; accepted: the id, or the name if it is"
        f" that of one only: {known or 'there is no recurring run'}"
    )
