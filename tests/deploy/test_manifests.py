"""Manifests of deploy/ against the schemas of the objects that they make."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kserve
import kubeflow_trainer_api.models as trainer
import pytest
import yaml
from kubernetes import client

from tests.pipeline.schemas import problems

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KINDS = {
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "InferenceService": "V1beta1InferenceService",
    "Role": "V1Role",
    "Service": "V1Service",
}


def documents(*kinds: str) -> Iterator[Any]:
    for path in sorted(DEPLOY.glob("*.yaml")):
        for number, one in enumerate(yaml.safe_load_all(path.read_text())):
            if one["kind"] in kinds:
                yield pytest.param(one, id=f"{path.name}:{number}")


def test_every_manifest_is_of_a_known_kind() -> None:
    found = {
        one["kind"]
        for path in DEPLOY.glob("*.yaml")
        for one in yaml.safe_load_all(path.read_text())
    }
    # The package that has TFJob's schema wants a later Kubernetes client than
    # TFX takes; its pods are looked at below.
    assert found - KINDS.keys() == {"TFJob", "TrainJob", "TrainingRuntime"}


@pytest.mark.parametrize("document", documents(*KINDS))
def test_a_manifest_has_no_field_that_its_kind_lacks(document: Any) -> None:
    kind = KINDS[document["kind"]]
    assert list(problems(document, kind, kserve, client)) == []


def test_a_misspelt_field_is_found() -> None:
    (document,) = next(iter(documents("Deployment"))).values
    pod = document["spec"]["template"]["spec"]
    pod["containers"][0]["livenesProbe"] = {}
    (problem,) = problems(document, "V1Deployment", client)
    assert problem.endswith("livenesProbe: V1Container has no such field")


@pytest.mark.parametrize("document", documents("TFJob"))
def test_a_tfjobs_pod_has_no_field_that_a_pod_lacks(document: Any) -> None:
    worker = document["spec"]["tfReplicaSpecs"]["Worker"]
    pod = worker["template"]
    assert list(problems(pod, "V1PodTemplateSpec", client)) == []


@pytest.mark.parametrize("document", documents("TrainJob", "TrainingRuntime"))
def test_kubeflow_trainer_keeps_every_field(document: Any) -> None:
    # The model takes a quantity for an object: Kubernetes's own knows better.
    node = document["spec"].get("trainer", {})
    resources = node.pop("resourcesPerNode", {})
    assert not list(problems(resources, "V1ResourceRequirements", client))
    model = getattr(trainer, f"TrainerV1alpha1{document['kind']}")
    kept = model.model_validate(document).to_dict()
    assert list(_lost(document, kept)) == []


def _lost(value: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Fields that the model did not take."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, one in pairs:
        try:
            yield from _lost(one, kept[key], f"{path}.{key}")
        except (KeyError, IndexError, TypeError):
            yield f"{path}.{key}"
