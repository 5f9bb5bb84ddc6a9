"""YAML files of a config: the values, and the line of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_DEPTH = 50  # levels; a config has about eight
_NODES = 1_000_000  # with aliases written out
_NAMED = 6  # levels on which elements of lists go by their names too
_BITS = 256  # of a whole number
_MERGE = "tag:yaml.org,2002:merge"

Way = tuple[str, ...]
Lines = Mapping[Way, int]
NO_LINE = 0  # of what the command line sets


class YamlError(Exception):
    """The text is not YAML, or more than YAML; the message says where.

    line: of the text, from 1; None if no line is to blame.
    field: the path of the value, dotted; "" if it is not about one.
    """

    def __init__(self, problem: str, line: int | None, field: str = "") -> None:
        super().__init__(problem)
        self.line = line
        self.field = field


@dataclass(frozen=True)
class Document:
    """Content of a YAML file.

    lines: path of keys -> the line where the value is declared, from 1. An
    element of a list is under its number and, if it has one, its `name`.
    """

    value: Any
    lines: Lines


def read(path: Path) -> Document:
    """The document in a file.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read as text.
        YamlError: the text is wrong.
    """
    return parse(path.read_text("utf-8-sig"))


def parse(text: str) -> Document:
    """The document in a text.

    Raises:
        YamlError: the text is wrong.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document(None, {})
            return _document(loader, node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise YamlError(_problem(error), line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(
            f"character {error.character!r}: {error.reason}", line
        ) from error
    except yaml.YAMLError as error:
        raise YamlError(str(error), None) from error


def _document(loader: _Loader, node: Node) -> Document:
    marks = list(_marks(node, ()))
    try:
        value = loader.construct_document(node)
    except ConstructorError as error:
        mark = error.problem_mark
        path = next((p for p, m in marks if mark and m.index == mark.index), ())
        line = mark.line + 1 if mark else None
        raise YamlError(_problem(error), line, ".".join(path)) from error
    return Document(value, {path: m.line + 1 for path, m in _lines(node, ())})


def _problem(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(filter(None, (error.context, error.problem)))


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is a number and a key may not come twice.

    Nesting and aliases are bounded, so that no text exhausts the stack or
    the memory.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        mark = self.peek_event().start_mark
        is_alias = self.check_event(AliasEvent)
        if self._depth == _DEPTH:
            raise ComposerError(
                None, None, f"more than {_DEPTH} levels of nesting", mark
            )
        self._depth += 1
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise ComposerError(
                None, None, "an alias of the value that holds it", mark
            )
        if node is not None and not is_alias:
            self._sizes[id(node)] = size = 1 + sum(
                self._sizes[id(part)] for part in _parts(node)
            )
            if size > _NODES:
                raise ComposerError(
                    None, None, f"more than {_NODES:,} values", mark
                )
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise ComposerError(
                        None,
                        None,
                        f"key {key.value!r} comes twice",
                        key.start_mark,
                    )
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # each type of YAML fails in its own way
            known = isinstance(error, ValueError)
            why = str(error) if known else "not in its form"
            raise _misread(node, why) from error
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise _misread(node, "too large")
        return value


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _misread(node: Node, why: str) -> ConstructorError:
    kind = str(node.tag).rpartition(":")[2]
    return ConstructorError(
        None,
        None,
        f"received {_short(str(node.value))}, which YAML takes for"
        f" {_KINDS.get(kind, kind)}: {why.partition(';')[0]}. Text needs"
        " quotes",
        node.start_mark,
    )


_KINDS = {"int": "a number", "float": "a number", "timestamp": "a date"}


def _parts(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _marks(node: Node, path: Way) -> Iterator[tuple[Way, yaml.Mark]]:
    """Path -> where the value begins."""
    yield path, node.start_mark
    for part, _, value in _below(node):
        yield from _marks(value, (*path, part))


def _lines(node: Node, path: Way) -> Iterator[tuple[Way, yaml.Mark]]:
    """Path -> where it is declared; what a merge key brought is declared there.

    An element of a list comes under its number and its name.
    """
    for part, mark, value in _below(node):
        names = [part]
        is_element = isinstance(node, SequenceNode) and len(path) < _NAMED
        if is_element and _name(value):
            names.append(_name(value))
        for name in names:
            yield (*path, name), mark
            yield from _lines(value, (*path, name))


def _below(node: Node) -> Iterator[tuple[str, yaml.Mark, Node]]:
    """Key or number, where it stands, and value of each element."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                yield str(key.value), key.start_mark, value
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value):
            yield str(number), value.start_mark, value


def _name(node: Node) -> str:
    """Names by which `--set` may call an element of a list."""
    if isinstance(node, ScalarNode):
        return str(node.value)
    for key, _, value in _below(node):
        if key == "name" and isinstance(value, ScalarNode):
            return str(value.value)
    return ""


def _short(text: str) -> str:
    shown = repr(text[:60])
    return f"{shown}... ({len(text):,} characters)" if text[60:] else shown
