"""Every metric and every gate, ours and a user's, keeps to its contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.evaluator import contract
from components.evaluator.config import GATES
from models.config.metric_registry import METRICS
from models.errors import InputError

OWN = """
import numpy as np


class Bias:
    def terms(self, labels, probabilities):
        return np.stack([probabilities, labels], 1)

    def value(self, sums):
        return (sums[..., 1] - sums[..., 2]) / sums[..., 0]


class Single(Bias):
    def value(self, sums):
        return float(sums.sum())


class NoTerms:
    def value(self, sums):
        return 0.0


calls = []


def enough(report, least):
    return [] if report["rows"] >= least else [f"{report['rows']} rows"]


def changes(report):
    calls.append(1)
    return [str(len(calls))]


def raises(report):
    return ["worse"] * (report["metrics"]["auc"]["difference"] < 0)


def text(report):
    return "no"
"""
ARGUMENTS = {"slice": {"slice": "device=tv", "metrics": {"auc": {"min": 0.5}}}}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_judges.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", METRICS.names)
def test_our_metrics_keep_to_the_contract(name: str) -> None:
    contract.check_metric(name)


@pytest.mark.parametrize("name", GATES.names)
def test_our_gates_keep_to_the_contract(name: str) -> None:
    contract.check_gate(name, ARGUMENTS[name])


def test_a_users_own_keep_to_the_contract(own: None) -> None:
    contract.check_metric("own_judges:Bias")
    contract.check_gate("own_judges:enough", {"least": 300})


@pytest.mark.parametrize(
    ("check", "name", "words"),
    [
        (contract.check_metric, "Single", r"must be \[2\]"),
        (contract.check_metric, "NoTerms", "without 'terms'"),
        (contract.check_metric, "None", "has no 'None'"),
        (contract.check_gate, "changes", "of one report"),
        (contract.check_gate, "raises", "raised"),
        (contract.check_gate, "text", "must return a list"),
        (contract.check_gate, "enough", "least"),
    ],
)
def test_what_breaks_the_contract_is_named(
    own: None, check: object, name: str, words: str
) -> None:
    assert callable(check)
    with pytest.raises((AssertionError, InputError), match=words):
        check(f"own_judges:{name}")
