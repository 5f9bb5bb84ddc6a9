"""The loss of a training in summary, report and manifest; its warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.config.training import TrainConfig
from models.input_pipeline.groups import Pairs
from models.losses.registry import Loss
from models.training.early_stopping import deciding

# Share of the rows that could be compared: below it, a warning.
_FEW = 0.5


def describe(
    loss: Loss, pairs: Pairs | None, config: TrainConfig, group: str | None
) -> dict[str, Any]:
    """The loss in JSON types.

    Args:
        loss: of the training.
        pairs: that batches hold, of a loss that compares rows.
        config: the config section.
        group: column of the groups.
    """
    compared = None
    if pairs is not None:
        compared = asdict(pairs) | {
            "share_of_pairs": round(pairs.seen / pairs.total, 4),
            "share_of_rows": round(pairs.share, 4),
        }
    return {
        "name": loss.name,
        "options": config.loss.options,
        "calibrated": loss.calibrated,
        "calibrated_by": None,
        "decides": deciding(config.early_stopping, loss),
        "group": group if loss.grouped else None,
        "pairs": compared,
    }


def warnings(
    loss: Mapping[str, Any], config: TrainConfig, calibrates: bool
) -> list[str]:
    """A line for what a reader must know of the loss.

    Args:
        loss: from `describe`.
        config: the config section.
        calibrates: whether the export is calibrated afterwards.
    """
    found = []
    if not loss["calibrated"] and not calibrates:
        found.append(
            f"train.loss {loss['name']} gives scores, not click"
            " probabilities: its minimum is elsewhere. evaluate.calibrate:"
            " platt or isotonic mends it in the export"
        )
    pairs = loss["pairs"]
    if pairs is not None and pairs["share_of_rows"] < _FEW:
        found.append(
            f"train.loss {loss['name']} compares {pairs['compared']:,} of"
            f" {pairs['comparable']:,} rows of groups with both labels: the"
            " others meet no row of their group in a batch. Try a greater"
            f" train.shuffle, now {config.shuffle:,} rows, or"
            " train.batch_size; or sort the log by group"
        )
    return found
