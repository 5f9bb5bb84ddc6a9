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


def log_format(name: str) -> Any:
    """The LogFormat that `name` names: one object for each name of ours.

    Raises:
        ValueError: there is none; it names the field and what is accepted.
    """
    return _ours(name) if name in FORMATS.names else _make(name)


def _make(name: str) -> Any:
    return FORMATS.make(name, "`format`", needs="settings")


_ours = cache(_make)
