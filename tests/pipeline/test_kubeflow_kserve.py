"""The task KServe, against a stand-in for Kubernetes and KServe."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ConfigError
from pipeline.runners.kubeflow import kserve, steps
from tests.pipeline.kserve_api import KServe
from tests.pipeline.small import IMAGE, make_config

Run = Callable[..., int]
VOLUMES = {"ads-claim": "/mnt/ads"}


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Run:
    """Runs the task as the launcher does, in the namespace `ads`."""
    monkeypatch.setattr(kserve, "_SECONDS", 0.01)

    def step(api: KServe, version: int, **settings: Any) -> int:
        place = "KUBE_CONFIG_DEFAULT_LOCATION"
        for module in ("kubernetes.config", "kubernetes.config.kube_config"):
            monkeypatch.setattr(f"{module}.{place}", str(api.config))
        section = {"namespace": "ads", **settings}
        config = make_config(
            tmp_path,
            push={"to": "/mnt/ads/serving"},
            runner={"volumes": VOLUMES, "kubeflow": {"kserve": section}},
        )
        spec: dict[str, Any] = {
            "components": {
                "Pusher": {
                    "outputDefinitions": {
                        "artifacts": {"pushed_model": {"artifactType": {}}}
                    }
                }
            },
            "deploymentSpec": {"executors": {}},
            "root": {"dag": {"tasks": {}}},
        }
        kserve.add(spec, config, IMAGE, "small-ctr")
        given = spec["root"]["dag"]["tasks"]["KServe"]["inputs"]["parameters"]
        pushed = {
            "pushed_version": str(version),
            "pushed_destination": f"{tmp_path}/serving/Small_ctr/{version}",
        }
        task = {
            "inputs": {
                "parameterValues": {
                    "kserve": given["kserve"]["runtimeValue"]["constant"]
                },
                "artifacts": {
                    "pushed_model": {"artifacts": [{"metadata": pushed}]}
                },
            }
        }
        return steps.main(["kserve", json.dumps(task)])

    return step


def predictor(api: KServe) -> dict[str, Any]:
    (service,) = api.services.values()
    return dict(service["spec"]["predictor"])


def pin(api: KServe) -> str:
    (container,) = predictor(api)["containers"]
    (found,) = [a for a in container["args"] if a.startswith("--pin")]
    return str(found.removeprefix("--pin="))


def test_the_first_version_makes_the_service_and_waits(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with KServe(tmp_path) as api:
        code = run(api, 7, canary=10, min_replicas=2, limits={"memory": "4Gi"})
    assert code == 0
    assert capsys.readouterr().out == (
        "version 7 is ready: http://small-ctr.ads.example.com\n"
    )
    assert api.requests == ["get", "create", "get", "get", "get", "patch"]
    found = predictor(api)
    assert "canaryTrafficPercent" not in found and found["minReplicas"] == 2
    (container,) = found["containers"]
    assert container["image"] == IMAGE
    assert container["resources"] == {"limits": {"memory": "4Gi"}}
    storage = "pvc://ads-claim/serving/Small_ctr"
    assert container["env"] == [{"name": "STORAGE_URI", "value": storage}]
    assert container["args"][0] == "--name=Small_ctr" and pin(api) == "7"


def test_the_next_version_gets_its_share_and_what_others_set_stays(
    tmp_path: Path, run: Run
) -> None:
    with KServe(tmp_path) as api:
        assert run(api, 7) == 0
        (service,) = api.services.values()
        ours = service["spec"]["predictor"]
        ours["maxReplicas"] = 5
        ours["containers"][0]["args"].append("--max-waiting-rows=9")
        assert run(api, 8, canary=10) == 0
        assert predictor(api)["canaryTrafficPercent"] == 10
        assert predictor(api)["maxReplicas"] == 5
        assert (
            "--max-waiting-rows=9" in (predictor(api)["containers"][0]["args"])
        )
        assert pin(api) == "8"
        (service,) = api.services.values()
        parts = service["status"]["components"]["predictor"]
        assert parts["latestReadyRevision"].endswith("-00002")
        assert parts["latestRolledoutRevision"].endswith("-00001")
        assert run(api, 9) == 0  # all of it
    assert "canaryTrafficPercent" not in predictor(api) and pin(api) == "9"


def test_the_same_version_again_changes_nothing(
    tmp_path: Path, run: Run
) -> None:
    with KServe(tmp_path) as api:
        assert run(api, 7) == run(api, 7) == 0
    (service,) = api.services.values()
    assert service["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("fails", "ads/7 is damaged"),
        ("never", "Revision has no ready pods, after 1 s"),
    ],
)
def test_a_version_that_does_not_become_ready_is_rolled_back(
    tmp_path: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    outcome: str,
    why: str,
) -> None:
    with KServe(tmp_path, {"8": outcome}) as api:
        assert run(api, 7) == 0
        before = predictor(api)
        assert run(api, 8, canary=10, timeout=1) == 1
        assert predictor(api) == before
    error = capsys.readouterr().err
    assert f"version 8 did not become ready: {why}; what was served" in error
    assert "Traceback" not in error


def test_a_first_version_that_fails_leaves_no_service(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with KServe(tmp_path, {"7": "fails"}) as api:
        assert run(api, 7) == 1
    assert api.services == {}
    assert "ads/7 is damaged; it is removed" in capsys.readouterr().err


@pytest.mark.parametrize("first", [True, False])
def test_a_task_killed_while_it_waits_is_rolled_back_by_its_retry(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    class Killed(BaseException):
        """An end that no handler of the task catches, like SIGKILL."""

    def killed(*_: Any) -> None:
        raise Killed

    with KServe(tmp_path, {"8": "fails"}) as api:
        if not first:
            assert run(api, 7) == 0
        before = {} if first else predictor(api)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(kserve, "_wait", killed)
            run(api, 8)
        assert pin(api) == "8"
        assert run(api, 8) == 1
        assert ({} if first else predictor(api)) == before
        assert bool(api.services) is not first


def test_an_api_that_is_away_for_a_while_is_asked_again(
    tmp_path: Path, run: Run
) -> None:
    with KServe(tmp_path, away=3) as api:
        assert run(api, 7) == 0


@pytest.mark.parametrize(
    ("api", "message"),
    [
        ({"verbs": {"get"}}, 'Kubernetes says 403 Forbidden: User "system:ser'),
        ({"installed": False}, "Is KServe installed"),
    ],
)
def test_what_kubernetes_refuses_is_one_line(
    tmp_path: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    api: dict[str, Any],
    message: str,
) -> None:
    with KServe(tmp_path, **api) as server:
        assert run(server, 7) == 2
    error = capsys.readouterr().err
    assert message in error and "deploy/kserve.yaml has the Role" in error


def test_a_service_of_others_is_left_alone(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://b/x"}
    with KServe(tmp_path) as api:
        api.services["small-ctr"] = {
            "metadata": {"name": "small-ctr", "generation": 1},
            "spec": {"predictor": {"model": model}},
        }
        assert run(api, 7) == 2
    assert predictor(api) == {"model": model}
    assert "has no container 'kserve-container'" in capsys.readouterr().err


def test_a_pinned_folder_is_served_as_it_is(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from components import model_store

    (tmp_path / "serving/Small_ctr").mkdir(parents=True)
    model_store.set_pin(str(tmp_path / "serving/Small_ctr"), 5)
    with KServe(tmp_path) as api:
        assert run(api, 7) == 0
    assert api.requests == []
    assert "version 5 stays served" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "push", "message"),
    [
        ({}, "/elsewhere", "kserve.storage_uri: missing; push.to '/elsewhere'"),
        ({"canary": 0}, "gs://b/m", "kserve.canary"),
        ({"name": "Ads_1"}, "gs://b/m", "kserve.name"),
        ({"storage_uri": "/mnt/x"}, "gs://b/m", "kserve.storage_uri"),
    ],
)
def test_a_service_that_cannot_be_is_refused(
    tmp_path: Path, section: dict[str, Any], push: str, message: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=re.escape(message)):
        kserve.storage_uri(
            make_config(
                tmp_path,
                push={"to": push},
                runner={"kubeflow": {"kserve": section}},
            )
        )
