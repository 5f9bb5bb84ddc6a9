"""Docstrings, comments and the manual begin and end as CONTRIBUTING asks."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    *("pipeline", "components", "models", "optimizers", "serving"),
    *("benchmarks", "deploy", "tests"),
)
_BEGINNING = re.compile(r"(Of|What|Whether)\b")
_MOST = 25  # words of a sentence
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of docstrings, of fields too, and of comments."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", ())
        for one in body if isinstance(body, list) else ():
            if (
                isinstance(one, ast.Expr)
                and isinstance(one.value, ast.Constant)
                and isinstance(one.value.value, str)
            ):
                yield one.lineno, one.value.value.strip()
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:  # the first of several lines
                yield token.start[0], token.string.lstrip("# ")
            last = token.start[0]


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_and_comments_begin_with_a_verb_or_noun(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, text in _texts(path)
        if _BEGINNING.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def _sentences(page: Path) -> Iterator[str]:
    """Sentences of paragraphs and lists; tables, code and headings apart."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    text = re.sub(r"^ *(\||#|!!!|<).*$", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # a link's text counts
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"^ *([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_of_the_manual_are_short(page: Path) -> None:
    long = [
        f"{len(words)} words: {sentence}"
        for sentence in _sentences(page)
        if len(words := re.findall(r"[\w'’-]+", sentence)) > _MOST
    ]
    assert not long, "\n".join(long)
