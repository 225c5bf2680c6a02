"""YAML text → documents with line numbers, with the traps of YAML refused in one clear line each.

Scalars are read as kubectl reads them: dates stay text, `1:30` is not a number in base 60, and a key given twice is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Bound of one input; etcd takes no object above 1.5 MiB, so a real folder is far below."""
MAX_NODES = 500_000
"""Bound of the nodes of one document after its anchors are expanded."""
MAX_DEPTH = 200
"""Deeper nesting is refused before anything recurses into it; manifests are checked against a lower bound afterwards."""
MAX_DIGITS = 1000
"""A longer whole number is not even read; whether a shorter one is one that a cluster takes is judged with its field."""


class YamlProblem(ValueError):
    """Text that cannot be read as documents.

    Attributes:
        line: one-based line of the mistake; 0 when unknown.
        message: what was found and what to do.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a YAML stream."""

    value: Any
    line: int
    """One-based line where it begins."""
    node: yaml.Node

    def line_of(self, path: str) -> int:
        """Line of a field path such as `spec.channels[0].role`, or of the nearest parent that exists."""
        node, line = self.node, self.line
        for part in re.findall(r"[^.\[\]]+|\[\d+\]", path):
            found: yaml.Node | None = None
            if part.startswith("[") and isinstance(node, yaml.SequenceNode):
                index = int(part[1:-1])
                found = node.value[index] if index < len(node.value) else None
                mark = found.start_mark if found is not None else None
            elif isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == part), None)
                found, mark = (pair[1], pair[0].start_mark) if pair is not None else (None, None)
            else:
                mark = None
            if found is None or mark is None:
                return line
            node, line = found, mark.line + 1
        return line


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Safe loader whose scalars are those of JSON."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _without_base_60(tag: str, pattern: str, first: str) -> None:
    full = f"tag:yaml.org,2002:{tag}"
    for character, resolvers in _Loader.yaml_implicit_resolvers.items():
        _Loader.yaml_implicit_resolvers[character] = [item for item in resolvers if item[0] != full]
    _Loader.add_implicit_resolver(full, re.compile(pattern), list(first))


_without_base_60("int", r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$", "-+0123456789")
_without_base_60(
    "float",
    r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+0123456789.",
)

_INT = "tag:yaml.org,2002:int"
_KINDS = {
    "tag:yaml.org,2002:null",
    "tag:yaml.org,2002:bool",
    _INT,
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:seq",
    "tag:yaml.org,2002:map",
    "tag:yaml.org,2002:merge",
}


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check(root: yaml.Node) -> None:
    """Refuse what expands without bound, nests without bound, or is not JSON. Works without recursion."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, seen = stack.pop()
        key = id(node)
        line = node.start_mark.line + 1
        if seen:
            open_nodes.discard(key)
            sizes[key] = 1 + sum(sizes[id(child)] for child in _children(node))
            if sizes[key] > MAX_NODES:
                raise YamlProblem(line, f"expands to more than {MAX_NODES} values through its anchors; write out what is meant")
            continue
        if key in open_nodes:
            raise YamlProblem(line, "an anchor contains itself; write out what is meant")
        if key in sizes:
            continue
        if node.tag not in _KINDS:
            raise YamlProblem(line, f"found the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}; only plain values are allowed")
        if node.tag == _INT and len(node.value) > MAX_DIGITS:
            raise YamlProblem(
                line, f"found a whole number of {len(node.value)} digits; must have at most {MAX_DIGITS}, or put it in quotes"
            )
        open_nodes.add(key)
        if len(open_nodes) > MAX_DEPTH:
            raise YamlProblem(line, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        stack.append((node, True))
        stack.extend((child, False) for child in _children(node))


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise YamlProblem(line, "a key must be text, not a list or mapping")
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            raise YamlProblem(line, f"key {key.value[:80]!r} is given twice (first in line {seen[key.value]}); keep one")
        seen[key.value] = line


def _with_text_keys(node: yaml.Node) -> None:
    """Keys are text in JSON: `on:` must not become True, nor `8080:` a number."""
    stack, done = [node], set()
    while stack:
        current = stack.pop()
        if id(current) in done:
            continue
        done.add(id(current))
        if isinstance(current, yaml.MappingNode):
            for key, _ in current.value:
                if key.tag != "tag:yaml.org,2002:merge":
                    key.tag = "tag:yaml.org,2002:str"
        stack.extend(_children(current))


def _check_depth(text: str) -> None:
    """Refuse deep nesting from the event stream: building nodes takes each level off the C stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                raise YamlProblem(line, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _explain(error: yaml.YAMLError, text: str) -> YamlProblem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 0
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    source = text.split("\n")
    if mark is not None and mark.line < len(source) and "\t" in source[mark.line][: mark.column + 1]:
        return YamlProblem(line, "not valid YAML: found a tab; indent with spaces")
    context = getattr(error, "context", None)
    return YamlProblem(line, f"not valid YAML: {problem}" + (f" ({context})" if context else ""))


def read_documents(text: bytes) -> Iterator[Document]:
    """The documents of a YAML (or JSON) stream; empty documents are left out.

    Args:
        text: UTF-8 text, at most 16 MiB.
    Raises:
        YamlProblem: with the line of the first mistake.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise YamlProblem(0, f"found {len(text)} bytes; must have at most {MAX_TEXT_BYTES}")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlProblem(text.count(b"\n", 0, error.start) + 1, "not UTF-8 text; save the file as UTF-8") from error
    loader: Any = None
    try:
        _check_depth(decoded)
        loader = _Loader(decoded)
        while loader.check_node():
            node = loader.get_node()
            _check(node)
            _with_text_keys(node)
            value = loader.construct_document(node)
            if value is not None:
                yield Document(value, node.start_mark.line + 1, node)
    except yaml.YAMLError as error:
        raise _explain(error, decoded) from error
    except ValueError as error:
        if isinstance(error, YamlProblem):
            raise
        raise YamlProblem(0, f"not valid YAML: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()
