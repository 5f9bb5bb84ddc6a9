"""Every YAML and shell block of README and manual is right."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.perf import __main__ as perf
from pipeline import cli
from pipeline.config import load

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.M | re.S)
# Sections that complete a fragment of a config.
MINIMAL: dict[str, Any] = {
    "name": "ads",
    "data": {
        "impressions": {"path": "a.tsv", "format": "tsv", "header": True},
        "label": "click",
        "time": "timestamp",
    },
    "features": {"categorical": ["user_id", "device"]},
}


def _blocks(*languages: str) -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in _BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 1
            if match[2] in languages:
                yield pytest.param(
                    page,
                    textwrap.dedent(match[3]),
                    id=f"{page.relative_to(ROOT)}:{line}",
                )


@pytest.mark.parametrize(("page", "block"), _blocks("yaml", "yml"))
def test_a_yaml_block_loads_as_a_config(page, block, tmp_path, monkeypatch):
    for module, name in re.findall(r"\b(\w+):([A-Z]\w*)\"", block):
        # The user's own module: the page shows its source.
        monkeypatch.delitem(sys.modules, module, raising=False)
        for _, _, python in _BLOCK.findall(page.read_text("utf-8")):
            if f"class {name}" in python:
                (tmp_path / f"{module}.py").write_text(python, "utf-8")
    config = tmp_path / "config.yaml"
    given = yaml.safe_load(block)
    if not {"name", "data", "features"} <= given.keys():
        data = {**MINIMAL["data"], **given.get("data", {})}
        if "columns" in data["impressions"]:
            data.pop("time")
        block = yaml.safe_dump({**MINIMAL, **given, "data": data})
    config.write_text(block, "utf-8")
    assert load(config).name


def _commands(block: str) -> Iterator[list[str]]:
    """The words of each simple command, loops and comments taken apart."""
    text = block.replace("\\\n", " ")
    for line in text.splitlines():
        for part in re.split(r"&&|;(?= |$)|\bdo\b", line):
            words = shlex.split(part, comments=True)
            yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize(
    ("page", "block"), _blocks("sh", "shell", "bash", "console")
)
def test_a_shell_block_names_what_exists(page, block):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in _commands(block):
        match words:
            case ["lionctr", *arguments]:
                cli._parser().parse_args(arguments)  # exits if it is wrong
            case ["make", *names]:
                assert {n for n in names if "=" not in n} <= set(targets)
            case ["python" | "python3", "-m", module, *_]:
                if module.partition(".")[0] in ("benchmarks", "pipeline"):
                    path = ROOT.joinpath(*module.split("."))
                    assert path.is_dir() or path.with_suffix(".py").exists()
            case ["python" | "python3", script, *_] if script != "-c":
                assert (ROOT / script).exists()


def test_every_benchmark_that_the_docs_name_exists():
    named = {
        name
        for page in [*PAGES, ROOT / "CHANGELOG.md"]
        for name in re.findall(
            r"\b(?:benchmarks|deploy)/[\w/]+\.\w+", page.read_text("utf-8")
        )
    }
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
    for page in PAGES:
        for module in re.findall(
            r"python -m (benchmarks[\w.]*)", page.read_text("utf-8")
        ):
            path = ROOT.joinpath(*module.split("."))
            assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_the_docs_name_benchmarks_and_options_that_there_are():
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(r"-m benchmarks\.perf (\w+)", text)
        assert set(named) <= set(perf.NAMES), page
        for name, option in re.findall(r"--set ([a-z_]+)\.([a-z_]+)=", text):
            if name in perf.NAMES:
                module = importlib.import_module(f"benchmarks.perf.{name}")
                assert option in inspect.signature(module.run).parameters
