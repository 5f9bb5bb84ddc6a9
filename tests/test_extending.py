"""The code of docs/extending.md does what the page says."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from components.click_log_gen.config.log_files import LogFiles
from components.evaluator.config import EvaluateConfig
from components.evaluator.contract import check_gate, check_metric
from components.evaluator.gates import reasons
from models.config import metric_registry
from models.contracts import loss
from models.errors import RefusedError
from optimizers import build_optimizer, contract
from optimizers.registry import validate

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text()


def blocks(section: str, language: str) -> list[str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_log_format_keeps_to_the_contract(here: Path) -> None:
    code, test = blocks("A log format", "python")
    (here / "my_formats.py").write_text(code)
    rows = [f"{n % 2}{n / 4:6.2f}s{n % 3:<3}\n" for n in range(20)]
    (here / "clicks.txt").write_text("".join(rows))
    (text,) = blocks("A log format", "yaml")
    LogFiles.model_validate(yaml.safe_load(text)["data"]["impressions"])
    scope: dict[str, object] = {}
    exec(test, scope)
    scope["test_fixed"]()  # type: ignore[operator]


def test_the_optimizer_updates_variables_and_tables(here: Path) -> None:
    import tensorflow as tf

    (code,) = blocks("An optimizer", "python")
    (here / "my_rules.py").write_text(code)
    (text,) = blocks("An optimizer", "yaml")
    spec = yaml.safe_load(text)["optimizer"]
    validate(spec)
    contract.check(spec["name"], {"learning_rate": 0.001})
    optimizer = build_optimizer({**spec, "learning_rate": 0.5}, 10)
    weight = keras.Variable([[1.0], [2.0]], name="w")
    optimizer.build([weight])
    rows = tf.IndexedSlices(
        tf.constant([[-3.0]]), tf.constant([1]), tf.constant([2, 1])
    )
    optimizer.apply([rows], [weight])
    assert weight.numpy().tolist() == [[1.0], [2.5]]


def test_the_loss_keeps_to_the_contract(here: Path) -> None:
    (code,) = blocks("A loss", "python")
    (here / "my_losses.py").write_text(code)
    (text,) = blocks("A loss", "yaml")
    section = yaml.safe_load(text)["train"]["loss"]
    loss.check(section.pop("name"), section)


def test_the_component_refuses_a_run_of_few_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tfx.types import channel_utils, standard_artifacts

    executor, component = blocks("A component", "python")
    package = types.ModuleType("components.row_gate")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    for name, code in (("executor", executor), ("component", component)):
        module = types.ModuleType(f"{package.__name__}.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        setattr(package, name, module)
        exec(code, module.__dict__)
    examples = standard_artifacts.Examples()
    examples.set_int_custom_property("train", 999)
    gate = package.component.RowGate(
        channel_utils.as_channel([examples]), least=1000
    )
    work = gate.executor_spec.executor_class()
    with pytest.raises(RefusedError, match="999 training rows; accepted: 1000"):
        work.Do({"examples": [examples]}, {}, gate.exec_properties)
    work.Do({"examples": [examples]}, {}, {"least": 999})


def test_a_metric_of_ones_own_is_what_the_page_says(here: Path) -> None:
    (code,) = blocks("A metric", "python")
    (here / "my_metrics.py").write_text(code)
    (section,) = blocks("A metric", "yaml")
    (name,) = yaml.safe_load(section)["evaluate"]["metrics"]
    bias = metric_registry.own(name)
    labels, probabilities = np.array([1.0, 0.0]), np.array([0.75, 0.5])
    terms = bias.terms(labels, probabilities)
    sums = np.concatenate([[2.0], terms.sum(0)])
    assert bias.value(sums) == pytest.approx(0.125)
    check_metric(name)


@pytest.mark.ci
def test_a_gate_of_ones_own_is_what_the_page_says(here: Path) -> None:
    (code,) = blocks("A gate", "python")
    (here / "my_gates.py").write_text(code)
    (section,) = blocks("A gate", "yaml")
    config = EvaluateConfig.model_validate(yaml.safe_load(section)["evaluate"])
    (gate,) = config.gates
    check_gate(gate.name, gate.options)
    report = {"bootstrap": {"units": 99, "unit": "user_id"}}
    assert reasons(gate, report) == ["99 user_ids; threshold: 100"]
