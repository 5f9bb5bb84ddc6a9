"""Checks of data for drift, skew and leaks: their config, what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from models.config.section import Name, Section

FILE = "data_checks.json"  # in the anomalies' folder: what was found
SINGLE_FEATURES = "single_features.json"  # in the statistics' folder
# Statistic of a feature of lists: rows that have it with no value in it.
WITHOUT_VALUE = "rows_without_value"
# Statistic of a sequence: lists that differ, of those with a value.
DISTINCT_LISTS = "distinct_lists"
_MOST = 12  # warnings on a console
LEAK_AUC = 0.99  # of a feature's values alone


def _word(value: Any) -> Any:
    """`off`, which YAML 1.1 reads as false."""
    return "off" if value is False else value


Action = Annotated[Literal["warn", "stop", "off"], BeforeValidator(_word)]
Distance = Annotated[float, Field(gt=0, le=1)]


class DriftConfig(Section):
    """Comparison of the train split with the pushed model's, and with eval.

    A distance counts only where it exceeds what chance gives between samples
    of these sizes.
    """

    action: Action = "warn"
    """Consequence of a distance above its threshold: a warning, or the end of
    the run; off: nothing is compared."""
    categorical: Distance = 0.1
    """Threshold of a categorical feature: infinity norm, the greatest change of
    a value's share."""
    numeric: Distance = 0.05
    """Threshold of a numeric feature: Jensen-Shannon divergence in bits, over
    the deciles of the base."""
    features: dict[Name, Distance | None] = {}
    """Feature -> threshold of its own; null: it is not compared."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str | bool):
            return {"action": value}
        return value

    def threshold(self, feature: str, numeric: bool) -> float | None:
        """Threshold of a feature; None where it is not compared."""
        default = self.numeric if numeric else self.categorical
        return self.features.get(feature, default)


def missing(feature: Any) -> int:
    """Rows without a value, of TFDV's FeatureNameStatistics.

    A row without one has the feature, with no value in it, which TFDV does not
    count as missing. Of lists, StatisticsGen counts them: see `WITHOUT_VALUE`.
    """
    common = getattr(feature, feature.WhichOneof("stats")).common_stats
    rows = int(common.num_missing)
    if common.max_num_values <= 1:
        return rows + int(common.num_non_missing) - int(common.tot_num_values)
    return rows + int(custom(feature, WITHOUT_VALUE) or 0)


def custom(feature: Any, name: str) -> float | None:
    """A statistic of StatisticsGen's own; None where it was not counted."""
    for one in feature.custom_stats:
        if one.name == name:
            return float(one.num)
    return None


def settings(
    drift: DriftConfig,
    leaks: str,
    features: Mapping[str, str],
    uneven: Sequence[str] = (),
    sequences: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Settings of ExampleValidator, in JSON types.

    Args:
        drift: section of the config. leaks: action.
        features: names of the model's.
        uneven: features that splits need not have alike: no skew is looked for.
        sequences: column of a sequence, or beside it -> that of the sequence.
    """
    return {
        "drift": drift.model_dump(mode="json"),
        "leaks": leaks,
        "features": sorted(features),
        "uneven": sorted(uneven),
        "sequences": dict(sequences or {}),
    }


def described(name: str, entry: Mapping[str, Any], against: str) -> str:
    """A sentence: feature, distance and the values that moved most."""
    return (
        f"{name}: {entry['measure']} {entry['distance']:.3g} from {against}"
        f" (threshold {entry['threshold']:.3g}): {', '.join(moves(entry))}"
    )


def moves(entry: Mapping[str, Any]) -> list[str]:
    """The values that moved most, and how far."""
    return [
        f"{one['value']} {one['before']:.1%} -> {one['after']:.1%}"
        for one in entry["moved"]
    ]


def leak(name: str, entry: Mapping[str, Any]) -> str:
    """A sentence: feature, AUC and by what."""
    return (
        f"{name}: its values alone give an AUC of {entry['auc']:.5f} on the"
        f" train split, by {entry['by']}: it tells the label"
    )


def drift_lines(checks: Mapping[str, Any]) -> list[str]:
    """A line for each feature that drifted, of what `FILE` holds."""
    return [
        described(name, one["features"][name], one["against"])
        for one in (checks.get("drift") or {}).get("comparisons", ())
        for name in one["drifted"]
    ]


def leak_lines(checks: Mapping[str, Any]) -> list[str]:
    """A line for each feature that leaks, of what `FILE` holds."""
    leaks = checks.get("leaks") or {}
    return [
        leak(name, leaks["features"][name]) for name in leaks.get("found", ())
    ]


def lines(checks: Mapping[str, Any]) -> list[str]:
    """Lines about what was found, for a console."""
    told = []
    drift, leaks = checks.get("drift"), checks.get("leaks")
    if drift:
        if drift["why"]:
            told.append(f"no drift is measured: {drift['why']}")
        told += [
            f"{len(one['drifted'])} of {len(one['features'])} features are far"
            f" from {one['against']}{_unlike(one['only'])}"
            for one in drift["comparisons"]
        ]
    if leaks:
        looked = (
            f"on {leaks.get('rows', 0):,} of {leaks.get('total', 0):,} rows"
        )
        found = leaks.get("why") or looked
        count = len(leaks["found"])
        tell = "feature tells" if count == 1 else "features tell"
        told.append(f"{count} {tell} the label, {found}")
    constant = checks.get("constant", ())
    if constant:
        more = ", ..." if len(constant) > _MOST else ""
        has = "feature has" if len(constant) == 1 else "features have"
        told.append(
            f"{len(constant)} {has} the same value in each training row, which"
            f" tells nothing: {', '.join(constant[:_MOST])}{more}"
        )
    warnings = [*leak_lines(checks), *drift_lines(checks)]
    told += [f"warning: {line}" for line in warnings[:_MOST]]
    if len(warnings) > _MOST:
        told.append(f"{len(warnings) - _MOST} more: see report.html")
    return told


def _unlike(only: Mapping[str, list[str]]) -> str:
    """Features that cannot be compared, in brackets; "" without any."""
    words = {
        "now": "not there",
        "base": "only there",
        "types": "of another type there",
        "uncounted": "distinct lists not counted",
    }
    parts = [
        f"{how}: {', '.join(only[kind])}"
        for kind, how in words.items()
        if only.get(kind)
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def summary(checks: Mapping[str, Any]) -> dict[str, Any]:
    """`drift` and `leaks` of a run's summary; {} of what was not checked."""
    drift, leaks = checks.get("drift") or {}, checks.get("leaks") or {}
    if drift:
        drift = {
            "base": drift["base"],
            "why": drift["why"],
            "found": [
                {
                    "feature": name,
                    "against": one["against"],
                    **one["features"][name],
                }
                for one in drift["comparisons"]
                for name in one["drifted"]
            ],
        }
    if leaks:
        leaks = {
            "rows": leaks.get("rows"),
            "total": leaks.get("total"),
            "found": [
                {"feature": name, **leaks["features"][name]}
                for name in leaks["found"]
            ],
        }
    return {"drift": drift, "leaks": leaks}
