"""Counts of the ingest, in lines for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rows(counts: dict[str, Any]) -> str:
    """How many rows became what."""
    text = (
        f"{counts['read']:,} rows, {counts['rejected']:,} rejected,"
        f" {counts['train']:,} train, {counts['eval']:,} eval"
    )
    outside = [
        f"{name} {count:,}"
        for name, count in counts["out_of_range"].items()
        if count
    ]
    if outside:
        text += f"; out of range: {', '.join(outside)}"
    return text


def details(counts: dict[str, Any], splits: Sequence[str]) -> list[str]:
    """A line for each split, and for each warning."""
    spans = times(counts)
    lines = []
    for name in [*splits, "clicks"]:
        if name in splits:
            line = f"{name:<6} {counts['positives'][name]:>9,} positives"
            weights = counts.get("weights", {}).get(name)
            if weights:
                line += (
                    f"  weights {weights['rows']:,.6g},"
                    f" of positives {weights['positives']:,.6g}"
                )
        elif spans.get(name):
            line = f"{name:<6} {counts['clicks']['read']:>9,} rows     "
        else:
            continue
        if spans.get(name):
            line += f"  {spans[name]['first']} to {spans[name]['last']}"
        lines.append(line)
    lines += [
        f"{name:<6} {found['positives']:>9,} positives"
        f"  {found['negatives']:,} negatives, {found['unknown']:,} not known"
        for name, found in counts.get("labels", {}).items()
    ]
    return lines + [f"warning: {text}" for text in counts["warnings"]]


def about(counts: dict[str, Any], split: str) -> list[str]:
    """The warnings about a split's labels, which explain its metrics."""
    warnings: list[str] = counts.get("warnings", [])
    return [text for text in warnings if text.startswith(f"the {split} split")]


def times(counts: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Split, or clicks -> first and last time, as understood, in UTC."""
    spans: dict[str, dict[str, str]] = dict(counts.get("times", {}))
    clicks = counts.get("clicks", {}).get("times")
    return spans | ({"clicks": clicks} if clicks else {})
