"""Arguments of embedding tables apart: a spec of one as a spec of groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizers.config.catalog import AUTO, TABLE_ARGUMENTS

TABLES = r"(.*/)?(table|embeddings)"
_OF_THE_REST = {
    "table_rate": "learning_rate",
    "table_beta_2": "beta_2",
    "table_frequency_power": "frequency_power",
}


def expanded(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with a group for embedding tables, if it gives them anything.

    Raises:
        ValueError: a rate is still to be chosen.
    """
    if AUTO in (spec.get("learning_rate"), spec.get("table_rate")):
        raise ValueError(
            "`optimizer.learning_rate` and `table_rate`: received 'auto',"
            " which the training replaces; accepted here: a number"
        )
    own = {k: spec[k] for k in TABLE_ARGUMENTS if spec.get(k) is not None}
    rest = {k: v for k, v in spec.items() if k not in TABLE_ARGUMENTS}
    if not own or "groups" in spec:
        return rest
    whole: dict[str, Any] = {
        key: rest.pop(key)
        for key in ("schedule", "loss_scale_factor")
        if key in rest
    }
    tables = {_OF_THE_REST[key]: value for key, value in own.items()}
    return {
        "groups": [
            {**rest, **tables, "match": TABLES},
            {**rest, "match": ".*"},
        ],
        **whole,
    }
