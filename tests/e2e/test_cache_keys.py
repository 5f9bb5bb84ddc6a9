"""A step runs anew when what it reads has changed, and only then."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.attempts import Attempts, prepare

CALLBACK = """
import keras
from report_format import LINE

class Report(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        open("report.txt", "a").write(LINE)
"""
SETTINGS = (
    "data.curated_schema=schema.pbtxt",
    "train.callbacks=[{name: 'report:Report'}]",
)


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    """A pipeline with a curated schema and a callback that has run twice."""
    folder = tmp_path_factory.mktemp("keys")
    prepare(folder)
    (folder / "report.py").write_text(CALLBACK)
    (folder / "report_format.py").write_text("LINE = 'first\\n'")
    attempts = Attempts(folder)
    code, console = attempts.run()
    assert code == 0, console
    (schema,) = folder.glob("runs/tiny/artifacts/SchemaGen/*/*/schema.pbtxt")
    shutil.copy(schema, folder / "schema.pbtxt")
    code, console = attempts.run(*SETTINGS)
    assert code == 0, console
    return attempts


def state(console: str, component: str) -> str:
    """`done` or `cached`."""
    (line,) = (x for x in console.splitlines() if x.split()[:1] == [component])
    return line.split()[1]


@pytest.mark.slow
def test_nothing_is_done_twice(attempts: Attempts) -> None:
    code, console = attempts.run(*SETTINGS)
    assert code == 0, console
    for component in ("SchemaGen", "Transform", "Trainer", "Baseline"):
        assert state(console, component) == "cached", console
    assert state(console, "Evaluator") == "cached", console


@pytest.mark.slow
def test_a_curated_schema_that_is_edited_in_place_is_read(
    attempts: Attempts,
) -> None:
    path = attempts.folder / "schema.pbtxt"
    schema = path.read_text()
    path.write_text(schema.replace('value: "console"', 'value: "fridge"'))
    assert path.read_text() != schema
    code, console = attempts.run(*SETTINGS)
    assert code == 1
    assert "device: Unexpected string values" in console
    path.write_text("no schema")
    code, console = attempts.run(*SETTINGS)
    assert code == 2
    assert "data.curated_schema: 'schema.pbtxt' is no schema" in console
    path.write_text(schema)
    code, console = attempts.run(*SETTINGS)
    assert code == 0, console
    assert state(console, "SchemaGen") == "cached"


@pytest.mark.slow
def test_a_callback_that_is_edited_is_called(attempts: Attempts) -> None:
    report = attempts.folder / "report.txt"
    assert report.read_text() == "first\n"
    (attempts.folder / "report_format.py").write_text("LINE = 'second\\n'")
    code, console = attempts.run(*SETTINGS)
    assert code == 0, console
    assert state(console, "Transform") == "cached"
    assert state(console, "Trainer") == "done"
    assert report.read_text() == "first\nsecond\n"


@pytest.mark.slow
def test_a_model_that_was_pushed_since_is_the_new_baseline(
    attempts: Attempts,
) -> None:
    code, console = attempts.run("train.seed=21", "root=other")
    assert code == 0, console
    code, console = attempts.run(*SETTINGS)
    assert code == 0, console
    assert state(console, "Trainer") == "cached"
    assert state(console, "Baseline") == "done"
