"""The gate's verdicts, and its words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.evaluator.config import EvaluateConfig
from components.evaluator.gate import judge


def report(
    entries: dict[str, Any] | None = None,
    positives: int = 500,
    rows: int = 5000,
    baseline: bool = True,
    units: int = 2048,
) -> dict[str, Any]:
    """An evaluation that passes, but for what is given."""
    metrics: dict[str, Any] = {
        "auc": entry(0.75, 0.01, 0.005, 0.01),
        "logloss": entry(0.3, 0.01, -0.001, 0.002),
        "normalized_entropy": entry(0.9, 0.01, -0.001, 0.002),
        "calibration": entry(1.02, 0.05, 0.01, 0.02),
    }
    metrics |= entries or {}
    if not baseline:
        for values in metrics.values():
            for key in ("difference", "difference_interval"):
                values.pop(key, None)
    return {
        "split": "eval",
        "models": ["candidate", "baseline"][: 1 + baseline],
        "rows": rows,
        "positives": positives,
        "confidence": 0.95,
        "bootstrap": {"unit": "user_id", "units": units},
        "metrics": metrics,
    }


def entry(
    value: float | None, half: float, difference: float, noise: float
) -> dict[str, Any]:
    if value is None:
        return {
            "value": None,
            "interval": None,
            "undefined": "the eval split has no positive",
            "difference": None,
            "difference_interval": None,
        }
    return {
        "value": value,
        "interval": [value - half, value + half],
        "difference": difference,
        "difference_interval": [difference - noise, difference + noise],
    }


def refusals(found: dict[str, Any], **settings: Any) -> list[str]:
    verdict = judge(found, EvaluateConfig.model_validate(settings))
    assert verdict["passed"] == (not verdict["refusals"])
    lines: list[str] = verdict["refusals"]
    return lines


def test_a_good_model_passes() -> None:
    assert refusals(report()) == []
    assert refusals(report(baseline=False)) == []


@pytest.mark.parametrize("value", [1.0, 1 - 1e-12, 1.2])
def test_a_model_like_the_constant_is_refused_by_default(value: float) -> None:
    found = report({"normalized_entropy": entry(value, 0.5, 0, 0)})
    assert refusals(found) == [
        f"normalized_entropy is {value:.6g}; threshold: below 1"
    ]
    assert refusals(found, metrics={"normalized_entropy": None}) == []


def test_calibration_is_refused_when_surely_off() -> None:
    assert refusals(report({"calibration": entry(1.4, 0.1, 0, 0)})) == []
    assert refusals(report({"calibration": entry(1.4, 0.01, 0, 0)})) == [
        "calibration is 1.4 (95 % interval 1.39 to 1.41); threshold: max 1.333"
    ]


@pytest.mark.parametrize(
    ("sure", "difference", "noise", "passes"),
    [
        # refuse only if surely beyond
        (False, 0.003, 0.004, True),
        (False, 0.003, 0.002, False),
        (False, -0.003, 0.002, True),
        # refuse unless surely within
        (True, -0.003, 0.004, False),
        (True, -0.003, 0.002, True),
        (True, 0.003, 0.002, False),
        # a change without `sure` is judged as with false
        (None, 0.003, 0.004, True),
        (None, 0.003, 0.002, False),
    ],
)
def test_a_change_is_judged_on_the_paired_interval(
    sure: bool | None, difference: float, noise: float, passes: bool
) -> None:
    loss = report({"logloss": entry(0.3, 0.1, difference, noise)})
    bounds = {"max_change": 0, "sure": sure}
    assert (refusals(loss, metrics={"logloss": bounds}) == []) == passes
    # the other way round where more is better
    auc = report({"auc": entry(0.7, 0.1, -difference, noise)})
    bounds = {"min_change": 0, "sure": sure}
    assert (refusals(auc, metrics={"auc": bounds}) == []) == passes


def test_a_lucky_model_is_told_from_a_better_one() -> None:
    found = report({"logloss": entry(0.3, 0.1, 0.003, 0.002)})
    assert refusals(found) == [
        (
            "logloss changed by 0.003 (95 % interval 0.001 to 0.005) against"
            " the baseline; threshold: max_change 0"
        )
    ]
    sure = {"logloss": {"max_change": 0, "sure": True}}
    found = report({"logloss": entry(0.3, 0.1, -0.001, 0.002)})
    assert refusals(found, metrics=sure) == [
        (
            "logloss changed by -0.001 (95 % interval -0.003 to 0.001) against"
            " the baseline; threshold: max_change 0, for sure"
        )
    ]


def test_a_value_is_judged_as_it_is_unless_sure_is_said() -> None:
    bounds: dict[str, Any] = {"min": 0.745}
    found = report({"auc": entry(0.75, 0.01, 0, 0)})
    assert refusals(found, metrics={"auc": bounds}) == []
    assert refusals(found, metrics={"auc": bounds | {"sure": True}}) == [
        (
            "auc is 0.75 (95 % interval 0.74 to 0.76); threshold: min 0.745,"
            " for sure"
        )
    ]
    found = report({"auc": entry(0.74, 0.01, 0, 0)})
    assert refusals(found, metrics={"auc": bounds}) != []
    assert refusals(found, metrics={"auc": bounds | {"sure": False}}) == []


def test_no_positive_refuses_a_gate_on_auc_in_words() -> None:
    undefined = entry(None, 0, 0, 0)
    found = report(
        dict.fromkeys(("auc", "normalized_entropy", "calibration"), undefined),
        positives=0,
    )
    lines = refusals(found, metrics={"auc": {"min": 0.5}})
    assert "auc is undefined: the eval split has no positive" in lines
    assert lines[0].startswith("the eval split has no positive: too few")
    assert not any(" 0;" in line or "nan" in line for line in lines)
    assert refusals(found, too_few="pass") == []


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"positives": 9}, "has 9 positives, 10 are needed"),
        ({"positives": 1}, "has 1 positive, 10 are needed"),
        ({"rows": 503}, "has 3 negatives, 10 are needed"),
        ({"units": 4}, "has 4 values of user_id, 10 are needed"),
    ],
)
def test_too_few_for_a_verdict(shape: dict[str, int], words: str) -> None:
    found = report({"auc": entry(0.2, 0.01, 0, 0)}, **shape)  # type: ignore[arg-type]
    config = {"metrics": {"auc": {"min": 0.5}}}
    (line,) = refusals(found, **config)
    assert words in line and "evaluate.too_few" in line
    verdict = judge(
        found, EvaluateConfig.model_validate(config | {"too_few": "pass"})
    )
    assert verdict["passed"] and words in verdict["notes"][0]


def test_a_logloss_that_is_no_number_is_refused_in_any_case() -> None:
    bad = entry(None, 0, 0, 0) | {
        "undefined": "the model gives no finite number for 3 of 5,000 rows"
    }
    found = report({"logloss": bad}, positives=2)
    nothing = dict.fromkeys(("logloss", "normalized_entropy", "calibration"))
    lines = refusals(found, too_few="pass", metrics=nothing)
    assert lines == [
        (
            "logloss is undefined: the model gives no finite number for 3 of"
            " 5,000 rows; threshold: a finite number"
        )
    ]


def test_a_broken_baseline_does_not_hold_back_a_good_model() -> None:
    lost = entry(0.3, 0.01, 0, 0) | {
        "difference": None,
        "difference_interval": None,
    }
    config = EvaluateConfig()
    verdict = judge(report({"logloss": lost}), config)
    assert verdict["passed"]
    assert verdict["notes"] == [
        "logloss.max_change is not judged: the baseline's logloss is undefined"
    ]


def test_a_slice_may_have_bounds_of_its_own() -> None:
    found = report()
    part = report({"logloss": entry(0.5, 0.01, 0.01, 0.002)})
    keys = ("metrics", "rows", "positives")
    found["slices"] = [{"name": "tv", **{key: part[key] for key in keys}}]
    for slice, most, expected in (
        ("tv", 0.02, []),
        ("tv", 0.001, ["slice: tv: logloss changed by 0.01 (95 % interval"]),
        ("pc", 0.02, ["slice: there is no slice 'pc'"]),
    ):
        bounds = {"logloss": {"max_change": most}}
        gate = {"name": "slice", "slice": slice, "metrics": bounds}
        lines = refusals(found, gates=[gate])
        assert len(lines) == len(expected)
        assert all(map(str.startswith, lines, expected))


def test_a_slice_of_another_output_may_have_bounds() -> None:
    found, keys = report(), ("metrics", "rows", "positives")
    part = report({"logloss": entry(0.5, 0.01, 0.01, 0.002)})
    slices = [{"name": "tv", **{key: part[key] for key in keys}}]
    found |= {"slices": [], "outputs": {"cvr": report() | {"slices": slices}}}
    for output, slice, line in (
        ("cvr", "tv", "slice: cvr, tv: logloss changed by 0.01"),
        ("cvr", "pc", "slice: cvr, there is no slice 'pc'"),
        ("cvrr", "tv", "slice: there is no output 'cvrr'"),
        (None, "tv", "slice: there is no slice 'tv'"),
    ):
        bounds = {"logloss": {"max_change": 0.001}}
        gate = {"name": "slice", "slice": slice, "metrics": bounds}
        (found_line,) = refusals(found, gates=[{**gate, "output": output}])
        assert found_line.startswith(line)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gates": ["slices"]}, "no gate has the name 'slices'.*'slice'"),
        ({"gates": ["slice"]}, "Field required"),
        (
            {
                "gates": [
                    {"name": "slice", "slice": "a", "metrics": {"auc": {}}}
                ]
            },
            "give `min`",
        ),
        ({"metrics": {"gauc": {"min": 0.5}}}, "by group.*`evaluate.group`"),
        ({"metrics": {"auc": {"sure": True}}}, "give `min`"),
        (
            {"metrics": {"area": {"min": 1}}},
            "no metric has the name 'area'.*Accepted",
        ),
        ({"confidence": 1}, "less than 1"),
        ({"too_few": "warn"}, "'refuse' or 'pass'"),
    ],
)
def test_settings_that_are_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        EvaluateConfig.model_validate(settings)
