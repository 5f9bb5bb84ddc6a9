"""Quiet TensorFlow, Keras 2 for TFX's layers, `--quick`, and clean imports."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# Without compiled modules each process imports TFX in 25 s instead of 10.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Processes of tests share the cores: threads of a product of matrices that
# wait for one another take half of its time more.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import models  # noqa: F401 (pins Keras 2 before TensorFlow loads)
from tests import covering, quick

sys.dont_write_bytecode = False
OURS = ("components", "models", "optimizers", "pipeline", "serving")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quick`: only modules that import no TensorFlow or TFX."""
    parser.addoption("--quick", action="store_true", help="as `make check`")


def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> bool | None:
    """Leave slow modules unimported with `--quick`."""
    if not config.getoption("--quick") or collection_path.suffix != ".py":
        return None
    name = collection_path.name
    if not name.startswith("test_") or quick.is_quick(collection_path):
        return None
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make slow` what a test marked `pairs` has beyond pairs."""
    grids: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("pairs"):
            grids[item.nodeid.partition("[")[0]].append(item)
    for cells in grids.values():
        values = [
            {name: repr(value) for name, value in cell.callspec.params.items()}
            for cell in cells
        ]
        chosen = covering.covering(values)
        for place, cell in enumerate(cells):
            if place not in chosen:
                cell.add_marker("slow")


def pytest_collection_finish() -> None:
    """Exempt what is imported by now from the collection of garbage.

    Keras collects whenever a training starts afresh: 0.6 s with TFX imported.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a quick test that loads a slow package after all."""
    before = quick.imported_now()
    yield
    loaded = sorted({*quick.imported_now()} - {*before})
    if item.config.getoption("--quick") and loaded:
        pytest.fail(f"--quick loaded {', '.join(loaded)}; accepted: none")


@pytest.fixture(autouse=True)
def nothing_left(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Forget the modules of one test's folder before the next test.

    A test that leaves another current folder or another level of our log
    fails itself, instead of a later one.
    """
    folders = str(tmp_path_factory.getbasetemp())
    searched = os.environ.get("LIONCTR_EXTENSIONS")
    path, known = [*sys.path], {*sys.modules}
    ours = logging.getLogger("lionctr")
    left = Path.cwd(), ours.level, [*ours.handlers]
    yield
    if os.environ.get("LIONCTR_EXTENSIONS") != searched:
        os.environ.pop("LIONCTR_EXTENSIONS", None)
        os.environ.update(
            {} if searched is None else {"LIONCTR_EXTENSIONS": searched}
        )
    if sys.path != path:
        sys.path[:] = path
    for name in sys.modules.keys() - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and file.startswith(folders):
            del sys.modules[name]
    for name in [n for n in sys.modules if n.startswith(OURS)]:
        places = getattr(sys.modules[name], "__path__", None)
        if isinstance(places, list):  # extensions continue our packages
            places[:] = [p for p in places if not p.startswith(folders)]
    assert (Path.cwd(), ours.level, [*ours.handlers]) == left
