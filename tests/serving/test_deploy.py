"""Manifests in deploy/ fit the schemas of KServe and TF Serving."""

import re
from pathlib import Path
from typing import Any

import kserve
import kubernetes.client
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from pipeline.cli import _parser

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = {
    "InferenceService": kserve.V1beta1InferenceService,
    "ConfigMap": kubernetes.client.V1ConfigMap,
    "Deployment": kubernetes.client.V1Deployment,
    "Service": kubernetes.client.V1Service,
    "Role": kubernetes.client.V1Role,
}
SIMPLE = {"str": str, "int": int, "bool": bool, "float": float}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def check(value: Any, kind: Any, where: str) -> None:
    """Compares a value with a type of KServe's or Kubernetes' OpenAPI."""
    if isinstance(kind, str):
        if inner := re.fullmatch(r"list\[(.*)\]", kind):
            assert isinstance(value, list), where
            for number, item in enumerate(value):
                check(item, inner[1], f"{where}[{number}]")
            return
        if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
            assert isinstance(value, dict), where
            for key, item in value.items():
                check(item, inner[1], f"{where}.{key}")
            return
        if kind in SIMPLE:
            assert isinstance(value, SIMPLE[kind]), f"{where}: {value!r}"
            return
        if kind in ("object", "IntstrIntOrString", "ResourceQuantity"):
            return
        # KServe prefixes Kubernetes' types in its newer models.
        plain = re.sub(r"^K8sIoApi(Apps|Core)", "", kind)
        kind = getattr(kserve, plain, None) or getattr(kubernetes.client, plain)
    names = {v: k for k, v in kind.attribute_map.items()}
    assert isinstance(value, dict), where
    for key, item in value.items():
        assert key in names, f"{where}: {key} is not in {kind.__name__}"
        check(item, kind.openapi_types[names[key]], f"{where}.{key}")
    # The classes refuse what is missing when they are made.
    kind(**{names[key]: item for key, item in value.items()})


@pytest.mark.parametrize("name", ["kserve.yaml", "tf_serving.yaml"])
def test_every_field_is_in_the_schema(name: str) -> None:
    for document in documents(name):
        check(document, KINDS[document["kind"]], document["kind"])


def test_a_wrong_field_is_seen() -> None:
    document = documents("kserve.yaml")[0]
    document["spec"]["predictor"]["containers"][0]["imagge"] = "x"
    with pytest.raises(AssertionError, match="imagge is not in V1Container"):
        check(document, KINDS["InferenceService"], "")


def test_the_commands_are_those_of_lionctr() -> None:
    served = documents("kserve.yaml")[0]["spec"]["predictor"]["containers"][0]
    command = [*served["command"], *served["args"]]
    options = _parser().parse_args(command[1:])
    assert command[0] == "lionctr"
    assert (options.name, options.pin, options.port) == (
        "ads",
        1764230400,
        8080,
    )
    pod = documents("tf_serving.yaml")[1]["spec"]["template"]["spec"]
    command = pod["initContainers"][0]["command"]
    assert _parser().parse_args(command[1:]).action == "verify"


def test_tf_serving_takes_the_config_file() -> None:
    text = documents("tf_serving.yaml")[0]["data"]["models.config.training"]
    config = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert model.name == "ads"
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) == versions
