"""Nobody can flood the server's log."""

import logging

from serving.log_lines import RateLimit


def test_a_flood_of_lines_is_kept_back_and_counted() -> None:
    limit = RateLimit(lines=3, seconds=10.0)
    passed = []
    for number in range(100):
        record = logging.LogRecord("a", 40, "", 0, "line %d", (number,), None)
        record.created = 1000.0 + number * 0.01 + 20.0 * (number == 99)
        if limit.filter(record):
            passed.append(record.getMessage())
    assert passed == [
        "line 0",
        "line 1",
        "line 2",
        "line 99 (96 lines kept back)",
    ]
