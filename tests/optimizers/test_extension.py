"""Extensions are found by our name, or as package.module:Name of a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizers import extension
from optimizers.extension import Registry

REGISTRY = Registry(
    "shape", "draw.shape", {"round": "math:pi", "flat": "math:e"}, "a number"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIONCTR_EXTENSIONS", raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_our_names_and_a_users_own(here: Path) -> None:
    write(here / "my_shapes.py", "oval = 7")
    assert REGISTRY.load("flat") < REGISTRY.load("round")
    assert REGISTRY.load("my_shapes:oval") == 7
    assert REGISTRY.names == ("round", "flat")


@pytest.mark.parametrize("name", ["rund", "", None, "a.b", "a:b:c", "a b:c"])
def test_an_unknown_name_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError) as error:
        REGISTRY.load(name)
    text = str(error.value)
    assert text.startswith(f"draw.shape: no shape has the name {name!r}")
    assert "Accepted: round, flat, or package.module:Name of" in text
    assert ("did you mean 'round'" in text) == (name == "rund")


def test_a_module_that_fails_or_lacks_the_name(here: Path) -> None:
    write(here / "my_broken.py", "import no_such_thing")
    for name, words in {
        "my_broken:x": ["draw.shape", "my_broken:x", "no_such_thing"],
        "my_nothing:x": ["cannot import 'my_nothing'", str(here)],
        "math:tau2": ["'math' has no 'tau2'", "a number"],
    }.items():
        with pytest.raises(ValueError) as error:
            REGISTRY.load(name)
        for word in words:
            assert word in str(error.value)


def test_a_module_beside_the_config_goes_before_the_current_folder(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    beside = tmp_path_factory.mktemp("configs")
    write(here / "my_twice.py", "x = 'current folder'")
    write(beside / "my_twice.py", "x = 'beside the config'")
    extension.search(beside)
    assert REGISTRY.load("my_twice:x") == "beside the config"


def test_a_users_package_may_have_the_name_of_ours(here: Path) -> None:
    write(here / "optimizers" / "my_part.py", "from optimizers import names\n")
    write(here / "optimizers" / "deep" / "__init__.py", "")
    write(here / "optimizers" / "deep" / "part.py", "from .. import my_part")
    assert REGISTRY.load("optimizers.deep.part:my_part").names
    from optimizers import names  # ours, still

    assert "lion" in names()


def test_ours_go_before_a_users_file_and_that_is_said(here: Path) -> None:
    write(here / "optimizers" / "kernel.py", "own = 1")
    with pytest.raises(ValueError, match=r"rename yours") as error:
        REGISTRY.load("optimizers.kernel:own")
    assert str(here / "optimizers" / "kernel.py") in str(error.value)
    with pytest.warns(UserWarning, match="rename yours"):
        assert REGISTRY.load("optimizers.kernel:KERNELS")
