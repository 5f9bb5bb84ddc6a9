"""A component's code version covers what it imports, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline import code_version
from pipeline.code_version import imported

ROOT = Path(__file__).parents[2]
PACKAGES = ("components", "models", "optimizers", "pipeline", "serving")


def parsed(module: str) -> set[str]:
    """Imports of a module, as Python's own parser finds them."""
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    tree = ast.parse(
        (file if file.exists() else path / "__init__.py").read_text("utf-8")
    )
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {
        name
        for name in names
        if name.partition(".")[0] in PACKAGES and code_version._path(name)
    }


@pytest.mark.parametrize(
    "module",
    [
        "components.click_log_gen.component",
        "components.transform.component",
        "components.evaluator.component",
        "models.trainer",
        "models.tuner",
        "pipeline.cli",
    ],
)
def test_every_import_that_the_parser_sees_is_followed(module):
    found = imported(module)
    for name in found:
        assert parsed(name) <= found, name


def test_a_component_does_not_depend_on_its_siblings():
    ingest = imported("components.click_log_gen.component")
    assert "components.transform.executor" not in ingest
    assert "models.training.loop" not in ingest
    assert "components.click_log_gen.formats.avro" in ingest


def test_the_trainer_depends_on_every_architecture_and_on_the_kernels():
    found = imported("models.trainer")
    for path in (ROOT / "models" / "architectures").glob("*.py"):
        if path.stem not in ("__init__", "logistic"):  # a baseline's
            assert f"models.architectures.{path.stem}" in found
    assert "models.keras2.tfrs_dlrm" in found
    files = code_version._files(("models.trainer",))
    assert ROOT / "optimizers" / "ops" / "cc" / "lion_cpu.cc" in files


def test_a_comment_changes_the_version_of_those_that_import_it_alone(
    tmp_path, monkeypatch
):
    for package in ("components/one", "components/two", "models"):
        folder = tmp_path / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    (tmp_path / "components" / "__init__.py").write_text("")
    shared = tmp_path / "models" / "shared.py"
    shared.write_text("x = 1\n")
    one = tmp_path / "components" / "one" / "executor.py"
    one.write_text("from models import (\n    shared,\n)\n")
    two = tmp_path / "components" / "two" / "executor.py"
    two.write_text("y = 2\n")
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)

    def versions():
        code_version._imports.cache_clear()
        code_version._path.cache_clear()
        return [
            code_version.code_version(f"components.{name}.executor")
            for name in ("one", "two")
        ]

    first = versions()
    one.write_text(one.read_text() + "# a comment\n")
    second = versions()
    assert second[0] != first[0]
    assert second[1] == first[1]
    shared.write_text("x = 1  # a comment\n")
    third = versions()
    assert third[0] != second[0]
    assert third[1] == second[1]
    code_version._imports.cache_clear()
    code_version._path.cache_clear()


def test_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match=r"no module 'components\.nothing'"):
        code_version.code_version("components.nothing")
