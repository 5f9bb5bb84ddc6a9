"""A command without its extra says what to install."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from pipeline import cli


@pytest.mark.parametrize(
    ("package", "code", "text"),
    [
        ("yaml", 2, "pip install 'lion-ctr[pipeline]'"),
        ("torch", 1, "torch"),
    ],
)
def test_a_missing_package_is_named(package, code, text, monkeypatch, capsys):
    def command(_):
        raise ModuleNotFoundError(f"No module {package}", name=package)

    monkeypatch.setattr(cli, "_config", command)
    assert cli.main(["config", "--schema"]) == code
    shown = capsys.readouterr().err
    assert text in shown and ("pip" in shown) == (code == 2)


def test_every_package_of_an_extra_is_known_to_the_command() -> None:
    root = Path(__file__).parents[2]
    of_base = {"absl", "google", "keras", "numpy", "pydantic", "tensorflow"}
    listed = {p for names in cli._EXTRAS.values() for p in names.split()}
    rooms = ("pipeline", "components", "models", "optimizers", "serving")
    found: set[str] = set()
    for room in rooms:
        for path in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(str(node.module))
    tops = {name.partition(".")[0] for name in found}
    assert tops - {*sys.stdlib_module_names, *rooms} - of_base == listed
