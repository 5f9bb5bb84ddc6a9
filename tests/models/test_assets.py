"""Assets are read a part at a time, or whole: the same lines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocessing import transform_assets


def transform(folder: str, content: bytes) -> Any:
    (Path(folder) / "assets").mkdir()
    (Path(folder) / "assets" / "vocab_a").write_bytes(content)
    return SimpleNamespace(transform_savedmodel_dir=folder)


@given(
    st.lists(st.binary(min_size=1).map(lambda x: x.replace(b"\n", b"-"))),
    st.booleans(),
)
def test_an_asset_has_its_lines(lines: list[bytes], ended: bool) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    with tempfile.TemporaryDirectory() as folder:
        given = transform(folder, content)
        assert transform_assets.asset_lines(given, "vocab_a") == lines
        assert transform_assets.asset_text(given, "vocab_a") == b"\n".join(
            lines
        )
        assert transform_assets.asset_size(given, "vocab_a") == len(lines)


@pytest.mark.parametrize("part", [1, 2, 3, 5])
def test_lines_are_counted_across_the_parts_of_a_file(
    tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transform_assets, "_PART", part)
    given = transform(str(tmp_path), b"\na\nbc\n\n\xc3\xa4\nlast")
    assert transform_assets.asset_size(given, "vocab_a") == 4
    assert transform_assets.asset_lines(given, "vocab_a") == [
        b"a",
        b"bc",
        b"\xc3\xa4",
        b"last",
    ]
