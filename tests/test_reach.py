"""Every module of the project is reached from a test: none is dead."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "components", "models", "optimizers", "serving")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
}


def named(path: Path) -> set[str]:
    """Modules that a file imports, or names in a string."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for word in re.findall(r"\w+(?:\.\w+)+", node.value):
                names |= {word, word.rpartition(".")[0]}
    return names


def test_every_module_is_reached_from_a_test() -> None:
    waiting = {
        name for path in (ROOT / "tests").rglob("*.py") for name in named(path)
    }
    exported = {
        ".".join(path.parent.relative_to(ROOT).parts): named(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in MODULES:
            waiting |= named(MODULES[name])
        waiting |= exported.get(name, set())
    dead = sorted(MODULES.keys() - reached)
    assert not dead, f"no test reaches {', '.join(dead)}"
