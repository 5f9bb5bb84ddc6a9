"""Formats to try for a value that was not taken for a time."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from components.arrow_masks import mask, nulled
from components.click_log_gen.columns import time_parse
from models.config import time_format

# Commonest first; a value may be in several of them.
_FORMATS = (
    "%Y%m%d", "%y%m%d%H", "%Y%m%d%H", "%Y%m%d%H%M", "%y%m%d%H%M%S",
    "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f", "%y%m%d%H%M", "%y%m%d", "%d%m%Y",
    "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y%m%d %H:%M:%S", "%Y%m%d-%H:%M:%S",
    "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M:%S.%f",
    "%Y.%m.%d %H:%M:%S", "%Y-%m-%d-%H", "%Y-%m-%d %H:%M:%S,%f",
    "%Y-%m-%dT%H:%M:%S,%f", "%Y-%m-%dT%H:%M:%S%z[UTC]",
    "%Y-%m-%dT%H:%M:%S.%f%z[UTC]", "%Y-%m-%d %H:%M:%S %z",
    "%Y-%m-%d %H:%M:%S.%f %z", "%Y-%m-%d %I:%M:%S %p",
    "%d/%b/%Y:%H:%M:%S %z", "%d/%b/%Y:%H:%M:%S", "%d-%b-%Y %H:%M:%S",
    "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Z %Y",
    "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S",
)  # fmt: skip
_TRIED = 1000  # distinct values that are looked at


def formats(text: pa.Array, first: int, after: int) -> pa.Array:
    """For each text a format that makes it a time in [first, after), or null.

    Only so many distinct values are tried; the others get null.
    """
    encoded = text.dictionary_encode()
    values = pc.utf8_trim_whitespace(encoded.dictionary[:_TRIED])
    left = values
    found = pa.nulls(len(values), pa.string())
    for name in _FORMATS:
        if left.null_count == len(left):
            break
        format = time_format.parse(name)
        micros = time_parse.micros(left, format, None)
        fits = pc.and_(pc.greater_equal(micros, first), pc.less(micros, after))
        if format.digits_only:  # a number that lost zeros is a weak sign
            wide = pc.equal(pc.utf8_length(left), format.width)
            fits = pc.and_(fits, wide)
        fits = pc.fill_null(fits, False)
        found = pc.if_else(fits, name, found)
        left = nulled(left, mask(fits))
    rest = pa.nulls(len(encoded.dictionary) - len(values), pa.string())
    return pa.concat_arrays([found, rest]).take(encoded.indices)
