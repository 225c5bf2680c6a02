"""YAML's traps: each is refused in one clear line that names the line number, or read as kubectl reads it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.local.documents import MAX_DEPTH, YamlProblem, read_documents


def values(text: str | bytes) -> list[Any]:
    return [document.value for document in read_documents(text if isinstance(text, bytes) else text.encode())]


def bomb() -> str:
    lines = ["a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a:\n\tb: 1", 2, "found a tab; indent with spaces"),
        ("a:\n  - b\n\t- c", 3, "found a tab; indent with spaces"),
        ("a: 1\nb: 2\na: 3", 3, "key 'a' is given twice (first in line 1)"),
        ("x: &x [*x]", 1, "an anchor contains itself"),
        (bomb(), 6, "through its anchors"),
        ("[" * 5000, 1, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 5000, 1, f"nested deeper than {MAX_DEPTH} levels"),
        ("\n".join(" " * depth + "a:" for depth in range(1000)), MAX_DEPTH + 1, f"nested deeper than {MAX_DEPTH} levels"),
        ("a: !!python/object:os.system x", 1, "only plain values are allowed"),
        ("ok: 1\na: !!binary aGk=", 2, "found the tag !!binary"),
        (b"ok: 1\na: \xff\xfe", 2, "not UTF-8 text"),
        (b"a: \x00", 0, "not valid YAML"),
        ("a: {b: [1, 2}", 1, "not valid YAML"),
        ("ok: 1\na: b: c", 2, "not valid YAML"),
        ("ok: 1\na: 1" + "0" * 5000, 2, "found a whole number of 5001 digits; must have at most 1000, or put it in quotes"),
        ("? [1]\n: 2", 1, "a key must be text"),
    ],
)
def test_traps_are_refused_with_their_line(text: str | bytes, line: int, message: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        values(text)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1:30", {"a": "1:30"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("on: 1", {"on": 1}),
        ("8080: x", {"8080": "x"}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 0x10", {"a": 16}),
        ("a: =", {"a": "="}),
        ("base: &b {x: 1}\nc: {<<: *b, y: 2}", {"base": {"x": 1}, "c": {"x": 1, "y": 2}}),
        ('{"a": [1, true, null]}', {"a": [1, True, None]}),
        ("\ufeffa: 1", {"a": 1}),
        ("code: |\n  x = [[[[ {{{\n\ty = 1\n", None),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(YamlProblem, match="tab"):
            values(text)
    else:
        assert values(text) == [value]


def test_brackets_inside_text_are_no_nesting() -> None:
    code = "x = " + "[" * 500
    assert values(f"code: |\n  {code}\n") == [{"code": code + "\n"}]


def test_empty_documents_are_left_out() -> None:
    assert values("---\n---\na: 1\n---\n# nothing\n") == [{"a": 1}]
    assert values("") == []


def test_field_paths_lead_to_lines() -> None:
    document = next(read_documents(b"# comment\na:\n  b:\n  - c: 1\n  - d: 2\n    e: 3\n"))
    assert [document.line_of(path) for path in ("a", "a.b[0].c", "a.b[1]", "a.b[1].e", "a.b[1].missing", "a.b[7]", "zzz")] == [
        2,
        4,
        5,
        6,
        5,
        3,
        2,
    ]


@given(st.binary(max_size=200))
def test_garbage_gives_documents_or_a_problem(text: bytes) -> None:
    with contextlib.suppress(YamlProblem):
        list(read_documents(text))
