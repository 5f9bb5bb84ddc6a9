"""Checks of an ingest's counts: some stop the run, some warn."""

from __future__ import annotations

from typing import Any

from components.click_log_gen.config.event_logs import ClickFiles
from components.click_log_gen.config.labels import LabelRule
from components.click_log_gen.config.sections import DataConfig
from components.click_log_gen.join import matching
from models.errors import InputError
from optimizers.config.messages import counted

FEW = 100  # positives, or negatives, below which a metric is mostly chance


def check(counts: dict[str, Any], data: DataConfig) -> None:
    """Raises what makes training on these rows pointless.

    Raises:
        InputError: too many rows were rejected, a join of nothing, an empty
            split, labels of one class, too many integers out of range.
    """
    if counts["read"] == 0:
        raise InputError(
            f"{', '.join(data.impressions.path)}: no rows in any file"
        )
    check_rejected(counts, data.max_rejected, "rows")
    if data.clicks is not None:
        _check_join(counts["clicks"], data, data.clicks)
    for name, found in counts.get("events", {}).items():
        _check_events(name, found, data)
    for name in data.split.names:
        if counts[name] == 0:
            raise InputError(_empty_split(name, counts, data))
    _check_classes(counts, data)
    for name, found in counts.get("labels", {}).items():
        _check_label(name, found, counts, data)
    for name, count in counts["out_of_range"].items():
        if count > data.max_out_of_range * counts["read"]:
            raise InputError(
                f"column {name}: {count:,} of {counts['read']:,} rows"
                f" ({count / counts['read']:.2%}) hold an integer out of range,"
                " which is read as missing; data.max_out_of_range accepts"
                f" {data.max_out_of_range:.2%}. Give its feature more"
                " `buckets`, or `encode: hash`"
            )


def warnings(counts: dict[str, Any], data: DataConfig) -> list[str]:
    """One sentence for each oddity that a run can live with."""
    found = [
        f"column {name} has no value in any row; its feature tells nothing"
        for name in counts["empty_columns"]
    ]
    if data.time is not None and "by" not in data.split.model_fields_set:
        found.append(
            "data.split.by is not given, so rows are split by"
            f" {data.split.by}: eval rows are as old as those that train."
            " data.split.by: time holds out the newest, as serving meets them"
        )
    for name in data.split.names:
        rows, positives = counts[name], counts["positives"][name]
        for what, count in (
            ("positive", positives),
            ("negative", rows - positives),
        ):
            if rows and not count:
                found.append(
                    f"the {name} split has no {what} among its {rows:,} rows:"
                    " auc and pr_auc cannot be told on it"
                )
            elif rows and count < FEW:
                found.append(
                    f"the {name} split has {counted(count, what)} among its"
                    f" {rows:,} rows; a metric on fewer than {FEW} is mostly"
                    " chance"
                )
    for name, label in counts.get("labels", {}).items():
        found += _few(name, label, data.further_labels[name].of)
    return found


def _check_classes(counts: dict[str, Any], data: DataConfig) -> None:
    """Stops where there is nothing to tell apart in the train split."""
    rows, positives = counts["train"], counts["positives"]["train"]
    if 0 < positives < rows:
        return
    label = data.label
    if isinstance(label, LabelRule):
        rule = label.model_dump(exclude_none=True)
        label = "{" + ", ".join(f"{k}: {v}" for k, v in rule.items()) + "}"
    by = f"data.label: {label}" if label else "a click in data.clicks.window"
    if data.labels:
        by = f"data.labels.{next(iter(data.labels))}"
    raise InputError(
        f"The train split has no {'negative' if positives else 'positive'}: by"
        f" {by} all of its {rows:,} labels are {int(positives > 0)}"
        f"{_left_out(counts)}{_clicks(counts)}. A model needs both"
    )


def _check_label(
    name: str, found: dict[str, Any], counts: dict[str, Any], data: DataConfig
) -> None:
    """Stops where no training row tells a label after the first apart."""
    train = found["splits"]["train"]
    if train["positives"] and train["negatives"]:
        return
    task = data.further_labels[name]
    of = f" with {task.of}" if task.of is not None else ""

    def told(values: dict[str, int]) -> str:
        return (
            f"{values['positives']:,} positives, {values['negatives']:,}"
            f" negatives, {values['unknown']:,} not known"
        )

    others = "; ".join(
        f"{split} {told(values)}"
        for split, values in found["splits"].items()
        if split != "train"
    )
    raise InputError(
        f"data.labels.{name}: {told(train)} in the {sum(train.values()):,}"
        f" training rows{of} ({others}); accepted: training rows of both"
        f" classes{_ends(name, counts, data)}"
    )


