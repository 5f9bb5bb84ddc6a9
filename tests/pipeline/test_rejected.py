"""`lionctr rejected`: which run, which rows, how fast, how they are shown."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import InputError
from pipeline.cli import main
from pipeline.commands.rejected import show

ROWS = [
    {"file": "a.csv", "where": "byte 5", "reason": "no label", "row": "x,é"},
    {
        "file": "a.csv",
        "where": "byte 9",
        "reason": "3 columns",
        "row": "\x1b[1m",
    },
    {
        "file": "b.csv",
        "where": "row 7",
        "reason": "no label",
        "row_base64": base64.b64encode(b"\xff\0y").decode(),
    },
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs; the later one was refused."""
    artifact = tmp_path / "rejected/3-refused"
    artifact.mkdir(parents=True)
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        (artifact / f"rejected-{number:05d}-of-00002.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    counts = {"reasons": {"no label": 2, "3 columns": 1}}
    (artifact / "counts.json").write_text(json.dumps(counts))
    for run, place in (
        ("20240101-000000", None),
        ("20240102-000000", artifact),
    ):
        folder = tmp_path / "runs/ads/runs" / run
        folder.mkdir(parents=True)
        summary = {"rejected": place and str(place), "message": "no file"}
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "runs"


def shown(capsys: Any, *words: str, **options: Any) -> str:
    assert show(*words, **options) == 0
    return str(capsys.readouterr().out)


def test_counts_come_first_then_rows_with_escapes(
    root: Path, capsys: Any
) -> None:
    text = shown(capsys, "last", str(root))
    head, *rows = text.split("\n\n")
    assert head.splitlines()[0].startswith("3 rows in ")
    assert head.splitlines()[1].split() == ["2", "no", "label"]
    assert rows[0] == "a.csv, byte 5: no label\n  x,é"
    assert rows[1].endswith("\\x1b[1m")
    assert rows[2] == "b.csv, row 7: no label\n  \\xff\\x00y\n"


def test_a_run_is_named_in_several_ways(root: Path, capsys: Any) -> None:
    whole = shown(capsys, "last", str(root))
    run = root / "ads/runs/20240102-000000"
    artifact = root.parent / "rejected/3-refused"
    assert shown(capsys, run.name, str(root)) == whole
    assert shown(capsys, str(run)) == whole
    assert shown(capsys, str(artifact)) == whole


def test_a_config_names_its_last_run(
    root: Path, capsys: Any, tmp_path: Path
) -> None:
    config = tmp_path / "ads.yaml"
    text = Path("configs/demo.yaml").read_text()
    text = text.replace("name: demo", "name: ads")
    config.write_text(text.replace("root: runs", f"root: {root}"))
    assert "3 rows in" in shown(capsys, str(config))


def test_rows_are_chosen_by_reason_and_limited(root: Path, capsys: Any) -> None:
    text = shown(capsys, "last", str(root), reason="LABEL", limit=1)
    assert text.count("\n\n") == 2
    assert "1 more; --limit 0" in text
    found = json.loads(
        shown(capsys, "last", str(root), reason="columns", as_json=True)
    )
    assert found["rows"] == [ROWS[1]]
    assert found["reasons"] == {"no label": 2, "3 columns": 1}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("20300101-000000", "Runs in .*: 20240101-000000, 20240102-000000"),
        ("20240101-000000", "no rejected rows to show.*no file"),
        ("ads", "no finished run"),
    ],
)
def test_what_is_no_run_is_an_error_that_says_what_is(
    root: Path, run: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        show(run, str(root))


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run's folder"):
        show(str(tmp_path))


def test_it_imports_nothing_heavy(root: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        f"assert main(['rejected', 'last', '--root', {str(root)!r}]) == 0\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'numpy', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wrong_run_exits_with_2(root: Path) -> None:
    assert main(["rejected", "x", "--root", str(root)]) == 2


@pytest.mark.parametrize("command", ["run", "rejected", "compare"])
def test_a_root_on_an_object_store_is_kubeflows(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.pipeline.small import make_config

    config = make_config(tmp_path, root="s3://bucket/runs")
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config.resolved()), "utf-8")
    assert main([command, str(path)]) == 2
    error = capfd.readouterr().err
    assert "'s3://bucket/runs'" in error and "Kubeflow" in error
    assert not Path("s3:").exists()
