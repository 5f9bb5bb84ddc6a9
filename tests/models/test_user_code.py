"""Cache keys follow the code that a user names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from models import user_code
from models.architectures.registry import build_model
from models.config.training import ModelConfig
from models.contracts.rows import PLAIN
from models.keras_versions import start_afresh


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a package and modules of a user's."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "user_report"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "callbacks.py").write_text(
        "import keras\nfrom user_helpers import send\nfrom . import text\n"
    )
    (package / "text.py").write_text("TEXT = 1")
    (tmp_path / "user_helpers.py").write_text("import user_deep, os, json\n")
    (tmp_path / "user_deep.py").write_text("raise SystemExit('imported')")
    (tmp_path / "user_other.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    [
        "user_report/callbacks.py",
        "user_report/text.py",
        "user_helpers.py",
        "user_deep.py",
    ],
)
def test_the_version_changes_with_what_a_module_imports(
    here: Path, changed: str
) -> None:
    before = user_code.version(["user_report.callbacks"])
    assert before == user_code.version(["user_report.callbacks"]) != ""
    with (here / changed).open("a") as file:
        file.write("\nNEW = 1\n")
    assert user_code.version(["user_report.callbacks"]) != before
    assert "user_deep" not in sys.modules


def test_the_version_stays_with_other_modules(here: Path) -> None:
    before = user_code.version(["user_report.callbacks"])
    (here / "user_other.py").write_text("NEW = 1")
    assert user_code.version(["user_report.callbacks"]) == before
    assert user_code.version([]) == ""


def test_an_import_that_draws_numbers_leaves_the_seed_as_it_is(
    here: Path,
) -> None:
    (here / "user_draws.py").write_text(
        "import random\n"
        "from models.architectures.wide_deep import build\n"
        "random.random()\n"
    )
    config = ModelConfig.model_validate({"name": "user_draws:build"})
    starts = []
    for _ in range(2):  # the first imports it
        start_afresh(3)
        starts.append(build_model(PLAIN, config, 0.2).get_weights())
    for one, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(one, other)