def _few(name: str, found: dict[str, Any], of: str | None) -> list[str]:
    """Sentences about a label after the first that splits have too few of."""
    told = []
    for split, values in found["splits"].items():
        rows = sum(values.values()) - values["unknown"]
        where = f"{rows:,} rows{f' with {of}' if of else ''} where it is known"
        for what in ("positive", "negative"):
            count = values[f"{what}s"]
            if not count:
                told.append(
                    f"the {split} split has no {what} of the label {name} among"
                    f" its {where}: auc and pr_auc cannot be told on it"
                )
            elif count < FEW:
                told.append(
                    f"the {split} split has {counted(count, what)} of the label"
                    f" {name} among its {where}; a metric on fewer than {FEW}"
                    " is mostly chance"
                )
    return told


def _ends(name: str, counts: dict[str, Any], data: DataConfig) -> str:
    """When the log of a label's events ends, and when rows were shown."""
    times = counts.get("events", {}).get(name, {}).get("times")
    if not times:
        return ""
    task = data.event_labels[name]
    until = data.events[str(task.from_)].until
    end = times["last"] if until is None else f"until {until}"
    shown = "; ".join(
        f"{split} {span['first']} to {span['last']}"
        for split, span in counts["times"].items()
    )
    return (
        f". A row is known if its window of {task.window} ends before the log"
        f" of {task.from_} does, {end}{f'; {shown}' if shown else ''}"
    )


def _clicks(counts: dict[str, Any]) -> str:
    """Outcome of the clicks, and the times of both logs."""
    clicks = counts.get("clicks")
    if not clicks:
        return ""
    fates = ", ".join(
        f"{clicks[name]:,} {name.replace('_', ' ')}"
        for name, _ in matching.CLICK_OUTCOMES
        if clicks.get(name)
    )
    spans = {**counts["times"], "clicks": clicks["times"]}
    return f"; clicks: {fates or 'none'}. Times: " + "; ".join(
        f"{name} {span['first']} to {span['last']}"
        for name, span in spans.items()
        if span
    )


def _empty_split(name: str, counts: dict[str, Any], data: DataConfig) -> str:
    spans = counts["times"].values()
    moments = {moment for span in spans for moment in span.values()}
    if data.split.by == "time" and len(moments) == 1:
        return (
            f"The {name} split is empty: all {counts['kept']:,} rows have the"
            f" time {moments.pop()}, and rows of one time stay together."
            " Change data.split.by to hash or order, or data.time"
        )
    return (
        f"The {name} split is empty: {counts['kept']:,} rows"
        f"{_left_out(counts)}, split by {data.split.by} with eval"
        f" {data.split.eval}, test {data.split.test}{_commonest(counts)}."
        " Change data.split"
    )


def _commonest(counts: dict[str, Any]) -> str:
    """The commonest reason against rows, if most were rejected."""
    if counts["rejected"] <= counts["read"] / 2:
        return ""
    reason = next(iter(counts["reasons"]))
    return f"; {counts['rejected']:,} rows were rejected, most for: {reason}"


def _left_out(counts: dict[str, Any]) -> str:
    """The good rows that went into no split, in brackets; "" without any."""
    ways = {
        "held_back": "held back",
        "gap": "left out by data.split.gap",
        "sampled_out": "left out by data.negatives",
    }
    found = [
        f"{counts[name]:,} {how}"
        for name, how in ways.items()
        if counts.get(name)
    ]
    return f" ({', '.join(found)})" if found else ""


def _check_join(
    clicks: dict[str, Any], data: DataConfig, source: ClickFiles
) -> None:
    check_rejected(clicks, data.max_rejected, "clicks")
    if clicks["read"] and clicks["orphans"] == clicks["read"]:
        raise InputError(
            f"{', '.join(source.path)}: none of the {clicks['read']:,} clicks"
            " has an impression; are data.clicks.key"
            f" ({', '.join(source.key)}) and its columns in the impressions"
            f" ({', '.join(source.shown_key)}) the right ones?"
        )


def _check_events(name: str, events: dict[str, Any], data: DataConfig) -> None:
    check_rejected(events, data.max_rejected, f"events of the label {name}")
    task = data.event_labels[name]
    kept = events["read"] - events["rejected"]
    if kept and events["orphans"] == kept:
        raise InputError(
            f"{', '.join(data.events[str(task.from_)].path)}: none of the"
            f" {kept:,} events has an impression; are data.labels.{name}.key"
            f" ({', '.join(task.key)}) and its columns in the impressions"
            f" ({', '.join(task.shown_key)}) the right ones?"
        )


def check_rejected(counts: dict[str, Any], accepted: float, what: str) -> None:
    """Raises InputError where more than the accepted share was rejected."""
    read, rejected = counts["read"], counts["rejected"]
    if rejected <= accepted * read:
        return
    lines = [
        f"  {count:,} x {reason}; first at"
        f" {counts['examples'][reason]['file']},"
        f" {counts['examples'][reason]['where']}:"
        f" {counts['examples'][reason]['row']}"
        for reason, count in counts["reasons"].items()
        if reason not in matching.NO_FAULT
    ]
    raise InputError(
        f"{rejected:,} of {read:,} {what} ({rejected / read:.2%}) were"
        " rejected; data.max_rejected accepts"
        f" {accepted:.2%}. The commonest reasons:\n" + "\n".join(lines[:5])
    )
