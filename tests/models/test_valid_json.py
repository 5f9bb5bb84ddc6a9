"""JSON that any parser reads."""

from __future__ import annotations

import json
import math
from typing import Any

from models import valid_json


def strict(text: str) -> Any:
    """Parses as RFC 8259 says: NaN and Infinity are refused."""

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_what_is_no_number_is_null() -> None:
    value = {
        "nan": math.nan,
        "list": [1.5, math.inf, (-math.inf, "NaN")],
        "inner": {"a": {"b": math.nan, "c": None, "d": True, "é": 2**70}},
    }
    assert strict(valid_json.dumps(value)) == {
        "nan": None,
        "list": [1.5, None, [None, "NaN"]],
        "inner": {"a": {"b": None, "c": None, "d": True, "é": 2**70}},
    }
