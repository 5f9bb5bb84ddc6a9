"""Parameters that the IR moved out of a task, and how they come back."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluator.config import EvaluateConfig
from pipeline.runners.kubeflow import ir, steps
from pipeline.runners.kubeflow.inputs import FILE, mark, packed, restored


def make_spec(value: str) -> dict[str, Any]:
    """An IR of one task with two parameters."""
    return {
        "components": {
            "Trainer": {
                "executorLabel": "Trainer_executor",
                "inputDefinitions": {
                    "parameters": {
                        name: {"parameterType": "STRING"}
                        for name in ("long", "short")
                    }
                },
            }
        },
        "deploymentSpec": {
            "executors": {"Trainer_executor": {"container": {"args": []}}}
        },
        "root": {
            "dag": {
                "tasks": {
                    "Trainer": {
                        "taskInfo": {"name": "Trainer"},
                        "inputs": {
                            "parameters": {
                                "long": {"runtimeValue": {"constant": value}},
                                "short": {"runtimeValue": {"constant": "x"}},
                            }
                        },
                    }
                }
            }
        },
    }


def incompressible(length: int) -> str:
    """Text that zlib cannot make shorter than three quarters of it."""
    import random

    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    return "".join(draw.choices(letters, k=length))


def test_short_parameters_stay_where_they_are() -> None:
    spec = make_spec("y" * 50_000)
    before = json.dumps(spec)
    ir.spill(spec, "image")
    assert json.dumps(spec) == before


@pytest.mark.parametrize("length", [70_000, 400_000])
def test_a_long_parameter_comes_back_whole(tmp_path: Path, length: int) -> None:
    value = incompressible(length)
    spec = make_spec(value)
    ir.spill(spec, "image")
    tasks = spec["root"]["dag"]["tasks"]
    carriers = tasks["Trainer"]["dependentTasks"]
    assert len(carriers) >= length // 80_000
    for name in tasks:
        args = ir.container(spec, name)["args"]
        assert all(len(word) <= 80_000 for word in args)
        assert len(json.dumps(ir.container(spec, name))) < 131_072
    artifacts = {}
    for key, source in tasks["Trainer"]["inputs"]["artifacts"].items():
        carrier = source["taskOutputArtifact"]["producerTask"]
        uri = f"minio://b/{carrier}/text"
        (tmp_path / "minio/b" / carrier).mkdir(parents=True)
        name, text, placeholder = ir.container(spec, carrier)["args"]
        assert placeholder == "{{$}}"
        output = {"artifacts": {"text": {"artifacts": [{"uri": uri}]}}}
        steps._STEPS[name]({"outputs": output}, tmp_path, text)
        artifacts[key] = {"artifacts": [{"uri": uri}]}
    task = {
        "inputs": {"parameterValues": {"short": "x"}, "artifacts": artifacts}
    }
    found = restored(task, tmp_path)["inputs"]
    assert found["parameterValues"] == {"short": "x", "long": value}
    assert found["artifacts"] == {}


def test_versions_replace_their_marks_and_are_no_parameters_of_tfx(
    tmp_path: Path,
) -> None:
    custom = json.dumps({"base": mark("base"), "data": mark("data")})
    values = {
        "custom_config": custom,
        "steps": 3,
        "lionctr_version_base": 'a "quoted" path',
        "lionctr_version_data": "1f",
        "unset": None,
    }
    found = restored({"inputs": {"parameterValues": values}}, tmp_path)
    restored_values = found["inputs"]["parameterValues"]
    assert restored_values.keys() == {"custom_config", "steps"}
    assert json.loads(restored_values["custom_config"]) == {
        "base": 'a "quoted" path',
        "data": "1f",
    }


def test_a_task_of_an_older_ir_stays_as_it_is(tmp_path: Path) -> None:
    task = {"inputs": {"parameterValues": {"a": "b"}}, "outputs": {}}
    assert restored(task, tmp_path) == task


def test_pieces_are_put_together_in_their_order(tmp_path: Path) -> None:
    pieces = list(packed({"x": incompressible(900_000)}))
    assert len(pieces) > 10
    names = [f"{FILE}{number:03d}" for number in range(len(pieces))]
    assert sorted(names) == names


def test_the_version_of_an_evaluation_follows_ones_own_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("click\n1\n")
    log = {"path": "a.csv", "format": "csv", "header": True}
    data = {"impressions": log, "label": "click"}
    gate = tmp_path / "own_kf_gates.py"
    evaluate = EvaluateConfig.model_validate(
        {"gates": [{"name": "own_kf_gates:enough", "least": 3}]}
    )
    out = tmp_path / "metrics"
    given = {"data": json.dumps(data), "evaluate": evaluate.model_dump_json()}
    task = {
        "inputs": {"parameterValues": given},
        "outputs": {"parameters": {"metrics": {"outputFile": str(out)}}},
    }
    found = []
    for text in ("one = 1", "two = 2"):
        gate.write_text(text)
        steps.versions(task, tmp_path)
        found.append(out.read_text())
    assert all(found) and found[0] != found[1]
