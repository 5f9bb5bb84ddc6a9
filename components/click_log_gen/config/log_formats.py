"""The log formats that `data.*.format` may name."""

from __future__ import annotations

from functools import cache
from typing import Any

from optimizers.extension import Registry

FORMATS = Registry(
    "log format",
    "data.impressions.format",
    {
        "csv": "components.click_log_gen.formats.delimited:CSV",
        "tsv": "components.click_log_gen.formats.delimited:TSV",
        "jsonl": "components.click_log_gen.formats.jsonl:JSONL",
        "parquet": "components.click_log_gen.formats.parquet:PARQUET",
        "tfrecord": "components.click_log_gen.formats.tf_examples:TFRECORD",
        "avro": "components.click_log_gen.formats.avro:AVRO",
    },
    "a LogFormat (components.click_log_gen.formats.log_format), or a class of"
    " one that takes no arguments",
)


@cache
def log_format(name: str) -> Any:
    """The LogFormat that `name` names.

    Raises:
        ValueError: there is none; it names the field and what is accepted.
    """
    loaded = FORMATS.load(name, "`format`")
    try:
        made = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:  # the user's code may raise anything
        raise ValueError(
            f"`format`: {name!r} cannot be made: {type(error).__name__}:"
            f" {error}. Accepted: {FORMATS.wanted}"
        ) from error
    if not hasattr(made, "settings"):
        raise ValueError(
            f"`format`: received {name!r}, a {type(made).__name__}."
            f" Accepted: {FORMATS.wanted}"
        )
    return made
