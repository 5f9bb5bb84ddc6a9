"""Findings of a run on a GPU: printed at once, and kept as JSON."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Report:
    """Prints each finding at once, and keeps all in a file."""

    def __init__(self, path: Path) -> None:
        self.failed = False
        self._path = path
        self._found: dict[str, Any] = {}

    def say(self, name: str, found: Any) -> None:
        """Adds a finding."""
        self._found[name] = found
        print(f"{name}: {found}", flush=True)
        self._path.write_text(json.dumps(self._found, indent=1), "utf-8")

    def attempt(self, name: str, part: Callable[..., Any], *given: Any) -> Any:
        """Calls one part; an error in it is a finding too."""
        began = time.perf_counter()
        try:
            found = part(*given)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        wrong = isinstance(found, dict) and (
            "error" in found or not found.get("right", True)
        )
        self.failed |= wrong
        if isinstance(found, dict):
            found["took_s"] = round(time.perf_counter() - began, 1)
        self.say(name, found)
        return found
